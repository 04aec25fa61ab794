"""Cross-checks of points on OPC UA devices; for what a check notes, see ``checks.py``."""

from __future__ import annotations

from collections.abc import Iterator

from config.device_models import NodeBreakerPoints, NodeCommand, NodePoint, NodeRef
from config.draft import Draft
from config.models import Feeder
from config.nodes import format_command, format_node


def no_node_twice(draft: Draft) -> None:
    """No two breakers may share a command or a position, nor may open and close of one be the same.

    Both positions of one breaker may look at one node, if not for one value. With a selection before it that says the
    direction, one command may carry out both.
    """
    spaces = _spaces(draft)
    positions: dict[tuple[str, NodeRef], Feeder] = {}
    commands: dict[tuple[str, NodeCommand], tuple[Feeder, str]] = {}
    for feeder, points in _breakers(draft):
        space = spaces.get(feeder.device, "")
        first, second = _whole_point(points.pos_closed, space), _whole_point(points.pos_open, space)
        if first == second:
            _say(
                draft, feeder, f"pos_closed and pos_open of {feeder.name!r} are the same value of the same node", "pos"
            )
        for column, node in dict.fromkeys((("pos_closed", first.node), ("pos_open", second.node))):
            other = positions.setdefault((feeder.device, node), feeder)
            if other is not feeder:
                what = f"{column} of {feeder.name!r} is {format_node(node)}, which is a position of {_named(other)}"
                _say(draft, feeder, what, column)
                break
        for column, given in _commands_of(points):
            command = _whole_command(given, space)
            other, other_column = commands.setdefault((feeder.device, command), (feeder, column))
            if other is not feeder:
                said = f"{column} of {feeder.name!r} is {format_command(command)}"
                _say(draft, feeder, f"{said}, which is {other_column} of {_named(other)}", column)
            elif column != other_column and not (_is_pair(column, other_column) and _selection_tells(points)):
                what = f"feeder {feeder.name!r} uses {format_command(command)} as {other_column} and as {column}"
                _say(draft, feeder, what, column)


def nodes_have_namespaces(draft: Draft) -> None:
    """A node without a namespace of its own needs one of its device; told once for each device."""
    spaces = _spaces(draft)
    told: set[str] = set()

    def lacks(device: str, nodes: Iterator[NodeRef]) -> bool:
        return device in spaces and not spaces[device] and device not in told and any(not n.namespace for n in nodes)

    users: list[tuple[str, str, Iterator[NodeRef]]] = [
        (f"feeder {feeder.name!r}", feeder.device, _nodes_of(points)) for feeder, points in _breakers(draft)
    ]
    for measurement in draft.measurements:
        if isinstance(measurement.address, NodePoint):
            users.append((f"measurement {measurement.name!r}", measurement.device, iter([measurement.address.node])))
    lines = {device.name: device.line for device in draft.devices}
    for user, device, nodes in users:
        if lacks(device, nodes):
            told.add(device)
            what = f"device {device!r} has no namespace, and nodes of {user} name none either"
            instead = "the URI of its nodes' namespace in the column namespace, or nsu=URI; before each node"
            draft.problems.add(draft.devices_file, lines[device], what, instead)


def selections_are_whole(draft: Draft) -> None:
    """Select for one direction alone, or a cancel without a select, is a slip."""
    for feeder, points in _breakers(draft):
        if (points.select_open is None) != (points.select_close is None):
            has, lacks = ("open", "close") if points.select_close is None else ("close", "open")
            what = f"feeder {feeder.name!r} has select_{has} and no select_{lacks}"
            draft.problems.add(draft.feeders_file, feeder.line, what, f"select_{lacks} too, or neither")
        elif points.cancel is not None and points.select_open is None:
            what = f"feeder {feeder.name!r} has cancel and nothing that selects"
            draft.problems.add(draft.feeders_file, feeder.line, what, "select_open and select_close, or no cancel")


def _breakers(draft: Draft) -> Iterator[tuple[Feeder, NodeBreakerPoints]]:
    for feeder in draft.feeders:
        if isinstance(feeder.points, NodeBreakerPoints):
            yield feeder, feeder.points


def _spaces(draft: Draft) -> dict[str, str]:
    return {device.name: device.opcua.namespace for device in draft.devices if device.opcua is not None}


def _whole_node(node: NodeRef, space: str) -> NodeRef:
    """The node with its namespace, so that two ways of writing it compare as one."""
    return node if node.namespace else NodeRef(space, node.identifier)


def _whole_point(point: NodePoint, space: str) -> NodePoint:
    return NodePoint(_whole_node(point.node, space), point.equals)


def _whole_command(command: NodeCommand, space: str) -> NodeCommand:
    method = None if command.method is None else _whole_node(command.method, space)
    return NodeCommand(_whole_node(command.node, space), command.value, method)


def _commands_of(points: NodeBreakerPoints) -> Iterator[tuple[str, NodeCommand]]:
    for column in ("open_cmd", "close_cmd", "select_open", "select_close", "cancel"):
        command = getattr(points, column)
        if isinstance(command, NodeCommand):
            yield column, command


def _nodes_of(points: NodeBreakerPoints) -> Iterator[NodeRef]:
    for point in (points.pos_closed, points.pos_open, points.local, points.op_count, points.power_kw):
        if point is not None:
            yield point.node
    for _, command in _commands_of(points):
        yield command.node
        if command.method is not None:
            yield command.method


def _is_pair(column: str, other: str) -> bool:
    return {column, other} == {"open_cmd", "close_cmd"}


def _selection_tells(points: NodeBreakerPoints) -> bool:
    return points.select_open is not None and points.select_open != points.select_close


def _named(other: Feeder) -> str:
    return f"{other.name!r} in line {other.line}"


def _say(draft: Draft, feeder: Feeder, what: str, column: str) -> None:
    shown = (
        "other values, such as s=F1/Pos==2 and s=F1/Pos==1" if column == "pos" else f"{column} of this breaker alone"
    )
    draft.problems.add(draft.feeders_file, feeder.line, what, shown)
