"""How asyncua's server is bent into a device's: sessions, requests, connections.

All uses of asyncua's inner parts (seen in release 2.1) are here and in ``space.py``. Sessions ask the RTU what writes and
calls mean; answers can be late, spoiled or left out; sessions and subscriptions can be dropped. Without security a client
may ask for the endpoints and nothing else.

What must stay true: nothing that a client sends ends the simulator; what clients leave behind is bounded.
"""

# asyncua's processor has no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, cast

from asyncua import ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.server.binary_server_asyncio import OPCUAProtocol
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession, SessionState
from asyncua.server.uaprocessor import PublishRequestData, UaProcessor
from asyncua.server.user_managers import UserManager

from simulators.opcua.points import Constant, Node
from simulators.opcua.rtu import Kind, Reply, Rtu, Variable
from simulators.opcua.space import MOST_NODES, Space, data_value, indices_of, node_id, sample, status_code, std

CREATE_SESSION = std(ua.ObjectIds.CreateSessionRequest_Encoding_DefaultBinary)
ASKS_TO_ACT = (
    std(ua.ObjectIds.CallRequest_Encoding_DefaultBinary),
    std(ua.ObjectIds.WriteRequest_Encoding_DefaultBinary),
)
_ARGUMENTS = {
    Kind.BOOLEAN: (ua.VariantType.Boolean,),
    Kind.INT32: (ua.VariantType.Int32,),
    Kind.UINT32: (ua.VariantType.UInt32,),
    Kind.DOUBLE: (ua.VariantType.Double,),
}


Tokens = tuple[type[ua.AnonymousIdentityToken], type[ua.X509IdentityToken], type[ua.UserNameIdentityToken]]
"""As asyncua has declared it; any number of them is right."""
MAX_SESSIONS: Final = 16
"""Those whose connection is gone live on until their time-out, as far as there is room."""
NOBODY: Final = User(role=UserRole.Anonymous)


class Unanswered(Exception):
    """The request was carried out, and its answer is lost."""


class Users(UserManager):
    """Lets in whom the site says, or anybody."""

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password

    def get_user(
        self,
        iserver: InternalServer,
        username: str | None = None,
        password: str | None = None,
        certificate: object = None,
    ) -> User | None:
        if self._user and (username, password) != (self._user, self._password):
            return None
        return User(role=UserRole.User, name=username)


class RtuSession(InternalSession):
    """A session: writes and calls go to the RTU."""

    iserver: RtuCore

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """Reads."""
        _bounded(params.NodesToRead)
        return await super().read(params)

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """Monitored items."""
        _bounded(params.ItemsToCreate)
        return await super().create_monitored_items(params)

    async def write(self, params: ua.WriteParameters) -> list[ua.StatusCode]:
        """Writes, in their order; all are carried out before a lost answer is lost."""
        replies = [self.iserver.write(self, one) for one in params.NodesToWrite]
        return [status_code(reply.status) for reply in _answered(replies)]

    async def call(self, params: list[ua.CallMethodRequest]) -> list[ua.CallMethodResult]:
        """Calls, likewise."""
        replies = [self.iserver.call(self, one) for one in params]
        return [ua.CallMethodResult(StatusCode=status_code(reply.status)) for reply in _answered(replies)]


def _bounded(asked: Sequence[object]) -> None:
    if len(asked) > MOST_NODES:
        raise ua.uaerrors.BadTooManyOperations


def _answered(replies: list[Reply]) -> list[Reply]:
    if not all(reply.answered for reply in replies):
        raise Unanswered
    return replies


class Closing(list[asyncio.Task[None]]):
    """Where asyncua's connections leave what they still have to do: forgotten when it is done."""

    def append(self, task: asyncio.Task[None]) -> None:
        super().append(task)
        task.add_done_callback(self.remove)


class RtuCore(InternalServer):
    """asyncua's inner server on a small address space: one run of a device, from power on to power off."""

    def __init__(self, rtu: Rtu, uri: str, user: str, password: str, strangers: int) -> None:
        super().__init__(user_manager=Users(user, password))
        self.rtu = rtu
        self._ending = Closing()
        self.disabled_clock = True
        self.match_discovery_source_ip = False
        tokens = (ua.UserNameIdentityToken if user else ua.AnonymousIdentityToken,)
        self.supported_tokens = cast(Tokens, tokens)
        namespaces, indices = indices_of(rtu, uri, strangers)
        space = Space(self.aspace)
        space.standard(uri, namespaces)
        self._nodes = space.device(rtu, indices)
        self._ids = {node: found for found, node in self._nodes.items()}
        self._methods = {
            (node_id(method.object, indices), node_id(method.node, indices)): method for method in rtu.methods.values()
        }

        now = std(ua.ObjectIds.Server_ServerStatus_CurrentTime)
        self.set_attribute_value_callback(now, lambda *_: self._clock())

    def device_time(self) -> ua.DateTime:
        """What the device's clock says."""
        return cast(ua.DateTime, datetime.fromtimestamp(self.rtu.now_us() / 1e6, UTC))

    def _clock(self) -> ua.DataValue:
        now = self.device_time()
        return sample(ua.Variant(now, ua.VariantType.DateTime), now)

    def create_session(self, name: str, user: User = NOBODY, external: bool = False) -> InternalSession:
        """A session of ours. One more than MAX_SESSIONS costs the one that has been quiet longest its life."""
        sessions = self._external_sessions.values()
        if external and len(sessions) >= MAX_SESSIONS:
            oldest = min(sessions, key=lambda one: one._last_activity)
            self.unregister_external_session(oldest)
            self._ending.append(asyncio.get_running_loop().create_task(oldest.close_session(True)))
        return RtuSession(self, self.aspace, self.subscription_service, name, user=user, external=external)

    async def show(self, variable: Variable) -> None:
        """Let clients see a variable as it is now."""
        await self.write_attribute_value(self._ids[variable.node], data_value(variable))

    def write(self, session: InternalSession, request: ua.WriteValue) -> Reply:
        """One write."""
        node: Node | None = self._nodes.get(request.NodeId)
        if node is None:
            return Reply(ua.StatusCodes.BadNodeIdUnknown)
        variable = self.rtu.variables[node]
        variant = request.Value.Value
        if request.AttributeId != ua.AttributeIds.Value or not variable.writable:
            return Reply(ua.StatusCodes.BadNotWritable)
        value = None if variant is None else _constant(variant, variable.kind)
        if value is None:
            return Reply(ua.StatusCodes.BadTypeMismatch)
        return self.rtu.hook.write(self.rtu, node, value, str(session.session_id))

    def call(self, session: InternalSession, request: ua.CallMethodRequest) -> Reply:
        """One call."""
        method = self._methods.get((request.ObjectId, request.MethodId))
        if method is None:
            return Reply(ua.StatusCodes.BadMethodInvalid)
        given = request.InputArguments or []
        wanted = 0 if method.argument is None else 1
        if len(given) != wanted:
            too_many = len(given) > wanted
            return Reply(ua.StatusCodes.BadTooManyArguments if too_many else ua.StatusCodes.BadArgumentsMissing)
        argument = None
        if method.argument is not None:
            argument = _constant(given[0], method.argument)
            if argument is None:
                return Reply(ua.StatusCodes.BadInvalidArgument)
        return self.rtu.hook.call(self.rtu, method, argument, str(session.session_id))

    async def drop_sessions(self) -> None:
        """End every session; nobody is told."""
        for session in list(self._external_sessions.values()):
            await session.close_session(True)

    async def drop_subscriptions(self) -> None:
        """End every subscription; nobody is told."""
        await self.subscription_service.delete_subscriptions(list(self.subscription_service.subscriptions))


def _constant(variant: ua.Variant, kind: Kind) -> Constant | None:
    if variant.VariantType not in _ARGUMENTS[kind] or not isinstance(variant.Value, bool | int):
        return None
    return variant.Value


class Processor(UaProcessor):
    """One connection's requests."""

    iserver: RtuCore

    async def process(self, header: ua.Header, body: ua.utils.Buffer) -> bool:
        """A message. Silent, the device takes it and does not answer."""
        kind: bytes = cast(bytes, header.MessageType)
        if self.iserver.rtu.faults.silent and kind != ua.MessageType.SecureMessage:
            return True
        return bool(await super().process(header, body))

    async def _process_message(
        self, typeid: ua.NodeId, requesthdr: ua.RequestHeader, seqhdr: ua.SequenceHeader, body: ua.utils.Buffer
    ) -> bool:
        rtu = self.iserver.rtu
        rtu.requests += 1
        rtu.writes += typeid in ASKS_TO_ACT
        if rtu.faults.silent:
            return True
        if typeid == CREATE_SESSION and self._connection.security_policy.URI == SecurityPolicyNone.URI:
            raise ua.uaerrors.BadSecurityPolicyRejected
        if self.session is not None and self.session.state is SessionState.Closed and typeid != CREATE_SESSION:
            raise ua.uaerrors.BadSessionIdInvalid
        try:
            return bool(await super()._process_message(typeid, requesthdr, seqhdr, body))
        except Unanswered:
            return True

    async def forward_publish_response(self, result: ua.PublishResult, requestdata: PublishRequestData) -> None:
        """A publication. Missed, it is gone for good, and its request waits for the next one."""
        if self.iserver.rtu.faults.missed_publish or self.iserver.rtu.faults.silent:
            self._publish_requests.appendleft(requestdata)
            return
        result.NotificationMessage.PublishTime = self.iserver.device_time()
        await super().forward_publish_response(result, requestdata)

    def send_response(
        self,
        requesthandle: int,
        seqhdr: ua.SequenceHeader,
        response: object,
        msgtype: bytes = ua.MessageType.SecureMessage,
    ) -> None:
        """An answer, late where the device is slow."""
        delay_s = self.iserver.rtu.faults.delay_s
        if delay_s > 0:
            loop = asyncio.get_running_loop()
            loop.call_later(delay_s, self._send, requesthandle, seqhdr, response, msgtype)
        else:
            self._send(requesthandle, seqhdr, response, msgtype)

    def _send(self, requesthandle: int, seqhdr: ua.SequenceHeader, response: object, msgtype: bytes) -> None:
        if self._transport.is_closing():
            return
        if self.iserver.rtu.faults.malformed:
            data = self._connection.message_to_binary(
                ua.ua_binary.struct_to_binary(response),
                message_type=cast(ua.MessageType, msgtype),
                request_id=seqhdr.RequestId,
            )
            self._transport.write(data[:-1] + bytes((data[-1] ^ 0x55,)))
            return
        super().send_response(requesthandle, seqhdr, response, msgtype)


class Link(OPCUAProtocol):
    """One TCP connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.processor is not None:
            self.processor = Processor(self.iserver, self.transport, self.limits)
            self.processor.set_policies(self.policies)
