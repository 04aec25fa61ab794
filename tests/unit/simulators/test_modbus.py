"""The Modbus server's frames, functions and exceptions, byte by byte and without a network."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from simulators.modbus import DROP_REPLY, GARBLE_REPLY, MAX_CONNECTIONS, Connection, Device, Garble, Memory, Space


class Hook:
    """Remembers writes; answers with a given code."""

    def __init__(self) -> None:
        self.writes: list[tuple[Space, int, list[int]]] = []
        self.code = 0

    def write(self, device: Device, space: Space, address: int, values: list[int]) -> int:
        self.writes.append((space, address, values))
        return self.code


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = self.aborted = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@pytest.fixture
def hook() -> Hook:
    return Hook()


@pytest.fixture
def device(hook: Hook) -> Device:
    """Unit 7: 20 coils, 20 discrete inputs (0, 3 and 19 set), 10 input registers (0 … 9 × 100), 10 holding registers."""
    device = Device("RTU", 7, hook)
    for space, size in ((Space.COIL, 20), (Space.DISCRETE, 20), (Space.INPUT, 10), (Space.HOLDING, 10)):
        device.memory.grow(space, size)
    for bit in (0, 3, 19):
        device.memory.set_bit(Space.DISCRETE, bit, True)
    device.memory.set_bit(Space.COIL, 2, True)
    for number in range(10):
        device.memory.set_word(Space.INPUT, number, number * 100)
        device.memory.set_word(Space.HOLDING, number, number + 1)
    return device


def frame(pdu: str, transaction: int = 1, unit: int = 7) -> bytes:
    body = bytes.fromhex(pdu)
    return struct.pack(">HHHB", transaction, 0, len(body) + 1, unit) + body


def attach(device: Device) -> tuple[Connection, Wire]:
    connection, wire = Connection(device, set()), Wire()
    connection.connection_made(wire)
    return connection, wire


def test_one_request_gets_one_reply(device: Device) -> None:
    connection, wire = attach(device)
    connection.data_received(frame("02 0000 0014"))
    assert wire.sent == [frame("02 03 090008")]


def test_a_request_in_single_bytes_is_answered_when_it_is_whole(device: Device) -> None:
    connection, wire = attach(device)
    request = frame("04 0001 0002")
    for byte in request[:-1]:
        connection.data_received(bytes((byte,)))
        assert wire.sent == []
    connection.data_received(request[-1:])
    assert wire.sent == [frame("04 04 0064 00c8")]


def test_coalesced_requests_are_answered_in_order_with_their_own_transactions(device: Device) -> None:
    connection, wire = attach(device)
    third = frame("04 0002 0001", 12)
    connection.data_received(frame("04 0001 0001", 10) + frame("02 0000 0001", 11) + third[:5])
    connection.data_received(third[5:])
    assert b"".join(wire.sent) == frame("04 02 0064", 10) + frame("02 01 01", 11) + frame("04 02 00c8", 12)
    assert len(wire.sent) == 2


@pytest.mark.parametrize(
    "junk",
    [
        "0001 0001 0006 07 02 0000 0001",  # another protocol
        "0001 0000 0001 07",  # no room for a function code
        "0001 0000 00ff 07 02 0000 0001",  # longer than any frame
        "474554202f20485454502f312e31",  # HTTP
    ],
)
def test_junk_ends_its_connection_after_what_was_good_before_it(device: Device, junk: str) -> None:
    connection, wire = attach(device)
    connection.data_received(frame("02 0000 0001") + bytes.fromhex(junk))
    assert wire.sent == [frame("02 01 01")]
    assert wire.closed


def test_another_unit_gets_gateway_target_failed(device: Device) -> None:
    connection, wire = attach(device)
    connection.data_received(frame("02 0000 0001", unit=8))
    assert wire.sent == [frame("82 0b", unit=8)]


@pytest.mark.parametrize(
    ("request_pdu", "reply_pdu"),
    [
        ("01 0000 0008", "01 01 04"),
        ("02 0010 0004", "02 01 08"),
        ("03 0008 0002", "03 04 0009 000a"),
        ("04 0000 0001", "04 02 0000"),
        ("05 0003 ff00", "05 0003 ff00"),
        ("06 0004 1234", "06 0004 1234"),
        ("0f 0002 000a 02 0103", "0f 0002 000a"),
        ("10 0001 0002 04 00050006", "10 0001 0002"),
        # 01: functions that there are not
        ("07", "87 01"),
        ("2b 0e0100", "ab 01"),
        # 02: addresses that there are not
        ("01 0014 0001", "81 02"),
        ("02 0000 0015", "82 02"),
        ("03 000a 0001", "83 02"),
        ("04 0009 0002", "84 02"),
        ("04 ffff 0001", "84 02"),
        ("05 0014 ff00", "85 02"),
        ("06 000a 0000", "86 02"),
        ("0f 0013 0002 01 00", "8f 02"),
        ("10 0009 0002 04 00000000", "90 02"),
        # 03: counts, values and lengths that there are not
        ("01 0000 0000", "81 03"),
        ("02 0000 07d1", "82 03"),
        ("03 0000 007e", "83 03"),
        ("04 0000", "84 03"),
        ("05 0000 0001", "85 03"),
        ("05 0000", "85 03"),
        ("06 0000", "86 03"),
        ("0f 0000 0009 01 00", "8f 03"),
        ("0f 0000", "8f 03"),
        ("10 0000 0002 02 0000", "90 03"),
        ("10 0000 0002 04 0000", "90 03"),
        ("10 0000 007c f8", "90 03"),
    ],
)
def test_functions_and_exceptions(device: Device, request_pdu: str, reply_pdu: str) -> None:
    assert device.answer(frame(request_pdu)) == frame(reply_pdu)


def test_writes_reach_the_hook_as_numbers(device: Device, hook: Hook) -> None:
    for pdu in ("05 0003 ff00", "05 0003 0000", "06 0004 1234", "0f 0002 000a 02 0103", "10 0001 0002 04 00050006"):
        device.answer(frame(pdu))
    assert hook.writes == [
        (Space.COIL, 3, [1]),
        (Space.COIL, 3, [0]),
        (Space.HOLDING, 4, [0x1234]),
        (Space.COIL, 2, [1, 0, 0, 0, 0, 0, 0, 0, 1, 1]),
        (Space.HOLDING, 1, [5, 6]),
    ]


def test_a_request_that_is_refused_by_its_form_never_reaches_the_hook(device: Device, hook: Hook) -> None:
    for pdu in ("05 0014 ff00", "05 0000 0001", "06 000a 0000", "0f 0013 0002 01 00", "10 0000 0002 02 0000"):
        device.answer(frame(pdu))
    device.answer(frame("05 0003 ff00", unit=8))
    assert hook.writes == []


def test_the_hook_refuses_drops_or_spoils_the_reply(device: Device, hook: Hook) -> None:
    request = frame("05 0003 ff00")
    hook.code = 4
    assert device.answer(request) == frame("85 04")
    hook.code = DROP_REPLY
    assert device.answer(request) is None
    hook.code = GARBLE_REPLY
    spoiled = device.answer(request)
    assert spoiled is not None
    assert spoiled[:-1] == request[:-1]
    assert spoiled[-1] != request[-1]


@pytest.mark.parametrize(
    ("garble", "wrong"),
    [
        (Garble.WRONG_TRANSACTION, slice(0, 2)),
        (Garble.WRONG_UNIT, slice(6, 7)),
        (Garble.WRONG_FUNCTION, slice(7, 8)),
        (Garble.WRONG_ECHO, slice(11, 12)),
    ],
)
def test_a_spoiled_reply_is_wrong_in_one_place(device: Device, garble: Garble, wrong: slice) -> None:
    request = frame("05 0003 ff00")
    device.faults.garble = garble
    reply = device.answer(request)
    assert reply is not None
    places = {i for i in range(len(request)) if request[i] != reply[i]}
    assert places
    assert places <= set(range(len(request))[wrong])


def test_short_and_junk_replies(device: Device) -> None:
    device.faults.garble = Garble.SHORT
    assert device.answer(frame("05 0003 ff00")) == frame("05 0003 ff")
    device.faults.garble = Garble.JUNK
    assert device.answer(frame("05 0003 ff00")) not in (None, frame("05 0003 ff00"))


def test_a_silent_device_takes_requests_and_answers_none(device: Device, hook: Hook) -> None:
    connection, wire = attach(device)
    device.faults.silent = True
    connection.data_received(frame("02 0000 0001") + frame("05 0003 ff00"))
    assert wire.sent == []
    assert not wire.closed
    assert device.requests == 2
    assert hook.writes == []
    device.faults.silent = False
    connection.data_received(frame("02 0000 0001", 9))
    assert wire.sent == [frame("02 01 01", 9)]


async def test_a_delayed_reply_comes_late(device: Device, until: Any) -> None:
    connection, wire = attach(device)
    device.faults.delay_s = 0.01
    connection.data_received(frame("02 0000 0001"))
    assert wire.sent == []

    async def replied() -> bool:
        return bool(wire.sent)

    await until(replied)
    assert wire.sent == [frame("02 01 01")]


def test_a_peer_that_does_not_read_is_not_read(device: Device) -> None:
    connection, wire = attach(device)
    connection.pause_writing()
    assert not wire.reading
    connection.resume_writing()
    assert wire.reading


def test_one_connection_too_many_is_cut(device: Device) -> None:
    connections: set[Connection] = set()
    for _ in range(MAX_CONNECTIONS):
        Connection(device, connections).connection_made(Wire())
    extra, wire = Connection(device, connections), Wire()
    extra.connection_made(wire)
    extra.data_received(frame("02 0000 0001"))
    assert wire.aborted
    assert wire.sent == []
    next(iter(connections)).connection_lost(None)
    Connection(device, connections).connection_made(fresh := Wire())
    assert not fresh.aborted


def test_a_table_ends_at_65535() -> None:
    Memory().grow(Space.COIL, 65536)
    with pytest.raises(ValueError, match="above 65535"):
        Memory().grow(Space.HOLDING, 65537)
