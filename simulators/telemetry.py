"""Shows measured values on devices, many at once: one array operation a Modbus device and type; nodes where they changed.

A value that does not fit its register is shown as the nearest one that does, as a saturated transducer would. On OPC UA
a value is a Double, to NODE_RESOLUTION.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulators.modbus import Device, Point
from simulators.opcua.front import raw
from simulators.opcua.points import NumberPoint
from simulators.opcua.rtu import Rtu

Floats = npt.NDArray[np.float64]

NODE_RESOLUTION = 0.1
_RANGES = {"u16": (0, 0xFFFF), "s16": (-0x8000, 0x7FFF), "u32": (0, 0xFFFFFFFF), "s32": (-0x80000000, 0x7FFFFFFF)}


@dataclass(frozen=True, slots=True)
class _Block:
    """The values of one type in one table of one device: words is that table itself."""

    words: npt.NDArray[np.uint16]
    kind: str
    rows: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    scale: Floats
    offset: Floats

    def write(self, values: Floats) -> None:
        raw = (values[self.rows] - self.offset) / self.scale
        if self.kind == "f32":
            bits = raw.astype(np.float32).view(np.uint32).astype(np.int64)
        else:
            low, high = _RANGES[self.kind]
            bits = np.rint(np.clip(raw, low, high)).astype(np.int64)
        if self.kind in ("u16", "s16"):
            self.words[self.numbers] = bits & 0xFFFF
        else:
            self.words[self.numbers] = bits >> 16 & 0xFFFF
            self.words[self.numbers + 1] = bits & 0xFFFF


class Telemetry:
    """Where a vector of values goes: one point for each row, None for a value that no device shows."""

    def __init__(self, points: Iterable[tuple[Device | Rtu, Point | NumberPoint | None]]) -> None:
        groups: dict[tuple[str, str, str], list[tuple[int, Device, Point]]] = {}
        self._nodes: list[tuple[int, Rtu, NumberPoint]] = []
        for row, (device, point) in enumerate(points):
            if isinstance(device, Rtu):
                if isinstance(point, NumberPoint):
                    self._nodes.append((row, device, point))
            elif isinstance(point, Point):
                if point.space not in ("ir", "hr"):
                    raise ValueError(f"{device.name}: a number can't be shown in table {point.space}")
                groups.setdefault((device.name, point.space, point.kind), []).append((row, device, point))
        self._blocks = [
            _Block(
                words=np.frombuffer(members[0][1].memory.words(members[0][2].space), dtype=">u2"),
                kind=kind,
                rows=np.array([row for row, _, _ in members], dtype=np.int64),
                numbers=np.array([point.number for _, _, point in members], dtype=np.int64),
                scale=np.array([point.scale for _, _, point in members], dtype=np.float64),
                offset=np.array([point.offset for _, _, point in members], dtype=np.float64),
            )
            for (_, _, kind), members in groups.items()
        ]

    def write(self, values: Floats) -> None:
        """Show these values (one for each row)."""
        for block in self._blocks:
            block.write(values)
        for row, rtu, point in self._nodes:
            shown = round(float(values[row]) / NODE_RESOLUTION) * NODE_RESOLUTION
            rtu.show(point.node, round(raw(point, shown), 9))
