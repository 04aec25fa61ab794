"""Numbers into registers."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from simulators.modbus import Device, Space, parse_point
from simulators.telemetry import Telemetry


class NoHook:
    def write(self, device: Device, space: Space, address: int, values: list[int]) -> int:
        return 0


@pytest.mark.parametrize(
    ("point", "value", "words"),
    [
        ("ir:1:u16*0.1", 12.34, [0, 123, 0]),
        ("ir:1:u16*0.1", 9e9, [0, 65535, 0]),
        ("ir:1", -3.0, [0, 0, 0]),
        ("ir:1:s16*0.1", -12.3, [0, 0xFF85, 0]),
        ("ir:1:s16*0.1-40", 20.0, [0, 600, 0]),
        ("ir:1:u32*0.1", 123456.7, [0, 1234567 >> 16, 1234567 & 0xFFFF]),
        ("ir:1:s32", -2.0, [0, 0xFFFF, 0xFFFE]),
        ("ir:1:f32", 1.5, [0, *struct.unpack(">HH", struct.pack(">f", 1.5))]),
    ],
)
def test_types_scales_and_saturation(point: str, value: float, words: list[int]) -> None:
    device = Device("RTU", 1, NoHook())
    device.memory.grow(Space.INPUT, 3)
    Telemetry([(device, parse_point(point))]).write(np.array([value]))
    assert [device.memory.word(Space.INPUT, i) for i in range(3)] == words


def test_rows_without_a_point_are_left_out() -> None:
    device = Device("RTU", 1, NoHook())
    device.memory.grow(Space.INPUT, 2)
    Telemetry([(device, parse_point("ir:0")), (device, None), (device, parse_point("ir:1"))]).write(
        np.array([1.0, 2, 3])
    )
    assert [device.memory.word(Space.INPUT, i) for i in range(2)] == [1, 3]


def test_a_number_in_a_bit_table_is_refused() -> None:
    with pytest.raises(ValueError, match="can't be shown"):
        Telemetry([(Device("RTU", 1, NoHook()), parse_point("di:1"))])
