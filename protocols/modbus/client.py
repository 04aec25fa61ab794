"""One Modbus TCP connection, on pymodbus, behind an interface small enough to put another transport there.

What must stay true:

* One call puts one frame on the wire, or none: pymodbus gets ``retries=0`` and no reconnect of its own.
* An answer counts only if protocol id, length, transaction, unit, function code and byte count fit the request, and an
  echo repeats address and value. pymodbus 3.16 takes a wrong function code and a wrong echo for success, so the bytes
  are looked at here before pymodbus sees them.
* A frame with another transaction or unit is not ours (a duplicate, say): it is counted and passed over.
* Everything that pymodbus raises leaves as a ``FieldError``; ``sent`` in it is a fact, taken where the bytes go out.
* When the peer closes, the pending request fails at once, not after its time-out.

After a NoReply the connection must not be used again; the link sees to that.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import ClassVar, Protocol

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import (
    ConnectionException,
    MessageRegisterException,
    ModbusException,
    ModbusIOException,
    NoSuchIdException,
    NotImplementedException,
    ParameterException,
)
from pymodbus.pdu import ExceptionResponse, ModbusPDU

from protocols.errors import (
    ConnectionLost,
    DeviceRefused,
    FieldError,
    InvalidRequest,
    LinkDown,
    MalformedReply,
    NoReply,
    ReplyTimeout,
)
from protocols.link import Counters
from protocols.wire import reset_on_close

# All that pymodbus has to say arrives here as an exception or a lost connection, and is told as the state of the link.
logging.getLogger("pymodbus.logging").setLevel(logging.CRITICAL)

READ_CODES = {"coil": 1, "di": 2, "hr": 3, "ir": 4}
WRITE_COIL = 5
WRITE_REGISTER = 6
COIL_ON = 0xFF00

ERROR_OF: dict[type[ModbusException], type[FieldError]] = {
    ConnectionException: ConnectionLost,
    MessageRegisterException: InvalidRequest,
    ModbusException: NoReply,
    ModbusIOException: MalformedReply,
    NoSuchIdException: InvalidRequest,
    NotImplementedException: InvalidRequest,
    ParameterException: InvalidRequest,
}
"""What each pymodbus exception means once a frame left; before that it is LinkDown or InvalidRequest."""


def translate(error: Exception, left: bool) -> FieldError:
    """Our error for one of pymodbus's. left: a frame left, or may have left."""
    ours = ERROR_OF.get(type(error), NoReply) if isinstance(error, ModbusException) else InvalidRequest
    if left and not ours.sent:
        ours = NoReply
    elif not left and ours.sent:
        ours = LinkDown
    return ours(str(error) or type(error).__name__)


class Transport(Protocol):
    """What the driver needs of a Modbus connection. Each call raises FieldError; times are seconds."""

    async def read(self, table: str, start: int, count: int) -> bytes:
        """The data bytes of the reply, without the byte count: bits from the low end, or big-endian registers."""

    async def write_coil(self, address: int) -> None:
        """Set one coil (FC05)."""

    async def write_register(self, address: int, value: int) -> None:
        """Write one holding register (FC06)."""

    def close(self) -> None:
        """End the connection at once; what is not sent yet is thrown away."""


def _two_words(first: int, second: int) -> bytes:
    try:
        return struct.pack(">HH", first, second)
    except struct.error as error:
        raise InvalidRequest(f"{first}, {second}: {error}") from error


class _Request(ModbusPDU):
    """A request whose bytes are ready."""

    def __init__(self, unit: int, function_code: int, body: bytes) -> None:
        super().__init__(dev_id=unit)
        self.function_code = function_code
        self.body = body

    def encode(self) -> bytes:
        return self.body


class _RawReply(ModbusPDU):
    """A reply kept as bytes: unpacking happens in one go, and only if the bytes differ from the last ones."""

    body: bytes = b""

    def decode(self, data: bytes) -> None:
        self.body = data

    def __str__(self) -> str:  # pymodbus formats every reply for its debug log, read or not
        return "reply"


class _ReadCoils(_RawReply):
    function_code = 1


class _ReadDiscrete(_RawReply):
    function_code = 2


class _ReadHolding(_RawReply):
    function_code = 3


class _ReadInput(_RawReply):
    function_code = 4


class _WroteCoil(_RawReply):
    function_code = 5


class _WroteRegister(_RawReply):
    function_code = 6


class PymodbusTransport:
    """A Transport on pymodbus's asyncio client. Made by ``connect``; one request at a time, for pymodbus has one lock."""

    REPLIES: ClassVar = (_ReadCoils, _ReadDiscrete, _ReadHolding, _ReadInput, _WroteCoil, _WroteRegister)

    def __init__(
        self, host: str, port: int, unit: int, timeout_s: float, on_lost: Callable[[str], None], counters: Counters
    ) -> None:
        self._counters = counters
        self._unit = unit
        self._timeout_s = timeout_s
        self._on_lost = on_lost
        self._expected = 0
        self._left = False
        self._pending = False
        self._closed = False
        self._client = AsyncModbusTcpClient(
            host,
            port=port,
            name=f"{host}:{port}",
            reconnect_delay=0,
            retries=0,
            timeout=timeout_s,
            trace_packet=self._trace_packet,
            trace_connect=self._trace_connect,
        )
        for reply in self.REPLIES:
            self._client.register(reply)

    @classmethod
    async def connect(
        cls, host: str, port: int, unit: int, timeout_s: float, on_lost: Callable[[str], None], counters: Counters
    ) -> PymodbusTransport:
        """Connect, or raise LinkDown. on_lost hears why an established connection ended by itself."""
        transport = cls(host, port, unit, timeout_s, on_lost, counters)
        if not await transport._client.connect():
            transport.close()
            raise LinkDown(f"no connection to {host}:{port}")
        reset_on_close(transport._client.ctx.transport)
        # Replies have a deadline of our own; pymodbus's is only there in case ours were broken.
        transport._client.ctx.comm_params.timeout_connect = 10 * timeout_s + 10
        return transport

    def close(self) -> None:
        """End the connection; a frame still in a buffer, be it the kernel's, does not leave later."""
        self._closed = True
        if (wire := self._client.ctx.transport) is not None and isinstance(wire, asyncio.Transport):
            wire.abort()
        self._client.close()

    async def read(self, table: str, start: int, count: int) -> bytes:
        """See Transport."""
        size = (count + 7) // 8 if table in ("coil", "di") else 2 * count
        body = await self._ask(READ_CODES[table], _two_words(start, count))
        if len(body) != size + 1 or body[0] != size:
            raise MalformedReply(f"{len(body) - 1} data bytes, byte count {body[:1].hex()}: {size} were asked for")
        return body[1:]

    async def write_coil(self, address: int) -> None:
        """See Transport."""
        await self._write(WRITE_COIL, _two_words(address, COIL_ON))

    async def write_register(self, address: int, value: int) -> None:
        """See Transport."""
        await self._write(WRITE_REGISTER, _two_words(address, value))

    async def _write(self, function_code: int, body: bytes) -> None:
        try:
            echo = await self._ask(function_code, body)
        finally:
            self._counters.commands_sent += self._left
        if echo != body:
            raise MalformedReply(f"the echo {echo.hex()} is not what was written, {body.hex()}")

    async def _ask(self, function_code: int, body: bytes) -> bytes:
        """Send one request; the reply after its function code."""
        ctx = self._client.ctx
        self._left = False
        if self._closed or not self._client.connected:
            raise LinkDown("the connection is gone")
        self._pending = True
        self._expected = function_code
        timer = ctx.loop.call_later(self._timeout_s, self._time_out)
        try:
            reply = await ctx.execute(False, _Request(self._unit, function_code, body))
        except (ModbusException, ValueError, struct.error) as error:
            raise translate(error, self._left) from error
        finally:
            self._pending = False
            timer.cancel()
        if isinstance(reply, ExceptionResponse):
            raise DeviceRefused(reply.exception_code)
        if not isinstance(reply, _RawReply) or reply.function_code != function_code:
            raise MalformedReply(f"function code {reply.function_code} answers {function_code}")
        return reply.body

    def _time_out(self) -> None:
        self._fail(ReplyTimeout(f"no valid reply in {self._timeout_s:g} s"))

    def _fail(self, error: FieldError) -> None:
        future = self._client.ctx.response_future
        if self._pending and not future.done():
            future.set_exception(error)

    def _trace_connect(self, connected: bool) -> None:
        if not connected and not self._closed:
            self._closed = True
            self._fail(ConnectionLost("the device closed the connection"))
            self._on_lost("the device closed the connection")

    def _trace_packet(self, sending: bool, data: bytes) -> bytes:
        """Called by pymodbus with each frame that leaves, and with all bytes received and not yet used."""
        if sending:
            self._left = True
            return data
        fault = self._fault_in(data)
        if fault is None:
            return data
        self._fail(MalformedReply(fault))
        self._closed = True
        self._on_lost(fault)
        return b""

    def _fault_in(self, data: bytes) -> str | None:
        """Why these bytes can't be an answer, or None if they can, or may become one."""
        while len(data) >= 8:
            transaction, protocol, length, unit, code = struct.unpack_from(">HHHBB", data)
            if protocol != 0:
                return f"protocol id {protocol}, not Modbus"
            if not 3 <= length <= 254:
                return f"a frame of length {length}"
            if len(data) < 6 + length:
                return None
            if transaction != self._client.ctx.next_tid or unit != self._unit:
                self._counters.foreign_replies += 1
            elif code & 0x7F != self._expected:
                return f"function code {code:02X} answers {self._expected:02X}"
            elif code & 0x80 and length != 3:
                return f"an exception of length {length}"
            data = data[6 + length :]
        return None
