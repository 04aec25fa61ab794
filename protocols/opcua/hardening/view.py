"""Browse, BrowseNext, TranslateBrowsePathsToNodeIds, RegisterNodes: looking around.

Answers are cut where they would get long, and go on with BrowseNext: continuation points are random, belong to one
session, and only so many of them are kept.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from typing import Any

from asyncua import ua

from protocols.opcua.hardening.core import Core, Request, count
from protocols.opcua.hardening.errors import bad, fault
from protocols.opcua.hardening.session import BrowseRest, Session
from protocols.opcua.hardening.space import Space

_EVERYTHING = 0x3F


async def browse(core: Core, request: Request, parameters: Any) -> Any:
    """The references of some nodes."""
    view = parameters.View
    if view is not None and not view.ViewId.is_null():
        raise fault(ua.StatusCodes.BadViewIdUnknown)
    wished = int(parameters.RequestedMaxReferencesPerNode)
    limits = core.limits
    at_once = min(wished, limits.references_per_node) if wished else limits.references_per_node
    response = ua.BrowseResponse()
    left = limits.references_per_browse
    for index, description in enumerate(count(parameters.NodesToBrowse, limits.nodes_per_browse)):
        result = _browse(core, request.session, description, min(at_once, max(left, 1)))
        left -= len(result.References or ())
        response.Results.append(result)
        await core.slice(index)
    return response


def _browse(core: Core, session: Session, description: ua.BrowseDescription, at_once: int) -> ua.BrowseResult:
    result = ua.BrowseResult()
    node = core.space.get(description.NodeId)
    if node is None:
        result.StatusCode = bad(ua.StatusCodes.BadNodeIdUnknown)
        return result
    if description.BrowseDirection not in (0, 1, 2):
        result.StatusCode = bad(ua.StatusCodes.BadBrowseDirectionInvalid)
        return result
    by = description.ReferenceTypeId
    if not by.is_null() and by not in core.space:
        result.StatusCode = bad(ua.StatusCodes.BadReferenceTypeIdInvalid)
        return result
    if not core.may_read(session, description.NodeId):
        result.StatusCode = bad(ua.StatusCodes.BadUserAccessDenied)
        return result
    found = list(_suitable(core.space, node.references, description))
    mask = int(description.ResultMask)
    result.References = [_masked(reference, mask) for reference in found[:at_once]]
    if len(found) > at_once:
        _keep(core, session, result, BrowseRest(found[at_once:], mask, at_once))
    return result


def _suitable(space: Space, references: list[Any], wanted: ua.BrowseDescription) -> Iterator[Any]:
    types = None
    if not wanted.ReferenceTypeId.is_null():
        types = frozenset((wanted.ReferenceTypeId,))
        if wanted.IncludeSubtypes:
            types = space.reference_types(wanted.ReferenceTypeId)
    forward = {ua.BrowseDirection.Forward: True, ua.BrowseDirection.Inverse: False}.get(wanted.BrowseDirection)
    classes = int(wanted.NodeClassMask)
    for reference in references:
        if forward is not None and bool(reference.IsForward) is not forward:
            continue
        if types is not None and reference.ReferenceTypeId not in types:
            continue
        if classes and not classes & reference.NodeClass:
            continue
        yield reference


def _masked(reference: Any, mask: int) -> Any:
    """Only the fields that were asked for; the rest null."""
    if mask & _EVERYTHING == _EVERYTHING:
        return reference
    null = ua.ReferenceDescription()
    fields = {}
    for bit, name in enumerate(
        ("ReferenceTypeId", "IsForward", "NodeClass", "BrowseName", "DisplayName", "TypeDefinition")
    ):
        if not mask & (1 << bit):
            fields[name] = getattr(null, name)
    return dataclasses.replace(reference, **fields)


def _keep(core: Core, session: Session, result: ua.BrowseResult, rest: BrowseRest) -> None:
    if len(session.browse_rests) >= core.limits.continuation_points:
        result.References = []
        result.StatusCode = bad(ua.StatusCodes.BadNoContinuationPoints)
        return
    point = secrets.token_bytes(16)
    session.browse_rests[point] = rest
    result.ContinuationPoint = point


async def browse_next(core: Core, request: Request, parameters: Any) -> Any:
    """The rest of a Browse, or the end of it."""
    response = ua.BrowseNextResponse()
    rests = request.session.browse_rests
    results = []
    for index, point in enumerate(count(parameters.ContinuationPoints, core.limits.nodes_per_browse)):
        result = ua.BrowseResult()
        rest = rests.pop(point or b"", None)
        if rest is None:
            result.StatusCode = bad(ua.StatusCodes.BadContinuationPointInvalid)
        elif not parameters.ReleaseContinuationPoints:
            result.References = [_masked(reference, rest.mask) for reference in rest.references[: rest.at_once]]
            if len(rest.references) > rest.at_once:
                _keep(
                    core, request.session, result, BrowseRest(rest.references[rest.at_once :], rest.mask, rest.at_once)
                )
        results.append(result)
        await core.slice(index)
    response.Parameters.Results = results
    return response


async def translate(core: Core, request: Request, parameters: Any) -> Any:
    """Where paths of browse names lead to."""
    response = ua.TranslateBrowsePathsToNodeIdsResponse()
    for index, path in enumerate(count(parameters.BrowsePaths, core.limits.nodes_per_translate)):
        response.Results.append(_follow(core, path))
        await core.slice(index)
    return response


def _follow(core: Core, path: ua.BrowsePath) -> ua.BrowsePathResult:
    result = ua.BrowsePathResult()
    elements = path.RelativePath.Elements or []
    if path.StartingNode not in core.space:
        result.StatusCode = bad(ua.StatusCodes.BadNodeIdUnknown)
        return result
    if not elements:
        result.StatusCode = bad(ua.StatusCodes.BadNothingToDo)
        return result
    if len(elements) > core.limits.path_elements:
        result.StatusCode = bad(ua.StatusCodes.BadTooManyOperations)
        return result
    if not elements[-1].TargetName.Name:
        result.StatusCode = bad(ua.StatusCodes.BadBrowseNameInvalid)
        return result
    here = [path.StartingNode]
    for element in elements:
        here = list(dict.fromkeys(_children(core.space, here, element)))
        if not here:
            result.StatusCode = bad(ua.StatusCodes.BadNoMatch)
            return result
        if len(here) > core.limits.path_targets:
            result.StatusCode = bad(ua.StatusCodes.BadTooManyMatches)
            return result
    for node in here:
        target = ua.BrowsePathTarget()
        target.TargetId = ua.ExpandedNodeId(node.Identifier, node.NamespaceIndex, node.NodeIdType)
        target.RemainingPathIndex = ua.Index(0xFFFFFFFF)
        result.Targets.append(target)
    return result


def _children(space: Space, here: list[ua.NodeId], element: ua.RelativePathElement) -> Iterator[ua.NodeId]:
    types = None
    if not element.ReferenceTypeId.is_null():
        types = frozenset((element.ReferenceTypeId,))
        if element.IncludeSubtypes:
            types = space.reference_types(element.ReferenceTypeId)
    for node in here:
        data = space.get(node)
        for reference in data.references if data is not None else ():
            if bool(reference.IsForward) is bool(element.IsInverse) or reference.BrowseName != element.TargetName:
                continue
            if types is None or reference.ReferenceTypeId in types:
                yield reference.NodeId


async def register(core: Core, request: Request, parameters: Any) -> Any:
    """Node ids are as fast as they get: each is its own registered one."""
    response = ua.RegisterNodesResponse()
    response.Parameters.RegisteredNodeIds = count(parameters.NodesToRegister, core.limits.nodes_per_register)
    return response


async def unregister(core: Core, request: Request, parameters: Any) -> Any:
    """Nothing was kept."""
    count(parameters.NodesToUnregister, core.limits.nodes_per_register)
    return ua.UnregisterNodesResponse()
