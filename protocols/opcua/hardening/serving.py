"""Requests of one connection, and who serves them. In order, but calls and history reads, which answer when they are done.

What must stay true: a request is served only if its token is that of this connection's own session, and that session is
active. What is long is decoded in a thread; what has too many entries isn't decoded at all. A call that was taken is
carried out to its end, also when the caller hangs up in the middle; a history read ends with its session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from asyncua import ua

from protocols.opcua.hardening import entry
from protocols.opcua.hardening.channel import Hangup
from protocols.opcua.hardening.codec import Guarded, decode, decode_node_id
from protocols.opcua.hardening.core import Core, Request
from protocols.opcua.hardening.errors import UaStatusCodeError, fault
from protocols.opcua.hardening.requests import SERVICES, Service
from protocols.opcua.hardening.session import Session
from protocols.opcua.surface import Doing

if TYPE_CHECKING:
    from protocols.opcua.hardening.connection import Connection

_UNREADABLE = (ua.StatusCodes.BadDecodingError, ua.StatusCodes.BadEncodingLimitsExceeded)
"""No honest client's parameters end like this."""


class Serving:
    """Serves what comes in on one connection."""

    def __init__(self, core: Core, connection: Connection) -> None:
        self._core = core
        self._connection = connection
        self._wrong_tokens = 0

    async def request(self, request_id: int, body: bytes) -> None:
        """Serve one request. Errors: Hangup."""
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
            if error.code in _UNREADABLE:
                self._core.telling.tell(Doing.ATTACK, self._connection.caller(), "a request that can't be read")
            self._connection.fault(error.code, header.RequestHandle, request_id)
        except Hangup:
            raise
        except Exception:  # noqa: BLE001 - a mistake of ours in one request: the client learns that it failed, and no more
            self._core.complain("opcua_request_failed", request=str(kind.Identifier), address=self._connection.address)
            self._connection.fault(ua.StatusCodes.BadInternalError, header.RequestHandle, request_id)

    async def _serve(
        self, service: Service | None, kind: ua.NodeId, header: Any, request_id: int, data: Guarded
    ) -> None:
        core = self._core
        handle = header.RequestHandle
        if service is None:
            raise fault(ua.StatusCodes.BadServiceUnsupported)
        if service.open is not None:
            self._connection.send(
                service.open(core, self._connection, decode(service.parameters, data)), handle, request_id
            )
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
            task = self._aside(service.handler, request, parameters)
            if service.breaks_off:
                session.reads.add(task)
                task.add_done_callback(session.reads.discard)
            return
        response = await service.handler(core, request, parameters)
        if response is not None:
            self._connection.send(response, handle, request_id)

    def _own_session(self, token: Any) -> Session:
        """The session of this connection, if the token is its own. Errors: BadSessionIdInvalid, Hangup."""
        session = self._connection.session
        if session is not None and session.state is not session.state.CLOSED and session.owns(token):
            return session
        self._wrong_tokens += 1
        # Somebody who comes back with the token of a session that has ended is no attacker; who has a session here and
        # names another one, or a token as we never make them, is.
        ours = isinstance(token, ua.NodeId) and isinstance(token.Identifier, bytes) and len(token.Identifier) == 32
        taken = ours and any(other.owns(token) for other in self._core.sessions.values())
        alive = session is not None and session.state is not session.state.CLOSED
        if alive or taken or not (ours or token is None or token.is_null()):
            self._core.telling.tell(
                Doing.ATTACK, self._connection.caller(), "a request with a token that isn't its session's"
            )
        if self._wrong_tokens >= self._core.limits.wrong_tokens:
            raise Hangup(ua.StatusCodes.BadSessionIdInvalid, "too many requests with wrong tokens")
        raise fault(ua.StatusCodes.BadSessionIdInvalid)

    async def _enter(self, service: Service, session: Session, handle: int, request_id: int, data: Guarded) -> None:
        """ActivateSession and CloseSession (whose parameter doesn't matter: subscriptions never outlive their session)."""
        if service.activates:
            parameters = decode(service.parameters, data)
            session.touch(self._core.monotonic(), self._core.now_us())
            response = await entry.activate_session(self._core, self._connection, session, parameters)
            self._connection.send(response, handle, request_id)
            return
        self._connection.send(ua.CloseSessionResponse(), handle, request_id)
        self._connection.end_session(Doing.LOGOUT, f"{session.caller.user or 'an anonymous reader'} logged out")
        self._connection.channel.allow_long(False)
        self._connection.hurry()

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

    def _aside(self, handler: Callable[..., Awaitable[Any]], request: Request, parameters: Any) -> asyncio.Task[None]:
        """Serve a request that may take long beside the others."""
        session = request.session
        if session.calls >= self._core.limits.calls_at_once:
            raise fault(ua.StatusCodes.BadTooManyOperations)
        session.calls += 1

        async def run() -> None:
            try:
                self._connection.send(
                    await handler(self._core, request, parameters), request.handle, request.request_id
                )
            except UaStatusCodeError as error:
                self._connection.fault(error.code, request.handle, request.request_id)
            except Exception:  # noqa: BLE001 - as in ``request``
                self._core.complain("opcua_request_failed", address=self._connection.address)
                self._connection.fault(ua.StatusCodes.BadInternalError, request.handle, request.request_id)
            finally:
                session.calls -= 1

        task = asyncio.get_running_loop().create_task(run())
        self._core.tasks.add(task)
        task.add_done_callback(self._core.tasks.discard)
        return task
