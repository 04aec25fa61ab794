"""The transport: one frame or none for a call, and no answer taken that is not the answer."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import struct
import time

import pymodbus.exceptions
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.exceptions import ConnectionException, ModbusException, ModbusIOException, ParameterException
from pymodbus.server import ModbusTcpServer

from protocols.errors import (
    EXCEPTION_NAMES,
    ConnectionLost,
    DeviceRefused,
    FieldError,
    InvalidRequest,
    LinkDown,
    MalformedReply,
    NoReply,
    NotSent,
    ReplyTimeout,
)
from protocols.link import Counters
from protocols.modbus.client import ERROR_OF, PymodbusTransport, translate

TIMEOUT_S = 0.15


@pytest.fixture
async def wire(kit):
    """An RTU, and a function that connects to it."""
    rtu = kit.Rtu()
    await rtu.start()
    rtu.lost = []
    rtu.counters = Counters()
    made = []

    async def connect(timeout_s=TIMEOUT_S, unit=1):
        transport = await PymodbusTransport.connect(rtu.host, rtu.port, unit, timeout_s, rtu.lost.append, rtu.counters)
        made.append(transport)
        return transport

    rtu.connect = connect
    yield rtu
    for transport in made:
        transport.close()
    await rtu.stop()


def test_every_exception_of_pymodbus_is_mapped():
    theirs = {
        each
        for _, each in inspect.getmembers(pymodbus.exceptions, inspect.isclass)
        if issubclass(each, ModbusException)
    }
    assert set(ERROR_OF) == theirs
    for each in theirs:
        for left in (False, True):
            assert translate(each("text"), left).sent is left


@pytest.mark.parametrize(
    ("error", "left", "ours"),
    [
        (ConnectionException("x"), False, LinkDown),
        (ConnectionException("x"), True, ConnectionLost),
        (ModbusIOException("x"), True, MalformedReply),
        (ParameterException("x"), False, InvalidRequest),
        (ParameterException("x"), True, NoReply),
        (struct.error("x"), False, InvalidRequest),
        (ValueError("x"), True, NoReply),
    ],
)
def test_whether_a_frame_left_decides_what_an_exception_means(error, left, ours):
    assert type(translate(error, left)) is ours


def test_the_error_tree_says_what_was_sent_and_what_breaks_the_link():
    def family(base):
        for each in base.__subclasses__():
            if each.__module__ == base.__module__:  # a protocol's own errors are looked at where they are
                yield each
                yield from family(each)

    assert all(not each.sent and not each.breaks_link for each in family(NotSent))
    assert all(each.sent and each.breaks_link for each in family(NoReply))
    assert DeviceRefused(2).sent
    assert not DeviceRefused(2).breaks_link


async def test_the_four_tables_are_read(wire):
    wire.bits[1][3] = wire.bits[2][4] = 1
    wire.registers[3][5], wire.registers[4][6] = 0x1234, 0xFFFF
    transport = await wire.connect()
    assert await transport.read("coil", 0, 8) == b"\x08"
    assert await transport.read("di", 4, 1) == b"\x01"
    assert await transport.read("hr", 4, 2) == b"\x00\x00\x12\x34"
    assert await transport.read("ir", 6, 1) == b"\xff\xff"
    assert [(r.code, r.address, r.value, r.unit) for r in wire.requests] == [
        (1, 0, 8, 1),
        (2, 4, 1, 1),
        (3, 4, 2, 1),
        (4, 6, 1, 1),
    ]


async def test_the_largest_blocks_are_read(wire):
    transport = await wire.connect()
    assert len(await transport.read("hr", 0, 125)) == 250
    assert len(await transport.read("di", 0, 2000)) == 250


async def test_writes_are_one_frame_each(wire):
    transport = await wire.connect()
    await transport.write_coil(2)
    await transport.write_register(7, 0x0102)
    assert [(w.code, w.body) for w in wire.requests] == [(5, b"\x00\x02\xff\x00"), (6, b"\x00\x07\x01\x02")]
    assert wire.counters.commands_sent == 2


async def test_nobody_there_is_link_down(wire):
    await wire.stop()
    with pytest.raises(LinkDown):
        await wire.connect()


async def test_a_write_without_an_answer_leaves_once_and_is_never_repeated(wire):
    wire.script = lambda request: b""
    transport = await wire.connect()
    started = time.monotonic()
    with pytest.raises(ReplyTimeout):
        await transport.write_coil(0)
    assert TIMEOUT_S <= time.monotonic() - started < TIMEOUT_S + 0.5
    await asyncio.sleep(3 * TIMEOUT_S)
    assert len(wire.requests) == 1
    assert wire.connections == 1


async def test_exceptions_are_told_by_name(wire):
    transport = await wire.connect()
    for code in (*EXCEPTION_NAMES, 0x63):
        wire.script = lambda request, code=code: code
        with pytest.raises(DeviceRefused, match=EXCEPTION_NAMES.get(code, "not in the standard")) as caught:
            await transport.read("hr", 0, 1)
        assert caught.value.code == code


async def test_a_pending_request_fails_at_once_when_the_peer_closes(wire):
    wire.script = lambda request: "close"
    transport = await wire.connect(timeout_s=30.0)
    started = time.monotonic()
    with pytest.raises(ConnectionLost):
        await transport.write_coil(0)
    assert time.monotonic() - started < 2.0
    assert len(wire.lost) == 1
    with pytest.raises(LinkDown):
        await transport.read("hr", 0, 1)


async def test_an_idle_connection_that_is_reset_is_told(wire, kit):
    await (await wire.connect()).read("hr", 0, 1)
    wire.drop()
    await kit.eventually(lambda: wire.lost)


BAD_READS = {
    "another function code": lambda r, f: f(r, b"\x04\x04\x00\x01\x00\x02"),
    "a write's function code": lambda r, f: f(r, b"\x06\x00\x01\x00\x02"),
    "no known function code": lambda r, f: f(r, b"\x63\x04\x00\x01\x00\x02"),
    "function code 80": lambda r, f: f(r, b"\x80\x01"),
    "an exception to another function": lambda r, f: f(r, b"\x84\x02"),
    "an exception with a tail": lambda r, f: f(r, b"\x83\x02\x00"),
    "too few registers": lambda r, f: f(r, b"\x03\x02\x00\x01"),
    "too many registers": lambda r, f: f(r, b"\x03\x06\x00\x01\x00\x02\x00\x03"),
    "a byte count above the bytes": lambda r, f: f(r, b"\x03\x06\x00\x01\x00\x02"),
    "a byte count below the bytes": lambda r, f: f(r, b"\x03\x02\x00\x01\x00\x02"),
    "an odd byte count": lambda r, f: f(r, b"\x03\x03\x00\x01\x00"),
    "no byte count": lambda r, f: f(r, b"\x03"),
    "another protocol": lambda r, f: f(r, b"\x03\x04\x00\x01\x00\x02", pid=7),
    "an endless frame": lambda r, f: struct.pack(">HHHB", r.tid, 0, 60000, 1) + b"\x03\x04\x00\x01",
    "junk": lambda r, f: b"\xde\xad\xbe\xef" * 8,
}


@pytest.mark.parametrize("name", BAD_READS)
async def test_a_read_takes_no_other_answer(wire, kit, name):
    wire.script = lambda request: BAD_READS[name](request, kit.frame)
    transport = await wire.connect(timeout_s=30.0)
    with pytest.raises(MalformedReply):
        await asyncio.wait_for(transport.read("hr", 0, 2), 5.0)


BAD_ECHOES = {
    "another address": lambda r, f: f(r, b"\x05\x00\x05\xff\x00"),
    "another value": lambda r, f: f(r, b"\x05\x00\x04\x00\x00"),
    "no standard value": lambda r, f: f(r, b"\x05\x00\x04\x00\x01"),
    "another function code": lambda r, f: f(r, b"\x06\x00\x04\xff\x00"),
    "too short": lambda r, f: f(r, b"\x05\x00\x04"),
    "too long": lambda r, f: f(r, b"\x05\x00\x04\xff\x00\x00"),
}


@pytest.mark.parametrize("name", BAD_ECHOES)
async def test_a_write_takes_no_other_echo(wire, kit, name):
    wire.script = lambda request: BAD_ECHOES[name](request, kit.frame)
    transport = await wire.connect(timeout_s=30.0)
    with pytest.raises(MalformedReply) as caught:
        await asyncio.wait_for(transport.write_coil(4), 5.0)
    assert caught.value.sent


async def test_another_echo_of_a_register_is_not_taken_either(wire, kit):
    wire.script = lambda request: kit.frame(request, b"\x06\x00\x04\x00\x02")
    transport = await wire.connect(timeout_s=30.0)
    with pytest.raises(MalformedReply):
        await transport.write_register(4, 1)


@pytest.mark.parametrize("wrong", [{"tid": 999}, {"unit": 9}])
async def test_a_frame_that_is_not_ours_is_passed_over_and_counted(wire, kit, wrong):
    right = b"\x03\x02\x00\x07"
    wire.script = lambda request: kit.frame(request, b"\x03\x02\x66\x66", **wrong) + kit.frame(request, right)
    transport = await wire.connect()
    assert await transport.read("hr", 0, 1) == b"\x00\x07"
    assert wire.counters.foreign_replies == 1
    wire.script = lambda request: kit.frame(request, right, **wrong)
    with pytest.raises(ReplyTimeout):
        await transport.read("hr", 0, 1)


async def test_a_duplicate_answer_is_not_taken_for_the_next(wire, kit):
    wire.registers[3][0], wire.registers[3][1] = 11, 22
    wire.script = lambda request: wire.reply(request) * 2
    transport = await wire.connect()
    for _ in range(3):
        assert await transport.read("hr", 0, 1) == b"\x00\x0b"
        assert await transport.read("hr", 1, 1) == b"\x00\x16"


async def test_an_answer_in_single_bytes_is_put_together(wire):
    async def dribble(request):
        for byte in wire.reply(request):
            request.writer.write(bytes([byte]))
            await request.writer.drain()
            await asyncio.sleep(0)
        return b""

    wire.registers[3][0] = 0xABCD
    wire.script = dribble
    transport = await wire.connect(timeout_s=2.0)
    for _ in range(3):
        assert await transport.read("hr", 0, 1) == b"\xab\xcd"


@pytest.mark.parametrize("start", [-1, 70000])
async def test_what_no_frame_can_hold_is_not_sent(wire, start):
    transport = await wire.connect()
    with pytest.raises(InvalidRequest):
        await transport.read("hr", start, 1)
    with pytest.raises(InvalidRequest):
        await transport.write_coil(start)
    assert wire.requests == []
    assert wire.counters.commands_sent == 0


async def connected(rtu) -> PymodbusTransport:
    """Its time-outs are short, as many answers here are none; on a slow machine that may not do for a connection."""
    for _ in range(100):
        with contextlib.suppress(LinkDown):
            return await PymodbusTransport.connect(rtu.host, rtu.port, 1, 0.02, lambda reason: None, Counters())
    raise AssertionError("it can't be connected to")


@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(min_size=1, max_size=256).map(lambda pdu: (pdu,)),
        st.tuples(st.sampled_from([3, 0x83, 5, 0x85]), st.binary(max_size=12)).map(lambda p: (bytes([p[0]]) + p[1],)),
    ),
    st.booleans(),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_bytes_a_call_ends_in_a_value_or_a_field_error(kit, answer, write):
    async def story():
        rtu = kit.Rtu()
        await rtu.start()
        rtu.script = lambda request: kit.frame(request, answer[0][:253]) if isinstance(answer, tuple) else answer
        defects = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: defects.append(context))
        transport = await connected(rtu)
        try:
            with contextlib.suppress(FieldError):
                if write:
                    await transport.write_coil(1)
                    assert answer == (b"\x05\x00\x01\xff\x00",)
                else:
                    data = await transport.read("hr", 0, 2)
                    assert answer == (b"\x03\x04" + data,)
        finally:
            transport.close()
            await rtu.stop()
        assert defects == []

    asyncio.run(story())


async def test_a_peer_that_is_not_ours_understands_us():
    """pymodbus's own server: block address n is offset n + 1 of its data block."""
    context = ModbusServerContext(
        ModbusDeviceContext(
            di=ModbusSequentialDataBlock(1, [0, 0, 1, 0] * 50),
            co=ModbusSequentialDataBlock(1, [0] * 200),
            hr=ModbusSequentialDataBlock(1, list(range(200))),
            ir=ModbusSequentialDataBlock(1, [0xFFFE] * 200),
        ),
        single=True,
    )
    server = ModbusTcpServer(context, address=("127.0.0.1", 0))
    await server.listen()
    port = server.transport.sockets[0].getsockname()[1]
    transport = await PymodbusTransport.connect("127.0.0.1", port, 1, 2.0, lambda reason: None, Counters())
    try:
        assert await transport.read("hr", 10, 2) == b"\x00\x0a\x00\x0b"
        assert await transport.read("ir", 0, 125) == b"\xff\xfe" * 125
        assert await transport.read("di", 0, 8) == b"\x44"
        await transport.write_coil(9)
        assert await transport.read("coil", 8, 4) == b"\x02"
        await transport.write_register(3, 1)
        assert await transport.read("hr", 3, 1) == b"\x00\x01"
        with pytest.raises(DeviceRefused) as caught:
            await transport.read("hr", 500, 10)
        assert caught.value.code == 2
    finally:
        transport.close()
        await server.shutdown()
