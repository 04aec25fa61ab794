"""Method calls: is this the object's method, may this caller call it, are these the arguments that it declares?

Then the gateway is asked, and its answer goes back with a status code and a sentence. Clients read the sentence as the
first output argument (Message); it is sent with bad status codes, too, and once more as AdditionalInfo of the call's
DiagnosticInfo to clients that ask for diagnostics of operations. asyncua's ``Node.call_method`` raises on a bad status
before it looks at either: there the status code is what a person sees; its low-level ``uaclient.call`` and node-opcua's
``session.call`` give the outputs, too.

What must stay true: a call never reaches the gateway unless all of it was right; no argument is converted; whatever the
gateway answers or raises, the caller gets a result and the loop goes on; what is refused here is told to the gateway.
Standard methods of conditions (Acknowledge, ConditionRefresh) go to ``Conditions``; those that aren't offered
(AddComment, Enable, Disable, Confirm) are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import structlog
from asyncua import ua

from protocols.opcua.entries import Entry
from protocols.opcua.space import Nodes
from protocols.opcua.surface import Answer, Argument, Backend, Caller, DataType, Doing, Method, Status, Value
from protocols.opcua.values import STATUS, WrongArgument, from_variant, standard, status, to_variant

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

LONGEST_MESSAGE = 1000

ACKNOWLEDGE = standard(ua.ObjectIds.AcknowledgeableConditionType_Acknowledge)
REFRESH = standard(ua.ObjectIds.ConditionType_ConditionRefresh)
REFRESH_ITEM = standard(ua.ObjectIds.ConditionType_ConditionRefresh2)
NOT_OFFERED = frozenset(
    standard(number)
    for number in (
        ua.ObjectIds.AcknowledgeableConditionType_Confirm,
        ua.ObjectIds.ConditionType_AddComment,
        ua.ObjectIds.ConditionType_Enable,
        ua.ObjectIds.ConditionType_Disable,
    )
)


class Conditions(Protocol):
    """What answers the standard methods of conditions."""

    async def acknowledge(
        self, caller: Caller, condition: ua.NodeId, event: bytes, comment: str
    ) -> ua.CallMethodResult:
        """Acknowledge: somebody has seen the state of this condition that was told with this EventId."""

    async def refresh(
        self, caller: Caller, session: ua.NodeId, subscription: int, item: int | None
    ) -> ua.CallMethodResult:
        """ConditionRefresh: all alarms that people have to see, once more."""


class Calls:
    """Answers Call requests."""

    def __init__(
        self, nodes: Nodes, backend: Backend, conditions: Conditions, tell: Callable[[Doing, Caller, str], None]
    ) -> None:
        self._tell = tell
        self._nodes = nodes
        self._backend = backend
        self._conditions = conditions

    async def call(self, caller: Caller, session: ua.NodeId, request: ua.CallMethodRequest) -> ua.CallMethodResult:
        """One call. Never raises for bad input."""
        given = request.InputArguments or []
        if request.MethodId.NamespaceIndex == 0:
            return await self._standard(caller, session, request, given)
        entry = self._nodes.get_entry(request.ObjectId)
        method = entry.template.method_nodes.get(request.MethodId) if entry is not None else None
        if entry is None or method is None:
            return self._refused(caller, _no_such(entry, request))
        if not self._backend.may_call(caller, entry.template.name, method.name):
            who = caller.user or "an anonymous reader"
            sentence = f"{who} may not call {method.name} of {entry.name}."
            return self._refused(caller, said(STATUS[Status.DENIED], sentence))
        inputs, refusal = _take(method, given)
        if refusal is not None:
            return self._refused(caller, refusal, f"{method.name} of {entry.key}: ")
        try:
            answer = await self._backend.call(caller, entry.key, entry.template.name, method.name, inputs)
            return _answered(method, answer)
        except Exception:
            log.exception("opcua_call_failed", object=entry.key, method=method.name)
            return said(STATUS[Status.INTERNAL], "The gateway failed to carry this out; its log says why.")

    def _refused(self, caller: Caller, result: ua.CallMethodResult, of: str = "") -> ua.CallMethodResult:
        """Tell the gateway of a call that went no further than here."""
        self._tell(Doing.CALL_REFUSED, caller, f"{of}{result.OutputArguments[0].Value}")
        return result

    async def _standard(
        self, caller: Caller, session: ua.NodeId, request: ua.CallMethodRequest, given: list[ua.Variant]
    ) -> ua.CallMethodResult:
        which = request.MethodId
        if which == ACKNOWLEDGE:
            wrong = _wrong_types(given, (ua.VariantType.ByteString, ua.VariantType.LocalizedText))
            if wrong is not None:
                return wrong
            event, comment = (each.Value for each in given)
            text = comment.Text if isinstance(comment, ua.LocalizedText) and comment.Text is not None else ""
            return await self._conditions.acknowledge(caller, request.ObjectId, event or b"", text)
        if which in (REFRESH, REFRESH_ITEM):
            wrong = _wrong_types(given, (ua.VariantType.UInt32,) * (1 if which == REFRESH else 2))
            if wrong is not None:
                return wrong
            numbers = [int(each.Value) for each in given]
            item = numbers[1] if which == REFRESH_ITEM else None
            return await self._conditions.refresh(caller, session, numbers[0], item)
        if which in NOT_OFFERED:
            return said(status(ua.StatusCodes.BadNotSupported), "This gateway doesn't offer it.")
        return said(status(ua.StatusCodes.BadMethodInvalid), "There is no such method.")


def said(code: ua.StatusCode, message: str, arguments: list[ua.StatusCode] | None = None) -> ua.CallMethodResult:
    """A result with nothing but a sentence."""
    result = ua.CallMethodResult()
    result.StatusCode = code
    result.InputArgumentResults = arguments or []
    result.OutputArguments = [ua.Variant(message[:LONGEST_MESSAGE], ua.VariantType.String)]
    return result


def _no_such(entry: Entry | None, request: ua.CallMethodRequest) -> ua.CallMethodResult:
    if entry is None:
        return said(
            status(ua.StatusCodes.BadNodeIdUnknown), f"There is no object {request.ObjectId.Identifier!r:.100}."
        )
    sentence = f"{entry.name} has no method {request.MethodId.Identifier!r:.100}."
    return said(status(ua.StatusCodes.BadMethodInvalid), sentence)


def _take(method: Method, given: list[ua.Variant]) -> tuple[tuple[Value, ...], ua.CallMethodResult | None]:
    """The arguments as declared, or the refusal."""
    refusal = _count(len(given), [each.name for each in method.inputs])
    if refusal is not None:
        return (), refusal
    taken: list[Value] = []
    results: list[ua.StatusCode] = []
    sentences: list[str] = []
    for variant, argument in zip(given, method.inputs, strict=True):
        try:
            taken.append(from_variant(variant, argument))
            results.append(STATUS[Status.OK])
        except WrongArgument as wrong:
            results.append(status(ua.StatusCodes.BadTypeMismatch))
            sentences.append(str(wrong))
    if sentences:
        return (), said(STATUS[Status.BAD_ARGUMENT], "; ".join(sentences) + ".", results)
    return tuple(taken), None


def _count(given: int, names: list[str]) -> ua.CallMethodResult | None:
    if given == len(names):
        return None
    few = given < len(names)
    code = ua.StatusCodes.BadArgumentsMissing if few else ua.StatusCodes.BadTooManyArguments
    expected = f"{len(names)} ({', '.join(names)})" if names else "none"
    return said(status(code), f"{given} arguments were given, {expected} are declared.")


def _wrong_types(given: list[ua.Variant], types: tuple[ua.VariantType, ...]) -> ua.CallMethodResult | None:
    refusal = _count(len(given), [each.name for each in types])
    if refusal is not None:
        return refusal
    fits = [each.VariantType is type and not each.is_array for each, type in zip(given, types, strict=True)]
    if all(fits):
        return None
    results = [STATUS[Status.OK] if fit else status(ua.StatusCodes.BadTypeMismatch) for fit in fits]
    expected = ", ".join(each.name for each in types)
    return said(STATUS[Status.BAD_ARGUMENT], f"Expected: {expected}.", results)


def _answered(method: Method, answer: Answer) -> ua.CallMethodResult:
    """The gateway's answer. Errors: ValueError when its outputs are not those that are declared."""
    message = (answer.message[:LONGEST_MESSAGE], Argument("Message", DataType.STRING, ""))
    if answer.outputs and len(answer.outputs) != len(method.outputs):
        raise ValueError(f"{method.name} declares {len(method.outputs)} outputs, not {len(answer.outputs)}")
    outputs = zip(answer.outputs, method.outputs, strict=False)
    result = ua.CallMethodResult()
    result.StatusCode = STATUS[answer.status]
    result.InputArgumentResults = [STATUS[Status.OK] for _ in method.inputs]
    result.OutputArguments = [
        to_variant(value, declared.type, declared.array) for value, declared in (message, *outputs)
    ]
    if not answer.outputs and answer.status is Status.OK and method.outputs:
        result.OutputArguments += [to_variant(None, each.type, each.array) for each in method.outputs]
    return result
