"""``instances show ID --timeline``: the story of an instance as a table. Pure: (the daemon's answer) → lines."""

from __future__ import annotations

from gateway.cli.fields import MISSING, Fields, duration, moment, plain, table, with_short_times

_NAME_WIDTH, _TOLD_WIDTH, _DETAIL_WIDTH, _FAILURE_WIDTH = 44, 50, 140, 400


def timeline_lines(result: Fields) -> list[str]:
    """Head, table, and what is missing. Times are UTC; a date stands where the day changes."""
    rows = result.parts("rows")
    now_us = result.number("now_us") or 0.0
    day = ""
    cells = []
    for row in rows:
        at, day = _moment(row.number("at_us"), day)
        cells.append((at, _step(row), _what(row), _took(row, now_us), _outcome(row, now_us), _details(row, day)))
    lines = [*_head(result), ""]
    if not result.flag("complete") and rows:
        lines += ["Its beginning is not shown: it has more turns than are read at once.", ""]
    if not rows:
        return [*lines, "It has not run yet."]
    now = ["", f"Now it {with_short_times(result.text('waits'))}."] if result.raw("waits") else []
    return lines + table(("TIME", "STEP", "WHAT", "TOOK", "OUTCOME", ""), cells, right=("TIME", "STEP", "TOOK")) + now


def _head(result: Fields) -> list[str]:
    replays = result.number("replays") or 0
    often = f", replayed {replays:g} time{'s' if replays != 1 else ''}" if replays else ""
    lines = [
        f"{result.text('instance')}: {result.text('name')}, {result.text('status')}{often}; "
        f"created {moment(result.text('created'))}, last turn {moment(result.text('updated'))}"
    ]
    by = result.part("started_by")
    if by:
        reason = f": {by.text('reason')}" if by.raw("reason") else ""
        lines.append(f"Started by {by.text('actor')}{reason}")
    return lines


def _moment(at_us: float | None, day: str) -> tuple[str, str]:
    """The time with milliseconds, and the day that it is of."""
    import datetime

    if at_us is None:
        return MISSING, day
    try:
        at = datetime.datetime.fromtimestamp(at_us / 1e6, datetime.UTC)
    except (OverflowError, ValueError, OSError):
        return MISSING, day
    today = at.date().isoformat()
    shown = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}Z"
    return (shown if today == day else f"{today} {shown}"), today


def _step(row: Fields) -> str:
    step = row.number("step")
    return f"{step:g}" if step else ""


def _what(row: Fields) -> str:
    name = row.text("name") if row.raw("name") else ""
    if row.text("kind") == "timer":
        name = f"of {span(row.part('value').number('after_s'))}"
    return _cut(f"{row.text('kind')} {name}".strip(), _NAME_WIDTH)


def _took(row: Fields, now_us: float) -> str:
    took_s = row.number("took_s")
    at_us = row.number("at_us")
    if took_s is None and row.raw("outcome") == "open" and at_us is not None:
        took_s = (now_us - at_us) / 1e6
    return "" if took_s is None else span(took_s)


def _outcome(row: Fields, now_us: float) -> str:
    outcome = row.text("outcome") if row.raw("outcome") else ""
    attempts = row.number("attempts") or 1
    due_us = row.part("value").number("due_us")
    if outcome == "open" and due_us is not None:
        return f"fires in {span((due_us - now_us) / 1e6)}"
    if attempts > 1:
        return f"{outcome}, attempt {attempts:g}"
    return outcome


def _details(row: Fields, day: str) -> str:
    value = row.text("value") if isinstance(row.raw("value"), str) and row.raw("value") else ""
    came = row.text("failure") if row.raw("failure") else row.text("result") if row.raw("result") else ""
    who = f"by {row.text('who')}" if row.raw("who") else ""
    why = row.text("why") if row.raw("why") else ""
    words = [word for word in (who, why) if word]
    told = ": ".join(words)
    told = f"{told}; {value}" if told and value else told or value
    arrow = f"{_cut(told, _TOLD_WIDTH)} → {came}" if told and came else told or came
    width = _FAILURE_WIDTH if row.raw("failure") else _DETAIL_WIDTH  # what to do stands at the end of an error
    return _cut(with_short_times(plain(arrow), day) if arrow else "", width)


def span(seconds: float | None) -> str:
    """A length of time, fine enough for steps: ``350 ms``, ``9.5 s``, then as ``duration``."""
    if seconds is None:
        return MISSING
    if seconds < 0.9995:
        return f"{max(0, round(seconds * 1000))} ms"
    return f"{seconds:.1f} s" if seconds < 59.95 else duration(seconds)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
