"""``gridlatch status``: the substation at one glance, as a person in a control room wants it.

What needs somebody comes first, each line with what can be done about it; then load, procedure, breakers, links; the
gateway's own health comes last.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.cli.fields import MISSING, Fields, count, duration, moment, with_short_times

Paint = Callable[[str, str], str]
_BAR_WIDTH = 40
_TROUBLED_SHOWN = 8
_OVERRIDES_SHOWN = 3


def plain_paint(text: str, style: str) -> str:
    """No colours."""
    return text


def ansi_paint(text: str, style: str) -> str:
    """Colours for a terminal: alarm, warning, good, strong, faint."""
    codes = {"alarm": "1;31", "warning": "33", "good": "32", "strong": "1", "faint": "2"}
    return f"\033[{codes[style]}m{text}\033[0m"


def status_lines(result: Fields, paint: Paint = plain_paint) -> list[str]:
    """The lines of the status page."""
    day = result.part("clock").text("now")[:10]
    lines = [
        f"{paint(result.text('site'), 'strong')} · {_mode(result, paint)} · {moment(result.part('clock').text('now'))}",
        "",
    ]
    attention = _attention(result)
    if attention:
        lines += [paint(f"! {line}", style) for style, line in attention] + [""]
    lines += _transformer(result, paint)
    lines += _procedure(result, day, paint)
    lines += _overrides(result, day)
    lines += _breakers(result)
    lines += _links(result, paint)
    timer = result.part("next_timer")
    if timer:
        due = moment(timer.text("due"), day)
        lines.append(
            _row("Next timer", f"in {duration(timer.number('remaining_s'))} ({due}), {timer.text('instance')}")
        )
    return [*lines, "", *(paint(line, "faint") for line in _gateway(result, day))]


def _row(label: str, text: str) -> str:
    return f"{label:<13}{text}"


def _mode(result: Fields, paint: Paint) -> str:
    mode = result.text("mode")
    if mode == "armed":
        return paint("ARMED", "good")
    if mode == "monitor":
        return paint("MONITOR: nothing is written to the field", "warning")
    return mode


def _attention(result: Fields) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    held = result.part("held")
    if held.flag("held"):
        found.append(("alarm", f"OUTPUTS HELD: {held.text('why')}. Let them go: gridlatch release --reason TEXT"))
    breakers = result.part("breakers")
    for key, style, sentence in (
        ("unresolved", "alarm", "with a command of unknown outcome: gridlatch breakers list --outcome unknown"),
        ("failed", "alarm", "failed to operate: gridlatch breakers list --outcome failed"),
        ("bad", "alarm", "with contradicting contacts: gridlatch breakers list --position bad"),
    ):
        number = breakers.number(key)
        if number:
            found.append((style, f"{count(number)} breaker{'s' if number != 1 else ''} {sentence}"))
    transformer = result.part("transformer")
    if transformer.text("quality") not in ("good", MISSING):
        found.append(
            ("alarm", f"the load of {transformer.text('name')} is not measured: {transformer.text('quality')}")
        )
    clock = result.part("clock")
    if clock.number("rate") == 1:  # a simulated site has a clock of its own
        if clock.raw("synchronized") is False:
            found.append(("warning", "the clock of this machine is not synchronised"))
        elif clock.raw("synchronized") is None:
            found.append(("warning", "whether the clock of this machine is synchronised can't be told"))
    step_s = clock.number("wall_step_s") or 0.0
    if abs(step_s) >= 1.0:
        found.append(("warning", f"the wall clock was stepped by {step_s:+.1f} s since the start; timers did not move"))
    return found + [("warning", text) for text in result.texts("warnings")]


def _transformer(result: Fields, paint: Paint) -> list[str]:
    transformer = result.part("transformer")
    percent = transformer.number("percent")
    load = f"{count(transformer.number('load_kw'))} of {count(transformer.number('capacity_kw'), 'kW')}"
    if percent is None:
        return [
            _row(transformer.text("name"), f"load unknown, capacity {count(transformer.number('capacity_kw'), 'kW')}")
        ]
    style = "alarm" if percent >= 98 else "warning" if percent >= 95 else "good"
    filled = max(0, min(_BAR_WIDTH, int(percent / 100 * _BAR_WIDTH)))
    bar = paint("█" * filled, style) + "░" * (_BAR_WIDTH - filled)
    zone = transformer.text("zone")
    return [
        _row(transformer.text("name"), f"{bar} {paint(f'{percent:.1f} %', style)}  {load}"),
        _row(
            "",
            f"trigger {zone}, quality {transformer.text('quality')}, shed now {count(result.number('shed_kw'), 'kW')}",
        ),
    ]


def _procedure(result: Fields, day: str, paint: Paint) -> list[str]:
    procedure = result.part("procedure")
    if not procedure:
        return [_row("Procedure", "no load shedding runs")]
    tier = "" if procedure.raw("tier") in (None, "") else f", tier {procedure.text('tier')}"
    shed = f", {count(procedure.number('shed_kw'), 'kW')} shed"
    first = (
        f"{procedure.text('name')} {procedure.text('instance')}: {procedure.text('status')}, {procedure.text('phase')}"
    )
    lines = [_row("Procedure", paint(first + tier + shed, "strong"))]
    if procedure.raw("sentence"):
        lines.append(_row("", with_short_times(procedure.text("sentence"), day)))
    elif procedure.raw("waits_for"):
        until = procedure.raw("until")
        suffix = f" until {moment(str(until), day)}" if until else ""
        lines.append(_row("", f"waits for {procedure.text('waits_for')}{suffix}"))
    return lines


def _overrides(result: Fields, day: str) -> list[str]:
    lines = []
    for record in result.parts("overrides")[-_OVERRIDES_SHOWN:]:
        reason = f", reason {record.text('reason')}" if record.raw("reason") else ""
        lines.append(
            f"{moment(record.text('at'), day)} {record.text('decision')} by {record.text('actor')}{reason}: "
            f"{record.text('outcome')} (in step {record.text('step')})"
        )
    return [_row("" if index else "Overrides", line) for index, line in enumerate(lines)]


def _breakers(result: Fields) -> list[str]:
    breakers = result.part("breakers")
    parts = [f"{count(breakers.number('closed'))} closed", f"{count(breakers.number('open'))} open"]
    for key in ("intermediate", "bad", "unknown", "failed", "unresolved", "blocked", "local"):
        number = breakers.number(key)
        if number:
            parts.append(f"{count(number)} {key}")
    return [_row("Breakers", f"{count(breakers.number('total'))}: {', '.join(parts)}")]


def _links(result: Fields, paint: Paint) -> list[str]:
    links = result.part("links")
    parts = [f"{count(links.number('up'))} up"]
    parts += [f"{count(number)} {key}" for key in ("silent", "down", "connecting") if (number := links.number(key))]
    lines = [_row("Links", f"{count(links.number('total'))}: {', '.join(parts)}")]
    troubled = links.parts("troubled")
    for link in troubled[:_TROUBLED_SHOWN]:
        text = f"{link.text('device')} {link.text('state')}: {link.text('detail')}"
        lines.append(_row("", paint(text, "warning")))
    if len(troubled) > _TROUBLED_SHOWN:
        lines.append(_row("", f"and {len(troubled) - _TROUBLED_SHOWN} more"))
    return lines


def _gateway(result: Fields, day: str) -> list[str]:
    journal, engine, clock = result.part("journal"), result.part("engine"), result.part("clock")
    rate = clock.number("rate")
    pace = f", engine clock ×{rate:g}" if rate not in (None, 1) else ""
    return [
        _row(
            "Gateway",
            f"gridlatch {result.text('version')}, process {result.text('pid')}, "
            f"since {moment(result.text('started'), day)}{pace}, configuration {result.text('config_sha256')[:12]}",
        ),
        _row(
            "Journal",
            f"{count(journal.number('records'))} records in batch {count(journal.number('batch'))}, "
            f"head {journal.text('hash')[:16]}{_kept(journal, day)}, {journal.text('path')}",
        ),
        *_operators(result),
        _row(
            "Engine",
            f"{count(engine.number('instances'))} instances, {count(engine.number('turns'))} turns, "
            f"{count(engine.number('queued'))} queued, {count(engine.number('pending_activities'))} activities, "
            f"{count(engine.number('replays'))} replays",
        ),
    ]


def _kept(journal: Fields, day: str) -> str:
    """How large the journal is, how full its disk, and when its head was sent out last; from a daemon that tells it."""
    size, disk, sent = journal.number("file_bytes"), journal.number("disk_pct"), journal.part("signed_head")
    told = [] if size is None else [f"{size / 2**20:.1f} MB"]
    told += [] if disk is None else [f"disk {disk:.0f} % full"]
    told += [f"head {'signed' if sent.raw('signed') else 'UNSIGNED'} {moment(sent.text('at'), day)}"] if sent else []
    return "".join(f", {one}" for one in told)


def _operators(result: Fields) -> list[str]:
    """The OPC UA server, where the site has one."""
    if not result.raw("operators"):
        return []
    door = result.part("operators")
    number = door.number("sessions")
    users = door.texts("users")
    there = f"{count(number)} {'session' if number == 1 else 'sessions'}" + (f": {', '.join(users)}" if users else "")
    state = there if door.flag("open") else "not open"
    until = door.text("certificate_expires")[:10]
    return [
        _row("OPC UA", f"{door.text('endpoint')}, {state}, certificate {door.text('certificate')[:16]} until {until}")
    ]
