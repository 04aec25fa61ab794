"""Commands of one OPC UA device: a write or a call, where the device wants it after a selection; the rest is
``protocols/commander.py``.

What must stay true: the write or call that operates leaves once, and only after a selection that was answered Good; what
was allowed is asked again between the two; a selection that isn't used is cancelled. In monitor mode nothing of all
this leaves. After an answer that is Bad, ``faults.KNOWN_REFUSALS`` says whether the breaker may have moved all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import cast

from asyncua import ua

from protocols.base import MonotonicClock, Position
from protocols.commander import Answer, Commander, Request, Stage
from protocols.errors import Expired, FieldError, InvalidRequest, MalformedReply
from protocols.link import Priority
from protocols.opcua.client import Session, standard_node
from protocols.opcua.device import OpcUaDevice
from protocols.opcua.faults import SelectionRefused, StatusRefused
from protocols.opcua.site import CommandLike, FeederLike, NodeLike
from protocols.opcua.spots import plain

INTEGERS = frozenset(
    {
        ua.VariantType.SByte,
        ua.VariantType.Byte,
        ua.VariantType.Int16,
        ua.VariantType.UInt16,
        ua.VariantType.Int32,
        ua.VariantType.UInt32,
        ua.VariantType.Int64,
        ua.VariantType.UInt64,
    }
)
_BAD_OR_UNCERTAIN = 0xC0000000


class OpcUaCommander(Commander[FeederLike, Session]):
    """The commands of one device. allowed: whether writes may leave at all, asked again right before each."""

    def __init__(self, device: OpcUaDevice, monotonic: MonotonicClock, allowed: Callable[[], bool]) -> None:
        super().__init__(device.device.name, device, monotonic, allowed)
        self._nodes = device
        self._types: dict[tuple[str, str], ua.VariantType] = {}

    async def _scan(self, feeders: Iterable[str], priority: Priority) -> None:
        await self._nodes.scan_breakers(feeders, priority)

    async def _send(self, connection: Session, request: Request[FeederLike]) -> None:
        points = request.feeder.points
        if request.target is Position.OPEN:
            command, select = points.open_cmd, points.select_open
        else:
            command, select = points.close_cmd, points.select_close
        # Whatever can be looked up is looked up before: nothing may fail on our side once something left.
        kind = await self._type_of(connection, command)
        if select is None:
            self._still_wanted(request, "its type was asked for")
            request.stage = Stage.WRITTEN
            _check(await _carry_out(connection, command, kind))
            return
        selecting = await self._type_of(connection, select)
        if points.cancel is not None:
            await self._type_of(connection, points.cancel)
        self._still_wanted(request, "its type was asked for")
        await self._select(connection, select, selecting)
        try:
            self._still_wanted(request, "the breaker was selected")
            request.stage = Stage.WRITTEN
            _check(await _carry_out(connection, command, kind))
        except StatusRefused as error:
            if error.known:  # else the breaker may be moving: a cancel could stop it half-way
                await self._cancel(connection, points.cancel)
            raise
        except FieldError:
            if request.stage is not Stage.WRITTEN:
                await self._cancel(connection, points.cancel)
            raise

    def _still_wanted(self, request: Request[FeederLike], when: str) -> None:
        """What was allowed before a question to the device may have ended, or been forbidden, meanwhile. Raises Expired."""
        if request.future.done() or not self._permitted(request):
            raise Expired(f"it was not permitted any more when {when}")

    async def _select(self, session: Session, select: CommandLike, kind: ua.VariantType) -> None:
        """Raises SelectionRefused for any answer that isn't Good."""
        try:
            code = await _carry_out(session, select, kind)
        except StatusRefused as error:
            raise SelectionRefused(error.code) from None
        if code & _BAD_OR_UNCERTAIN:
            raise SelectionRefused(code)

    async def _cancel(self, session: Session, cancel: CommandLike | None) -> None:
        """Take a selection back. If that fails, the device's own time-out does it."""
        if cancel is not None:
            with contextlib.suppress(FieldError):
                await _carry_out(session, cancel, await self._type_of(session, cancel))

    def _answer(self, error: FieldError) -> Answer:
        return Answer.REFUSED if isinstance(error, StatusRefused) and error.known else Answer.DOUBT

    async def _type_of(self, session: Session, command: CommandLike) -> ua.VariantType:
        """The type in which an integer has to be sent; asked of the device once."""
        if command.value is None or command.value.boolean:
            return ua.VariantType.Boolean
        asked = command.method or command.node
        key = (asked.namespace, asked.identifier)
        kind = self._types.get(key)
        if kind is None:
            try:
                kind = await (_argument_type(session, asked) if command.method else _variable_type(session, asked))
            except FieldError as error:
                # Nothing of the command left: whatever this was, it is not sent.
                raise error if error.breaks_link else InvalidRequest(f"its type can't be read: {error}") from error
            self._types[key] = kind
        return kind


async def _carry_out(session: Session, command: CommandLike, kind: ua.VariantType) -> int:
    """Write or call, once; the status of that one operation. Raises FieldError."""
    node = session.node(command.node)
    value = ua.Variant(plain(command.value), kind) if command.value is not None else None
    if command.method is not None:
        call = ua.CallRequest()
        one = ua.CallMethodRequest()
        one.ObjectId, one.MethodId = node, session.node(command.method)
        one.InputArguments = [value] if value is not None else []
        call.Parameters.MethodsToCall = [one]
        called = (await session.ask(call, ua.CallResponse)).Results
        return _only([result.StatusCode for result in called])
    write = ua.WriteRequest()
    item = ua.WriteValue(NodeId=node, AttributeId=ua.AttributeIds.Value)
    item.Value = ua.DataValue(value)
    write.Parameters.NodesToWrite = [item]
    return _only((await session.ask(write, ua.WriteResponse)).Results)


def _only(codes: list[ua.StatusCode]) -> int:
    if len(codes) != 1:
        raise MalformedReply(f"{len(codes)} answers came for one command")
    return int(codes[0].value)


def _check(code: int) -> None:
    """Raise StatusRefused for what is not Good."""
    if code & _BAD_OR_UNCERTAIN:
        raise StatusRefused(code)


async def _variable_type(session: Session, ref: NodeLike) -> ua.VariantType:
    """Of a variable: its data type, or for one of its own (an enumeration) the type of the value that it holds."""
    node = session.node(ref)
    declared = _built_in((await session.read_nodes([node], ua.AttributeIds.DataType))[0])
    if declared is not None:
        return declared
    value = (await session.read_nodes([node]))[0].Value
    return value.VariantType if value is not None and value.VariantType in INTEGERS else ua.VariantType.Int32


async def _argument_type(session: Session, ref: NodeLike) -> ua.VariantType:
    """Of a method: the data type of its first argument."""
    path = ua.BrowsePath()
    path.StartingNode = session.node(ref)
    step = ua.RelativePathElement()
    step.ReferenceTypeId = standard_node(ua.ObjectIds.HasProperty)
    step.IncludeSubtypes = cast(ua.Boolean, True)
    step.IsInverse = cast(ua.Boolean, False)
    step.TargetName = ua.QualifiedName("InputArguments", 0)
    path.RelativePath.Elements = [step]
    request = ua.TranslateBrowsePathsToNodeIdsRequest()
    request.Parameters.BrowsePaths = [path]
    found = (await session.ask(request, ua.TranslateBrowsePathsToNodeIdsResponse)).Results
    if not found or not found[0].Targets:
        return ua.VariantType.Int32
    value = (await session.read_nodes([found[0].Targets[0].TargetId]))[0].Value
    arguments = value.Value if value is not None else None
    # asyncua has two classes of this name, and decodes to the one that it does not show.
    declared = getattr(arguments[0], "DataType", None) if isinstance(arguments, list) and arguments else None
    return _built_in(ua.DataValue(ua.Variant(declared))) or ua.VariantType.Int32


def _built_in(data: ua.DataValue) -> ua.VariantType | None:
    """The built-in integer type that a data type is; None for one of another kind."""
    node = data.Value.Value if data.Value is not None else None
    if isinstance(node, ua.NodeId) and node.NamespaceIndex == 0 and isinstance(node.Identifier, int):
        for kind in INTEGERS:
            if kind.value == node.Identifier:
                return kind
    return None
