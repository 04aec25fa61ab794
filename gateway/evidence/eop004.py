"""A draft of an event report in the manner of NERC EOP-004, Attachment 2 (event reporting form), from the journal.

Based on the public form of EOP-004-2 to -4: who files, when, did it originate here, which kind of event, a written
description. Thresholds quoted beside the boxes are those of Attachment 1: firm load shed of 100 MW and more in a BES
emergency; uncontrolled loss of firm load of 200 MW and more (300 MW where the peak was 3,000 MW and more) for 15 minutes.

What must stay true: it is a draft and says so; only what is recorded is filled in, all else is marked for a person; what
could not be known (a feeder without a recorded load, records in an archive, a procedure still under way) is said. Which box
applies is a judgement of people: none is ticked here. On a crash here nothing was changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.clock import iso
from gateway.durable import history as h
from gateway.durable.codec import Json
from gateway.evidence.entry import BREAKER, Entry, visible
from gateway.evidence.errors import TooLong
from gateway.moves import Move, moves_of
from protocols.base import Position

RECORDS_AT_MOST: Final = 500_000
"""Records of breakers in one report; more is a span to be narrowed."""
LINES_AT_MOST: Final = 300
FILL: Final = "[FILL IN]"
REPORTABLE_MW: Final = 100.0
_FIGURES: Final = re.compile(r"[0-9]")
_TURN_END: Final = {"ExecutionCompleted": "ended", "ExecutionFailed": "failed", "ExecutionTerminated": "was terminated"}
_BOXES: Final = (
    "Damage or destruction of a Facility",
    "Physical threat to a Facility",
    "Physical threat to a BES control center",
    "BES Emergency: public appeal for load reduction",
    "BES Emergency: system-wide voltage reduction",
    "BES Emergency: manual firm load shedding (reportable from 100 MW on)",
    "BES Emergency: automatic firm load shedding (reportable from 100 MW on)",
    "Voltage deviation on a Facility",
    "Uncontrolled loss of firm load (from 200 or 300 MW on, for 15 minutes or more)",
    "System separation (islanding)",
    "Generation loss",
    "Complete loss of off-site power to a nuclear generating plant",
    "Transmission loss",
    "Unplanned evacuation of a BES control center",
    "Complete loss of interpersonal communication capability",
    "Complete loss of monitoring or control capability",
)


@dataclass(slots=True)
class Happened:
    """What the journal tells of the event. Times in engine µs, loads in kW."""

    instance: str
    site: str = ""
    first_us: int = 0
    last_us: int = 0
    causes: list[str] = field(default_factory=list)
    lines: list[tuple[int, str]] = field(default_factory=list)
    people: set[str] = field(default_factory=set)
    results: list[Mapping[str, Json]] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    moves: list[tuple[str, Move]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    step: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """What was shed. kW, kWh; moments in engine µs."""

    opened: int
    closed: int
    peak_kw: float
    energy_kwh: float
    without_load: int
    first_us: int
    last_open_us: int
    all_closed_us: int
    still_open: tuple[str, ...]


def gather(entries: Iterable[Entry], instance: str = "") -> Happened:
    """Read the entries of the span; instance: tell of this procedure alone. Errors: TooLong."""
    found = Happened(instance)
    breakers: dict[str, list[tuple[int, int, bytes]]] = {}
    count = 0
    for entry in entries:
        if entry.instance.startswith(BREAKER) and entry.kind == h.OPERATION:
            count += 1
            if count > RECORDS_AT_MOST:
                raise TooLong(f"more than {RECORDS_AT_MOST} records of breakers: narrow it by --since and --until")
            kept = (entry.seq, entry.time_us, entry.payload)
            breakers.setdefault(entry.instance.removeprefix(BREAKER), []).append(kept)
        else:
            _take(found, entry)
    for feeder, records in breakers.items():
        try:
            moves = moves_of((seq, at_us, h.decode_entity_record(payload)) for seq, at_us, payload in records)
        except msgspec.MsgspecError as error:
            found.unreadable.append(f"{feeder}: {error}")
            continue
        found.moves += [(feeder, move) for move in moves if instance in ("", move.procedure)]
    found.moves.sort(key=lambda one: one[1].at_us)
    times = [time_us for time_us, _ in found.lines] + [move.at_us for _, move in found.moves]
    found.first_us, found.last_us = min(times, default=0), max(times, default=0)
    return found


def load_of(moves: Iterable[tuple[str, Move]], until_us: int) -> Load:
    """Add up what these moves took off and gave back; what is still off counts up to ``until_us``."""
    off: dict[str, tuple[int, float]] = {}
    opened = closed = without = first_us = last_open_us = all_closed_us = 0
    now_kw = peak_kw = energy_kwh = 0.0
    done = sorted(((m.read_us or m.ended_us or m.at_us, f, m) for f, m in moves if m.moved), key=lambda one: one[0])
    for at_us, feeder, move in done:
        if move.target == Position.OPEN.value and feeder not in off:
            off[feeder] = (at_us, move.kw)
            opened, now_kw = opened + 1, now_kw + move.kw
            without += not move.kw
            first_us, last_open_us, all_closed_us = first_us or at_us, at_us, 0
            peak_kw = max(peak_kw, now_kw)
        elif move.target == Position.CLOSED.value and feeder in off:
            since_us, kw = off.pop(feeder)
            closed, now_kw = closed + 1, now_kw - kw
            energy_kwh += kw * (at_us - since_us) / 3.6e9
            all_closed_us = 0 if off else at_us
    energy_kwh += sum(kw * max(0, until_us - since_us) / 3.6e9 for since_us, kw in off.values())
    return Load(opened, closed, peak_kw, energy_kwh, without, first_us, last_open_us, all_closed_us, tuple(sorted(off)))


def draft(found: Happened, head: str, archived_to: int, company: str = "") -> str:
    """The form as text. head: of the journal, batch and hash. archived_to: records up to it were not looked at."""
    load = load_of(found.moves, found.last_us)
    lines = [
        "*** DRAFT *** NOT FILED *** EVERY LINE IS TO BE CHECKED BY A PERSON ***",
        f"What only people know is marked {FILL}. Times are UTC, by the gateway's clock.",
        "",
        "EVENT REPORT, in the manner of NERC EOP-004, Attachment 2",
        "",
        "1. Entity filing the report",
        f"   Company name:                      {company or FILL}",
        *(f"   {name:<35}{FILL}" for name in ("Name of contact person:", "Email address of contact person:")),
        *(f"   {name:<35}{FILL}" for name in ("Telephone number:", "Submitted by (name):")),
        "",
        "2. Date and time of recognized event",
        f"   Date (mm/dd/yyyy):                 {_date(found.first_us)}",
        f"   Time (hh:mm):                      {_clock(found.first_us)}",
        f"   Time zone:                         UTC; in local time: {FILL}",
        "",
        "3. Did the event originate in your system?   [ ] Yes   [ ] No   [ ] Unknown",
        f"   Recorded cause: {'; '.join(found.causes[:5]) or 'none'}",
        "",
        "4. Event identification (a person ticks the box that applies)",
        *(f"   [ ] {box}" for box in _BOXES),
        f"   From the record: {_hint(load)}",
        "",
        "5. Written description",
        *_description(found, load),
        "",
        "6. Actions, and who took them",
        *_actions(found),
        "",
        "7. Feeders",
        *_feeders(found),
        "",
        "8. Where this comes from",
        f"   Journal head {head}; {'procedure ' + found.instance if found.instance else 'all of the span'}.",
        *_gaps(found, load, archived_to),
        "",
        f"Checked by: {FILL}        Date: {FILL}",
        "*** END OF DRAFT ***",
    ]
    return "".join(visible(line) + "\n" for line in lines)


def _take(found: Happened, entry: Entry) -> None:
    """One entry that is no breaker's."""
    if entry.kind == "gateway":
        found.site = found.site or str(entry.told.get("site") or "")
        if not found.instance:
            _line(found, entry, f"gateway: {entry.op} {entry.told.get('sentence') or ''}".rstrip())
    elif entry.kind in ("audit", "audit_refused"):
        if found.instance and entry.told.get("instance") not in (None, found.instance):
            return
        who = entry.actor or entry.user or "unknown"
        if entry.op.startswith("opcua.log"):
            return
        found.people.add(who)
        what = " ".join(str(entry.told[key]) for key in ("decision", "feeder", "mode", "instance") if key in entry.told)
        reason = f"; reason: {entry.reason}" if entry.reason else ""
        outcome = f"; {entry.outcome}" if entry.outcome else ""
        _line(found, entry, f"{who}: {entry.op} {what}".rstrip() + reason + outcome)
    elif entry.kind == h.OPERATION and not found.instance:
        _stress(found, entry)
    elif entry.kind == h.TURN and found.instance in ("", entry.instance):
        _turn(found, entry)


def _stress(found: Happened, entry: Entry) -> None:
    for part in entry.parts():
        told = part.get("input")
        if part.get("name") == "stress" and isinstance(told, dict):
            words = "stress: armed" if told.get("on") else "stress has cleared"
            _line(found, entry, f"{words}, loading {told.get('load_pct')} %")


def _turn(found: Happened, entry: Entry) -> None:
    for event in entry.parts():
        kind = str(event.get("type"))
        if kind == "ExecutionStarted" and entry.instance not in found.running:
            told = event.get("input")
            reason = str(told.get("reason") or "") if isinstance(told, dict) else ""
            found.running.add(entry.instance)
            if reason and reason not in found.causes:
                found.causes.append(reason)
            _line(found, entry, f"{entry.instance} ({event.get('name')}) begins" + (f": {reason}" if reason else ""))
        elif kind in _TURN_END:
            found.running.discard(entry.instance)
            result = event.get("result")
            ending = ""
            if isinstance(result, dict):
                found.results.append(result)
                ending = f": {result.get('status')}"
            _line(found, entry, f"{entry.instance} {_TURN_END[kind]}{ending}")
    status = entry.told.get("custom_status")
    sentence = status.get("sentence") if isinstance(status, dict) else None
    if isinstance(sentence, str):
        step = _FIGURES.sub("", sentence)  # the same step with other figures is no further line
        if step != found.step:
            found.step = step
            _line(found, entry, f"{entry.instance}: {sentence}")


def _line(found: Happened, entry: Entry, text: str) -> None:
    found.lines.append((entry.time_us, text))


def _hint(load: Load) -> str:
    mw = load.peak_kw / 1000
    side = "at or above" if mw >= REPORTABLE_MW else "below"
    return f"at most {mw:.3f} MW were off at once by command, {side} {REPORTABLE_MW:g} MW"


def _description(found: Happened, load: Load) -> list[str]:
    lines = [
        f"   Station:                           {found.site or FILL}",
        f"   Most load off at once:             {load.peak_kw / 1000:.3f} MW (load of each feeder before it was opened)",
        f"   Energy not supplied, estimated:    {load.energy_kwh / 1000:.3f} MWh (at the load before; until the end below)",
        f"   Feeders opened / closed again:     {load.opened} / {load.closed}",
        f"   First feeder off:                  {_moment(load.first_us)}",
        f"   Last feeder off:                   {_moment(load.last_open_us)}",
        f"   All closed again:                  {_moment(load.all_closed_us) if load.all_closed_us else 'no: see 8'}",
        f"   End of what is told here:          {_moment(found.last_us)}",
        f"   Customers affected:                {FILL}",
        f"   Cause, in words:                   {FILL} (recorded: {'; '.join(found.causes[:5]) or 'none'})",
    ]
    for result in found.results[:10]:
        told = ", ".join(f"{key} {_words(value)}" for key, value in result.items() if key != "overrides")
        lines.append(f"   Result of the procedure:           {told}")
    return lines


def _actions(found: Happened) -> list[str]:
    lines = [f"   People on record: {', '.join(sorted(found.people)) or 'none'}"]
    shown = sorted(found.lines)[:LINES_AT_MOST]
    lines += [f"   {iso(time_us)}  {text}" for time_us, text in shown]
    more = len(found.lines) - len(shown)
    return [*lines, f"   {more} lines more: see 'gridlatch audit export' of the same span"] if more else lines


def _feeders(found: Happened) -> list[str]:
    commanded = [(feeder, move) for feeder, move in found.moves if move.sent or move.moved]
    if not commanded:
        return ["   No breaker was operated."]
    lines = []
    for feeder, move in commanded[:LINES_AT_MOST]:
        by = move.procedure or move.actor or move.outcome
        load = f"{move.kw:10.1f} kW" if move.kw else f"{'-':>10}   "
        lines.append(f"   {iso(move.at_us)}  {feeder:<20} {move.target:<7} {load}  {move.outcome:<10} {by}")
    more = len(commanded) - LINES_AT_MOST
    return [*lines, f"   {more} operations more: see 'gridlatch audit export'"] if more > 0 else lines


def _gaps(found: Happened, load: Load, archived_to: int) -> list[str]:
    lines = []
    if archived_to:
        lines.append(f"   Records up to {archived_to} are in archives and were not looked at.")
    if found.running:
        lines.append(f"   Not ended by then: {', '.join(sorted(found.running)[:5])}.")
    if load.without_load:
        lines.append(f"   No load is recorded for {load.without_load} of the opened feeders: the MW above are too low.")
    if load.still_open:
        lines.append(f"   Not closed by then: {', '.join(load.still_open[:20])}{' …' if load.still_open[20:] else ''}.")
    lines += [f"   Could not be read: {one}" for one in found.unreadable[:20]]
    return lines


def _words(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _moment(time_us: int) -> str:
    return iso(time_us) if time_us else "-"


def _date(time_us: int) -> str:
    text = iso(time_us)
    return f"{text[5:7]}/{text[8:10]}/{text[:4]}" if time_us else FILL


def _clock(time_us: int) -> str:
    return iso(time_us)[11:16] if time_us else FILL
