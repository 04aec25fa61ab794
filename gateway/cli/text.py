"""The plain text form of each command's result: aligned tables and sentences."""

from __future__ import annotations

import json
from collections.abc import Callable

from gateway.cli.audit import audit_lines
from gateway.cli.fields import MISSING, Fields, count, duration, moment, moment_us, plain, table, with_short_times
from gateway.cli.journal import archive_lines, backup_lines, check_lines, not_compared, stats_lines
from gateway.cli.status import Paint, status_lines
from gateway.cli.timeline import timeline_lines
from gateway.cli.why import why_lines
from gateway.control_client import JsonValue

_CELL_WIDTH = 60
_FIRST_MOMENT_US = 10**14
"""A whole number from here on is a moment (of 1973 or later), not a count."""


def _cell(value: JsonValue) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else plain(value)
    text = text if text.isprintable() else plain(text)
    return text if len(text) <= _CELL_WIDTH else text[: _CELL_WIDTH - 1] + "…"


def _more(result: Fields, lines: list[str]) -> list[str]:
    after = result.raw("next")
    return [*lines, "", f"There is more: --after '{plain(after)}'"] if after else lines


def _instances(result: Fields) -> list[str]:
    rows = [
        (
            one.text("instance"),
            one.text("name"),
            one.text("status"),
            moment(one.text("created")),
            moment(one.text("updated")),
            _sentence(one.raw("custom_status")),
        )
        for one in result.parts("instances")
    ]
    if not rows:
        return ["No instance fits."]
    return _more(result, table(("INSTANCE", "NAME", "STATUS", "CREATED", "UPDATED", "SAYS"), rows))


def _sentence(custom_status: JsonValue) -> str:
    """A procedure's custom status carries a sentence for people; anything else is shown as it is."""
    sentence = Fields(custom_status).raw("sentence")
    return _cell(with_short_times(sentence) if isinstance(sentence, str) else custom_status)


def _instance(result: Fields) -> list[str]:
    if isinstance(result.raw("rows"), list):
        return timeline_lines(result)
    lines = []
    for key in ("instance", "name", "status", "created", "updated"):
        lines.append(f"{key:<15}{moment(result.text(key))}")
    if result.number("replays"):
        lines.append(f"{'replays':<15}{result.text('replays')}")
    lines += _failure(result.part("failure"))
    for key in ("input", "output", "custom_status"):
        value = result.raw(key)
        if value is not None:
            lines += _labelled(key, value, 15)
    if isinstance(result.raw("history"), list):
        lines += ["", *_history(result)]
    return lines


def _failure(failure: Fields, label: str = "failure") -> list[str]:
    """What failed, where, and what was behind it: the tracebacks are for who wrote the procedure and its activities."""
    if not failure:
        return []
    lines = [f"{label:<15}{failure.text('kind')}: {failure.text('message')}"]
    traceback = failure.raw("traceback")
    lines += [" " * 15 + plain(line) for line in str(traceback or "").splitlines()]
    return lines + _failure(failure.part("cause"), "caused by")


def _history(result: Fields) -> list[str]:
    rows = []
    for record in result.parts("history"):
        for event in record.parts("events"):
            rest = {key: event.raw(key) for key in event if key != "type"}
            text = ", ".join(_told(key, value) for key, value in rest.items() if value is not None)
            rows.append((record.text("seq"), moment_us(record.raw("time_us")), event.text("type"), text))
    return table(("SEQ", "TIME", "EVENT", ""), rows, right=("SEQ",)) if rows else ["No history."]


def _told(key: str, value: JsonValue) -> str:
    """A key and its value in one line; a moment as people read it."""
    if key.endswith("_us"):
        return f"{key.removesuffix('_us')} {moment_us(value)}"
    return f"{key} {_cell(value)}"


def _entities(result: Fields) -> list[str]:
    rows = [
        (
            one.text("entity"),
            moment(one.text("modified")),
            one.text("locked_by") if one.raw("locked_by") else "",
            one.text("waiting") if one.raw("waiting") else "",
            _cell(one.raw("state")) if one.flag("exists") else "-",
        )
        for one in result.parts("entities")
    ]
    if not rows:
        return ["No entity fits."]
    return _more(result, table(("ENTITY", "CHANGED", "LOCKED BY", "WAIT", "STATE"), rows, right=("WAIT",)))


def _entity(result: Fields) -> list[str]:
    lines = []
    for key in ("entity", "modified", "exists", "locked_by", "waiting"):
        lines.append(f"{key:<15}{moment(result.text(key))}")
    lines += _labelled("state", _readable(result.raw("state")), 15)
    rows = [
        (one.text("seq"), moment(one.text("at")), one.text("operation"), one.text("caller"), one.text("failure"))
        for one in result.parts("operations")
    ]
    return (
        [*lines, "", *table(("SEQ", "TIME", "OPERATION", "CALLER", "FAILURE"), rows, right=("SEQ",))] if rows else lines
    )


def _timers(result: Fields) -> list[str]:
    rows = [
        (
            timer.text("instance"),
            timer.text("task_id"),
            moment(timer.text("due")),
            duration(timer.number("remaining_s")),
        )
        for timer in result.parts("timers")
    ]
    return table(("INSTANCE", "TASK", "DUE", "IN"), rows, right=("TASK", "IN")) if rows else ["No timer runs."]


def _breakers(result: Fields) -> list[str]:
    rows = []
    for breaker in result.parts("breakers"):
        age_s = breaker.number("age_s")
        marks = [word for word in ("local", "blocked") if breaker.flag(word)]
        quality = breaker.text("quality")
        rows.append(
            (
                breaker.text("feeder"),
                breaker.text("tier"),
                breaker.text("position") + ("" if quality == "good" else f" ({quality})"),
                breaker.text("commanded"),
                breaker.text("outcome"),
                MISSING if age_s is None else f"{age_s:.1f} s",
                count(breaker.number("power_kw"), "kW"),
                breaker.text("op_count"),
                breaker.text("device"),
                ", ".join(marks),
            )
        )
    if not rows:
        return ["No breaker fits."]
    head = ("FEEDER", "TIER", "POSITION", "COMMANDED", "OUTCOME", "AGE", "POWER", "OPS", "DEVICE", "")
    return _more(result, table(head, rows, right=("AGE", "POWER", "OPS")))


def _breaker(result: Fields) -> list[str]:
    width = max((len(key) for key in result), default=0) + 2
    return [line for key in result for line in _labelled(key, _readable(result.raw(key)), width)]


def _readable(value: JsonValue) -> JsonValue:
    """The same with its moments as people read them; ``--json`` has them in microseconds."""
    if isinstance(value, dict):
        return {key.removesuffix("_us"): _readable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_readable(one) for one in value]
    return moment_us(value) if isinstance(value, int) and value >= _FIRST_MOMENT_US else value


def _labelled(key: str, value: JsonValue, width: int) -> list[str]:
    """A key and its value; an object or a list takes several lines."""
    if not isinstance(value, dict | list):
        return [f"{key:<{width}}{plain(value)}"]
    first, *others = json.dumps(value, indent=2, ensure_ascii=False).splitlines()
    return [f"{key:<{width}}{plain(first)}", *(" " * width + plain(line) for line in others)]


def _operated(result: Fields) -> list[str]:
    detail = f": {result.text('detail')}" if result.raw("detail") else ""
    return [f"{result.text('feeder')}: {result.text('outcome')}, reads {result.text('position')}{detail}"]


def _blocked(result: Fields) -> list[str]:
    state = "blocked" if result.flag("blocked") else "not blocked"
    return [result.text("detail") if result.raw("detail") else f"{result.text('feeder')} is {state}"]


def _override(result: Fields) -> list[str]:
    detail = result.text("detail")
    if not result.flag("accepted"):
        return [f"Not accepted: {detail}"]
    return [f"Accepted: {detail}"]


def _detail(result: Fields) -> list[str]:
    return [result.text("detail")]


def _audit(result: Fields) -> list[str]:
    size = f"{count(result.number('batches'))} batches, {count(result.number('records'))} records"
    if result.flag("ok"):
        whole = f"The chain is whole: {size}, head {result.text('batch')}:{result.text('head')}"
        return [whole, *not_compared(result)]
    return [f"THE CHAIN IS BROKEN: {result.text('problem')}", f"Read so far: {size}"]


def lines_of(command: str, result: JsonValue, paint: Paint) -> list[str]:
    """The lines that a person reads after ``command``, such as ``breakers list``."""
    fields = Fields(result)
    if command == "status":
        return status_lines(fields, paint)
    return _WRITERS[command](fields)


_WRITERS: dict[str, Callable[[Fields], list[str]]] = {
    "timers": _timers,
    "instances list": _instances,
    "instances show": _instance,
    "instances start": lambda result: [f"Started {result.text('instance')}"],
    "instances raise": lambda result: ["The event is on its way."],
    "instances terminate": lambda result: ["It ends at its next turn; breakers stay as they are."],
    "instances suspend": lambda result: ["It stands still from its next turn on; what it has started goes on."],
    "instances resume": lambda result: ["It goes on, with all that has come meanwhile."],
    "instances rewind": lambda result: ["It goes on from before its failure; the steps that failed run again."],
    "instances restart": lambda result: [f"Started {result.text('instance')}"],
    "instances purge": lambda result: [f"Removed: {result.text('purged')}. The records stay in the journal."],
    "entities list": _entities,
    "entities show": _entity,
    "entities clean": lambda result: [
        f"Removed {result.text('removed')} empty entities, released {result.text('released')} locks."
    ],
    "breakers list": _breakers,
    "breakers show": _breaker,
    "breakers open": _operated,
    "breakers close": _operated,
    "breakers block": _blocked,
    "breakers unblock": _blocked,
    "why": why_lines,
    "override": _override,
    "mode": _detail,
    "release": _detail,
    "audit list": audit_lines,
    "audit verify": _audit,
    "journal stats": stats_lines,
    "journal check": check_lines,
    "journal backup": backup_lines,
    "journal archive": archive_lines,
}
