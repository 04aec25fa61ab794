"""One connection: bytes to frames, frames to messages, one at a time and in order; what they ask is for ``serving``.

What must stay true:

* No more is buffered than one chunk, what one message may hold, and a bounded number of whole frames; beyond, nothing is
  read from the socket until they are done.
* Whatever goes wrong in here ends this connection at most. The peer gets a status code and never a reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from asyncua import ua

from protocols.opcua.certificates import CertificateRefused
from protocols.opcua.hardening import entry
from protocols.opcua.hardening.channel import Channel, Hangup, Identity, Untrusted, error_frame
from protocols.opcua.hardening.core import Core
from protocols.opcua.hardening.errors import UaStatusCodeError, bad
from protocols.opcua.hardening.lobby import Lobby
from protocols.opcua.hardening.serving import Serving
from protocols.opcua.hardening.session import Session
from protocols.opcua.pki import thumbprint
from protocols.opcua.surface import Caller, Doing

_KINDS = (b"HEL", b"OPN", b"MSG", b"CLO")
_FLAGS = (b"F", b"C", b"A")
_LINGER_S = 2.0
_HELLO = 8 + 4 * 6 + 4096


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, core: Core, lobby: Lobby, identity: Identity, new_id: Callable[[], int], port: int) -> None:
        self._core = core
        self._lobby = lobby
        self.identity = identity
        self.port = port
        self.session: Session | None = None
        self.waiting = True
        """Nobody has logged in on it."""
        self.address = ""
        self.host = ""
        self.channel = Channel(core.limits, identity, self._check_certificate, new_id)
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._frames: deque[bytes] = deque()
        self._more = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._closing = False
        self._worker: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._serving = Serving(core, self)

    # -- the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername") or ("unknown", 0)
        self.host, self.address = str(peer[0]), f"{peer[0]}:{peer[1]}"
        if not self._lobby.enter(self):
            self._core.telling.tell(Doing.SESSION_REFUSED, self._stranger(), "too many connections from this address")
            self._closing = True
            transport.abort()
            return
        transport.set_write_buffer_limits(self._core.limits.write_buffer)
        self.hurry()
        self._worker = asyncio.get_running_loop().create_task(self._work())

    def data_received(self, data: bytes) -> None:
        """Cut frames off what came; a frame that would be too long is refused by its header."""
        if self._closing:
            return
        self._buffer += data
        try:
            while (size := self._frame_size()) and len(self._buffer) >= size:
                self._frames.append(bytes(self._buffer[:size]))
                del self._buffer[:size]
        except Hangup as hangup:
            self._hang_up(hangup)
            return
        if self._frames:
            self._more.set()
        if len(self._frames) >= self._core.limits.queued_requests and not self._paused:
            self._paused = True
            assert self._transport is not None
            self._transport.pause_reading()

    def _frame_size(self) -> int:
        """The length of the frame that the buffer begins with; 0 when it can't be told yet. Errors: Hangup."""
        if len(self._buffer) < 8:
            return 0
        kind, flag = bytes(self._buffer[:3]), bytes(self._buffer[3:4])
        size = int.from_bytes(self._buffer[4:8], "little")
        if kind not in _KINDS or flag not in _FLAGS:
            raise Hangup(ua.StatusCodes.BadTcpMessageTypeInvalid, f"a frame of kind {kind!r} {flag!r}")
        longest = _HELLO if kind == b"HEL" else self._core.limits.chunk
        least = 8 if kind == b"HEL" else 24
        if size > longest or size < least:
            raise Hangup(ua.StatusCodes.BadTcpMessageTooLarge, f"a chunk that says it has {size} bytes")
        return size

    def eof_received(self) -> bool:
        """The peer sends no more: close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over; the session with it. Calls that run go on to their end."""
        self._closing = True
        self._lobby.leave(self)
        self.end_session(Doing.LOGOUT, "the connection ended, and the session with it")
        if self._deadline is not None:
            self._deadline.cancel()
        if self._worker is not None:
            self._worker.cancel()
        self._frames.clear()
        self._buffer.clear()
        self._writable.set()

    def pause_writing(self) -> None:
        """The peer takes no answers: nothing more is served until it does, and not for ever."""
        self._writable.clear()
        asyncio.get_running_loop().call_later(self._core.limits.stalled_s, self._give_up_stalled)

    def resume_writing(self) -> None:
        """It takes them again."""
        self._writable.set()

    def _give_up_stalled(self) -> None:
        if not self._writable.is_set() and self._transport is not None and not self._closing:
            self._core.telling.tell(Doing.SESSION_REFUSED, self.caller(), "takes no answers: connection closed")
            self._closing = True
            self._transport.abort()

    # -- who

    def _stranger(self) -> Caller:
        certificate = thumbprint(self.channel.certificate) if self.channel.certificate else ""
        return Caller("", "", frozenset(), certificate, self.address)

    def caller(self) -> Caller:
        """Who is at the other end, as far as it is known."""
        return self.session.caller if self.session is not None else self._stranger()

    def _check_certificate(self, certificate: bytes) -> None:
        try:
            self._core.pki.check(certificate, None, self._core.now())
        except CertificateRefused as error:
            raise Untrusted(certificate, str(error)) from error

    # -- closing

    def hurry(self) -> None:
        """From now on so long until somebody has logged in."""
        self.waiting = True
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(self._core.limits.log_in_s, self._too_late)

    def _too_late(self) -> None:
        if self.waiting:
            self._hang_up(Hangup(ua.StatusCodes.BadTimeout, "nobody logged in", Doing.SESSION_REFUSED))

    def logged_in(self) -> None:
        """Somebody logged in."""
        self.waiting = False

    def turn_away(self) -> None:
        """Close at once, to make room."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    def attach(self, session: Session) -> None:
        """This session lives on this connection."""
        self.session = session
        self._core.sending[session.id] = self.send
        self._core.endings[session.id] = self.hang_up

    def hang_up(self, why: str) -> None:
        """Say that it is over, and close."""
        self._hang_up(Hangup(ua.StatusCodes.BadConnectionClosed, why, None))

    def _hang_up(self, hangup: Hangup) -> None:
        if self._closing or self._transport is None:
            return
        caller = self.caller()
        if isinstance(hangup, Untrusted) and hangup.certificate:
            caller = Caller("", "", frozenset(), thumbprint(hangup.certificate), self.address)
        if hangup.doing is not None:
            self._core.telling.tell(hangup.doing, caller, f"connection closed: {hangup}")
        self._closing = True
        self._transport.write(error_frame(hangup.code))
        self._transport.close()
        # A peer that takes nothing would keep the socket open for as long as it likes.
        asyncio.get_running_loop().call_later(_LINGER_S, self._transport.abort)
        self.end_session(Doing.LOGOUT, f"connection closed: {hangup}")

    def end_session(self, doing: Doing, why: str) -> None:
        """The session on it, if there is one, is over."""
        if self.session is not None:
            entry.close_session(self._core, self.session, doing, why)

    # -- requests

    async def _work(self) -> None:
        """Serve one frame after the other until the connection ends."""
        try:
            while not self._closing:
                await self._more.wait()
                await self._writable.wait()
                await self._core.gate.turn()
                if self._closing or not self._frames:
                    self._more.clear()
                    continue
                frame = self._frames.popleft()
                if not self._frames:
                    self._more.clear()
                if self._paused and len(self._frames) < self._core.limits.queued_requests // 2:
                    self._paused = False
                    assert self._transport is not None
                    self._transport.resume_reading()
                await self._frame(frame)
        except Hangup as hangup:
            self._hang_up(hangup)
        except UaStatusCodeError as error:
            self._hang_up(Hangup(ua.StatusCodes.BadSecurityChecksFailed, f"a malformed frame: {error}"))
        except Exception:  # noqa: BLE001 - a mistake of ours ends this connection, not the server
            self._core.complain("opcua_connection_failed", address=self.address)
            self._hang_up(Hangup(ua.StatusCodes.BadTcpInternalError, "an error of our own", None))

    async def _frame(self, frame: bytes) -> None:
        match frame[:3]:
            case b"HEL":
                self._write(self.channel.hello(frame))
            case b"OPN":
                self._write(self.channel.open_request(frame))
            case b"MSG":
                message = self.channel.message(frame)
                if message is not None:
                    await self._serving.request(*message)
            case _:
                if self.channel.message(frame) is not None:
                    self._closing = True
                    assert self._transport is not None
                    self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def send(self, response: Any, handle: int, request_id: int) -> None:
        """Send a response, if there is still somebody to take it."""
        if self._closing:
            return
        try:
            self._write(self.channel.answer(response, handle, request_id))
        except Exception:  # noqa: BLE001 - something that can't be encoded (a mistake of ours) costs its own answer alone
            self._core.complain("opcua_answer_failed", address=self.address)
            self.fault(ua.StatusCodes.BadEncodingError, handle, request_id)

    def fault(self, code: int, handle: int, request_id: int) -> None:
        """Say that a request failed."""
        response = ua.ServiceFault()
        response.ResponseHeader.ServiceResult = bad(code)
        if not self._closing:
            self._write(self.channel.answer(response, handle, request_id))

    async def finished(self) -> None:
        """Wait until the worker has ended."""
        if self._worker is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
