"""One connection: bytes to frames, frames to requests, requests to answers. One request at a time, in order, but calls and
history reads, which may take long and answer when they are done.

What must stay true:

* No more is buffered than one chunk, what one message may hold, and a bounded number of whole frames; beyond, nothing is
  read from the socket until they are done.
* A request is served only if its token is that of this connection's own session, and that session is active.
* Whatever goes wrong in here ends this connection at most. The peer gets a status code and never a reason.
* A call that was taken is carried out to its end, also when the caller hangs up in the middle.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asyncua import ua

from protocols.opcua.certificates import CertificateRefused
from protocols.opcua.hardening import entry
from protocols.opcua.hardening.channel import Channel, Hangup, Identity, Untrusted, error_frame
from protocols.opcua.hardening.codec import Guarded, decode, decode_node_id
from protocols.opcua.hardening.core import Core, Request
from protocols.opcua.hardening.errors import UaStatusCodeError, bad, fault
from protocols.opcua.hardening.lobby import Lobby
from protocols.opcua.hardening.requests import SERVICES, Service
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
        self._calls: set[asyncio.Task[None]] = set()
        self._deadline: asyncio.TimerHandle | None = None
        self._wrong_tokens = 0

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
        self._hurry()
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
        self._end_session(Doing.LOGOUT, "the connection ended, and the session with it")
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

    def _hurry(self) -> None:
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
        self._end_session(Doing.LOGOUT, f"connection closed: {hangup}")

    def _end_session(self, doing: Doing, why: str) -> None:
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
                    await self._request(*message)
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
            self._fault(ua.StatusCodes.BadEncodingError, handle, request_id)

    def _fault(self, code: int, handle: int, request_id: int) -> None:
        response = ua.ServiceFault()
        response.ResponseHeader.ServiceResult = bad(code)
        if not self._closing:
            self._write(self.channel.answer(response, handle, request_id))

    async def _request(self, request_id: int, body: bytes) -> None:
        limits = self._core.limits
        data = Guarded(body, limits.elements, limits.depth)
        try:
            kind = decode_node_id(data)
            header = decode(ua.RequestHeader, data)
        except UaStatusCodeError as error:
            raise Hangup(ua.StatusCodes.BadDecodingError, "a request without a readable header") from error
        service = SERVICES.get(cast(int, kind.Identifier)) if kind.NamespaceIndex == 0 else None
        try:
            await self._serve(service, kind, header, request_id, data)
        except UaStatusCodeError as error:
            self._fault(error.code, header.RequestHandle, request_id)
        except Hangup:
            raise
        except Exception:  # noqa: BLE001 - a mistake of ours in one request: the client learns that it failed, and no more
            self._core.complain("opcua_request_failed", request=str(kind.Identifier), address=self.address)
            self._fault(ua.StatusCodes.BadInternalError, header.RequestHandle, request_id)

    async def _serve(
        self, service: Service | None, kind: ua.NodeId, header: Any, request_id: int, data: Guarded
    ) -> None:
        core = self._core
        handle = header.RequestHandle
        if service is None:
            raise fault(ua.StatusCodes.BadServiceUnsupported)
        if service.open is not None:
            self.send(service.open(core, self, decode(service.parameters, data)), handle, request_id)
            return
        session = self._own_session(header.AuthenticationToken)
        if service.handler is None:
            await self._enter(service, session, handle, request_id, data)
            return
        if not session.active:
            raise fault(ua.StatusCodes.BadSessionNotActivated)
        now = core.monotonic()
        session.touch(now, core.now_us())
        self._check_count(service, data)
        parameters = await self._decoded(service, data)
        hint = header.TimeoutHint / 1000
        gives_up = asyncio.get_running_loop().time() + hint if hint else 0.0
        request = Request(session, handle, request_id, gives_up, int(header.ReturnDiagnostics))
        if service.slow:
            self._aside(service.handler, request, parameters)
            return
        response = await service.handler(core, request, parameters)
        if response is not None:
            self.send(response, handle, request_id)

    def _own_session(self, token: Any) -> Session:
        """The session of this connection, if the token is its own. Errors: BadSessionIdInvalid, Hangup."""
        session = self.session
        if session is not None and session.state is not session.state.CLOSED and session.owns(token):
            return session
        self._wrong_tokens += 1
        # Somebody who comes back with the token of a session that has ended is no attacker; who has a session here and
        # names another one, or a token as we never make them, is.
        ours = isinstance(token, ua.NodeId) and isinstance(token.Identifier, bytes) and len(token.Identifier) == 32
        taken = ours and any(other.owns(token) for other in self._core.sessions.values())
        alive = session is not None and session.state is not session.state.CLOSED
        if alive or taken or not (ours or token is None or token.is_null()):
            self._core.telling.tell(Doing.ATTACK, self.caller(), "a request with a token that isn't its session's")
        if self._wrong_tokens >= self._core.limits.wrong_tokens:
            raise Hangup(ua.StatusCodes.BadSessionIdInvalid, "too many requests with wrong tokens")
        raise fault(ua.StatusCodes.BadSessionIdInvalid)

    async def _enter(self, service: Service, session: Session, handle: int, request_id: int, data: Guarded) -> None:
        """ActivateSession and CloseSession (whose parameter doesn't matter: subscriptions never outlive their session)."""
        if service.activates:
            parameters = decode(service.parameters, data)
            session.touch(self._core.monotonic(), self._core.now_us())
            response = await entry.activate_session(self._core, self, session, parameters)
            self.send(response, handle, request_id)
            return
        self.send(ua.CloseSessionResponse(), handle, request_id)
        self._end_session(Doing.LOGOUT, f"{session.caller.user or 'an anonymous reader'} logged out")
        self.channel.allow_long(False)
        self._hurry()

    def _check_count(self, service: Service, data: Guarded) -> None:
        """Refuse a request with too many entries before they are decoded."""
        if service.count_at is None or service.most is None:
            return
        head = data.copy()
        if len(head) < service.count_at + 4:
            raise fault(ua.StatusCodes.BadDecodingError)
        head.skip(service.count_at)
        if int.from_bytes(head.read(4), "little", signed=True) > service.most(self._core.limits):
            raise fault(ua.StatusCodes.BadTooManyOperations)

    async def _decoded(self, service: Service, data: Guarded) -> Any:
        """The parameters. What is long is decoded in a thread, so that the loop goes on."""
        if len(data) <= self._core.limits.inline:
            return decode(service.parameters, data)
        async with self._core.decoding:
            return await asyncio.to_thread(decode, service.parameters, data)

    def _aside(self, handler: Callable[..., Awaitable[Any]], request: Request, parameters: Any) -> None:
        """Serve a request that may take long beside the others."""
        session = request.session
        if session.calls >= self._core.limits.calls_at_once:
            raise fault(ua.StatusCodes.BadTooManyOperations)
        session.calls += 1

        async def run() -> None:
            try:
                self.send(await handler(self._core, request, parameters), request.handle, request.request_id)
            except UaStatusCodeError as error:
                self._fault(error.code, request.handle, request.request_id)
            except Exception:  # noqa: BLE001 - as in _request
                self._core.complain("opcua_request_failed", address=self.address)
                self._fault(ua.StatusCodes.BadInternalError, request.handle, request.request_id)
            finally:
                session.calls -= 1

        task = asyncio.get_running_loop().create_task(run())
        self._core.tasks.add(task)
        task.add_done_callback(self._core.tasks.discard)

    async def finished(self) -> None:
        """Wait until the worker has ended."""
        if self._worker is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
