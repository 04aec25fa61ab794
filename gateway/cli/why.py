"""``gridlatch why FEEDER``: the daemon's answer in sentences, the newest move first. Pure: (answer) → lines."""

from __future__ import annotations

from gateway.cli.fields import MISSING, Fields, count, moment_us, with_short_times
from gateway.cli.timeline import span

MOVES_SHOWN = 6
"""Moves that the daemon tells at most: with fewer, what is older is of interest."""
_VERBS = {"open": "opened", "closed": "closed"}
_ASKED = {"open": "to open", "closed": "to close"}


def why_lines(result: Fields) -> list[str]:
    """Where it stands, who has to close it, and its last moves."""
    feeder, moves = result.text("feeder"), result.parts("moves")
    quality = result.text("quality")
    read = moment_us(result.raw("observed_us")) if result.number("observed_us") else "never"
    lines = [f"{feeder} is {result.text('position')}, read {read}, quality {quality}."]
    closes = result.part("closes")
    if closes:
        lines.append(f"To be closed by {_closer(closes)}: {closes.text('why')}.")
        if closes.raw("command"):
            lines.append(f"    {closes.text('command')}")
    older = [f"Older records are archived in {result.text('archived_in')}."] if result.raw("archived_in") else []
    if not moves:
        if older:
            return [*lines, "", "The journal holds no command or move of this breaker any more.", *older]
        known = "Nothing is known" if result.flag("complete") else "Among the latest records nothing is known"
        return [*lines, "", f"{known} of any command or move of this breaker."]
    for move in moves:
        lines += ["", *_move(move)]
    return [*lines, "", *older] if older and len(moves) < MOVES_SHOWN else lines


def _closer(closes: Fields) -> str:
    by = closes.text("by")
    return {"person": "a person", "procedure": "its procedure"}.get(by, by)


def _move(move: Fields) -> list[str]:
    decision = move.part("decision")
    lines = [_headline(move, decision)]
    if decision:
        lines += _decision(move, decision)
    elif move.raw("procedure") and move.raw("request_id"):
        lines.append(_row("decided", "the turn in which this was decided is not in the records that were read"))
    else:
        lines += _by_hand(move)
    if move.raw("outcome") != "by itself":
        lines.append(_row("outcome", _outcome(move)))
    return lines


def _headline(move: Fields, decision: Fields) -> str:
    at, target = moment_us(move.raw("at_us")), move.text("target")
    if move.raw("outcome") == "by itself":
        verb = _VERBS.get(target, target)
        return f"{at}  {verb} without a command of this gateway (protection, or a hand at the breaker)"
    done = move.raw("outcome") == "done" and move.flag("sent")
    verb = _VERBS.get(target, target) if done else f"asked {_ASKED.get(target, target)}"
    actor, procedure = move.text("actor"), move.text("procedure") if move.raw("procedure") else ""
    by = actor if not procedure or actor == procedure else f"{actor}, through {procedure}"
    force = ", with force" if move.flag("force") else ""
    name = f" ({decision.text('name')})" if decision else ""
    return f"{at}  {verb} by {by}{name}{force}"


def _decision(move: Fields, decision: Fields) -> list[str]:
    lines = []
    because = decision.text("reason") if decision.raw("reason") else move.text("reason") if move.raw("reason") else ""
    by = decision.text("actor") if decision.raw("actor") else ""
    started = move.part("started_by")
    if started:
        by = started.text("actor") + (f" ({started.text('reason')})" if started.raw("reason") else "")
    since = f", started {moment_us(decision.raw('started_us'))}" if decision.number("started_us") else ""
    lines.append(_row("because", f"{because or 'no reason was given'}{since}{f' by {by}' if by else ''}"))
    stress = move.part("stress")
    if stress and not by:
        armed = "stress was told at" if stress.flag("on") else "stress had cleared at"
        lines.append(_row("stress", f"{armed} {_percent(stress.number('load_pct'))}, {moment_us(stress.raw('at_us'))}"))
    override = decision.part("override")
    if override:
        who = override.text("actor") if override.raw("actor") else override.text("raised_by")
        reason = f": {override.text('reason')}" if override.raw("reason") else ""
        told = f"{override.text('decision')} by {who}{reason}, {moment_us(override.raw('at_us'))}"
        lines.append(_row("override", told))
    phase = ", ".join(word for word in (decision.text("phase"), decision.text("tier")) if word not in ("-", MISSING))
    says = f": {with_short_times(decision.text('sentence'))}" if decision.raw("sentence") else ""
    step = f"step {decision.text('step')}, {decision.text('activity')}"
    lines.append(_row("step", f"{phase}{says} ({step})" if phase else step))
    if decision.raw("cooldown"):
        lines.append(_row("cooldown", with_short_times(decision.text("cooldown"))))
    lines.append(_row("measured", _measured(decision)))
    if decision.number("target_kw") and move.raw("target") == "open" and not override:
        goal = f"{_kw(decision.number('target_kw'))} to be shed in all, {_kw(decision.number('shed_kw'))} were"
        lines.append(_row("goal", goal + (f"; this feeder {_kw(move.number('kw'))}" if move.number("kw") else "")))
    return lines


def _measured(decision: Fields) -> str:
    load = decision.part("measured")
    if not load:
        return "it had measured no load by then"
    when = moment_us(decision.raw("measured_us"))
    if not load.flag("good"):
        return f"the load could not be measured, {when}"
    of = f"{_kw(load.number('kw'))} of {_kw(load.number('capacity_kw'))}"
    return f"{_percent(load.number('percent'))}, {of}, {when}"


def _by_hand(move: Fields) -> list[str]:
    if not move.raw("request_id"):
        return []
    lines = [_row("because", move.text("reason"))]
    asked = move.part("asked")
    if asked:
        peer = asked.part("peer")
        lines.append(_row("asked", f"{asked.text('op')}, by user {peer.text('user')} of process {peer.text('pid')}"))
    return lines


def _outcome(move: Fields) -> str:
    at_us, read_us, ended_us = move.number("at_us"), move.number("read_us"), move.number("ended_us")
    words = [move.text("outcome")]
    if read_us and at_us is not None:
        words.append(f"read back {move.text('position')} {moment_us(read_us)}, after {span((read_us - at_us) / 1e6)}")
    elif ended_us and at_us is not None:
        words.append(f"{moment_us(ended_us)}, after {span((ended_us - at_us) / 1e6)}")
    if move.raw("detail") and move.text("detail") != f"read back {move.text('position')}":
        words.append(move.text("detail"))
    return "; ".join(words)


def _row(label: str, text: str) -> str:
    return f"    {label:<10}{text}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f} %"


def _kw(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.1f} kW" if abs(value) < 100 else count(value, "kW")
