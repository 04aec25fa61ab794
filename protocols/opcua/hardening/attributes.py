"""Read, HistoryRead, Call; and Write, which nobody may: values are the gateway's, people act by methods."""

from __future__ import annotations

import dataclasses
from typing import Any

from asyncua import ua

from protocols.opcua.hardening.core import Core, Request, count
from protocols.opcua.hardening.entry import still_welcome
from protocols.opcua.hardening.errors import UaStatusCodeError, bad, fault
from protocols.opcua.hardening.session import Session
from protocols.opcua.hardening.subscription import stamped
from protocols.opcua.surface import Doing

_ABOUT_OPERATIONS = 0xC0
"""Bits of ReturnDiagnostics: texts about single operations (Part 4, 7.33)."""
_BINARY = ("", "Default Binary")


async def read(core: Core, request: Request, parameters: Any) -> Any:
    """Attributes of some nodes."""
    if not parameters.MaxAge >= 0:
        raise fault(ua.StatusCodes.BadMaxAgeInvalid)
    times = times_of(parameters.TimestampsToReturn)
    response = ua.ReadResponse()
    for index, wanted in enumerate(count(parameters.NodesToRead, core.limits.nodes_per_read)):
        response.Results.append(_read(core, request.session, wanted, times))
        await core.slice(index)
    return response


def times_of(times: Any) -> ua.TimestampsToReturn:
    """The time-stamps that were asked for. Errors: BadTimestampsToReturnInvalid."""
    try:
        found = ua.TimestampsToReturn(times)
    except ValueError as error:
        raise fault(ua.StatusCodes.BadTimestampsToReturnInvalid) from error
    if found == ua.TimestampsToReturn.Invalid:
        raise fault(ua.StatusCodes.BadTimestampsToReturnInvalid)
    return found


def _read(core: Core, session: Session, wanted: ua.ReadValueId, times: ua.TimestampsToReturn) -> ua.DataValue:
    attribute = wanted.AttributeId
    is_value = attribute == ua.AttributeIds.Value
    encoding = wanted.DataEncoding.Name if wanted.DataEncoding is not None else None
    if encoding not in (None, *_BINARY):
        return ua.DataValue(StatusCode=bad(ua.StatusCodes.BadDataEncodingInvalid))
    if is_value and not core.may_read(session, wanted.NodeId):
        return ua.DataValue(StatusCode=bad(ua.StatusCodes.BadUserAccessDenied))
    value: ua.DataValue = core.space.read_attribute_value(wanted.NodeId, attribute)
    if attribute == ua.AttributeIds.UserAccessLevel and value.Value is not None and not _visible(core, session, wanted):
        value = ua.DataValue(ua.Variant(0, ua.VariantType.Byte))
    if wanted.IndexRange:
        value = _part(value, wanted.IndexRange)
    if not is_value:
        return value
    if value.ServerTimestamp is None and times in (ua.TimestampsToReturn.Server, ua.TimestampsToReturn.Both):
        now: Any = core.now()
        value = dataclasses.replace(value, ServerTimestamp=now)
    return stamped(value, times)


def _visible(core: Core, session: Session, wanted: ua.ReadValueId) -> bool:
    place = core.services.place(wanted.NodeId)
    return place is None or not place.variable or core.backend.may_read(session.caller, place.type, place.variable)


def _part(value: ua.DataValue, text: str) -> ua.DataValue:
    """An index range "3" or "3:5" of an array or text."""
    first, colon, last = text.partition(":")
    if not first.isdecimal() or len(text) > 20 or (colon and not last.isdecimal()):
        return ua.DataValue(StatusCode=bad(ua.StatusCodes.BadIndexRangeInvalid))
    low, high = int(first), int(last or first)
    if colon and low >= high:
        return ua.DataValue(StatusCode=bad(ua.StatusCodes.BadIndexRangeInvalid))
    variant = value.Value
    whole = variant.Value if variant is not None else None
    if variant is None or not isinstance(whole, list | tuple | str | bytes) or low >= len(whole):
        return ua.DataValue(StatusCode=bad(ua.StatusCodes.BadIndexRangeNoData))
    part = ua.Variant(whole[low : high + 1], variant.VariantType, is_array=variant.is_array)
    return dataclasses.replace(value, Value=part)


async def write(core: Core, request: Request, parameters: Any) -> Any:
    """Refused, each of them; it is told, since none of our clients has a reason to try."""
    response = ua.WriteResponse()
    writes = count(parameters.NodesToWrite, core.limits.nodes_per_read)
    for wanted in writes:
        known = wanted.NodeId in core.space
        code = ua.StatusCodes.BadNotWritable if known else ua.StatusCodes.BadNodeIdUnknown
        response.Results.append(bad(code))
    nodes = ", ".join(w.NodeId.to_string() for w in writes[:3])
    core.telling.tell(
        Doing.CALL_REFUSED, request.session.caller, f"writing was refused: {nodes} ({len(writes)} in all)"
    )
    return response


async def call(core: Core, request: Request, parameters: Any) -> Any:
    """Method calls, one after the other; who would not be let in any more makes none."""
    response = ua.CallResponse()
    session = request.session
    for method in count(parameters.MethodsToCall, core.limits.nodes_per_call):
        if not session.active or not still_welcome(core, session):
            raise fault(ua.StatusCodes.BadSessionClosed)
        response.Results.append(await _call(core, session, method))
    if request.diagnostics & _ABOUT_OPERATIONS:
        response.DiagnosticInfos = [_sentence(result) for result in response.Results]
    return response


def _sentence(result: ua.CallMethodResult) -> ua.DiagnosticInfo:
    """Why a call was refused, for clients that look at no outputs of a call that failed: as AdditionalInfo (asyncua writes
    the number of a LocalizedText with the bit of a Locale)."""
    outputs = result.OutputArguments
    if result.StatusCode.is_good() or not outputs or not isinstance(outputs[0].Value, str):
        return ua.DiagnosticInfo()
    return ua.DiagnosticInfo(AdditionalInfo=ua.String(outputs[0].Value))


async def _call(core: Core, session: Session, method: ua.CallMethodRequest) -> ua.CallMethodResult:
    if method.InputArguments is None:
        method.InputArguments = []
    try:
        return await core.services.call(session.caller, session.id, method)
    except UaStatusCodeError as error:
        return ua.CallMethodResult(StatusCode=bad(error.code))
    except Exception:  # noqa: BLE001 - a mistake of ours must neither show its inside to a client nor end the connection
        core.complain("opcua_call_failed", method=method.MethodId.to_string(), user=session.caller.user)
        return ua.CallMethodResult(StatusCode=bad(ua.StatusCodes.BadInternalError))


async def history_read(core: Core, request: Request, parameters: Any) -> Any:
    """Past values and events."""
    nodes = count(parameters.NodesToRead, core.limits.nodes_per_history)
    times_of(parameters.TimestampsToReturn)
    session = request.session
    refused = {index for index, node in enumerate(nodes) if not core.may_read(session, node.NodeId)}
    parameters.NodesToRead = [node for index, node in enumerate(nodes) if index not in refused]
    answered = iter(
        await core.services.history_read(session.caller, session.id, parameters) if parameters.NodesToRead else []
    )
    response = ua.HistoryReadResponse()
    denied = ua.HistoryReadResult(StatusCode=bad(ua.StatusCodes.BadUserAccessDenied))
    response.Results = [denied if index in refused else next(answered) for index in range(len(nodes))]
    return response


async def never(core: Core, request: Request, parameters: Any) -> Any:
    """Services that change the address space or its history: nobody may."""
    core.telling.tell(Doing.CALL_REFUSED, request.session.caller, "changing the address space or history was refused")
    raise fault(ua.StatusCodes.BadUserAccessDenied)
