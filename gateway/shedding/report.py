"""The report of one event, as one self-contained HTML page for people and as CSV for their spreadsheets.

Pure functions of ``ReportData``; the only thing read is the page's template, which is part of the package. What must
stay true: every text is escaped, so that an operator's reason can neither break the page nor run in it, and a cell of
the CSV is never taken for a formula; the page loads nothing from anywhere; tables are bounded and say what they left out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from importlib.resources import files
from string import Template

from gateway.clock import iso
from gateway.shedding.report_chart import draw
from gateway.shedding.report_data import (
    EventKind,
    FeederOutcome,
    FeederState,
    Outage,
    Proof,
    ReportData,
    ReportEvent,
    Sample,
    Verdict,
)
from gateway.shedding.report_figures import (
    KeyFigures,
    duration,
    end_us,
    escaped,
    key_figures,
    local,
    measured,
    mw,
    zone,
)
from gateway.shedding.report_layout import MARKERS_AT_MOST

__all__ = [
    "EventKind",
    "FeederOutcome",
    "FeederState",
    "KeyFigures",
    "Outage",
    "Proof",
    "ReportData",
    "ReportEvent",
    "Sample",
    "Verdict",
    "key_figures",
    "render_csv",
    "render_report",
]

EVENTS_AT_MOST = 500
EXCEPTIONS_AT_MOST = 60
CSV_COLUMNS = (
    "time", "load_kw", "capacity_kw", "shed_kw", "open_breakers", "event", "title", "actor", "reason", "detail",
)  # fmt: skip


def render_report(data: ReportData) -> str:
    """The page. It needs no other file, no network and no script."""
    template = Template(files("gateway.shedding").joinpath("report.html").read_text(encoding="utf-8"))
    events = sorted(data.events, key=lambda event: event.time_us)
    return template.substitute(
        site=escaped(data.site),
        title=escaped(data.title),
        summary=escaped(data.summary),
        period=_period(data),
        figures=_figures(data),
        chart=draw(data),
        events=_events(data, events),
        feeders=_feeders(data.outcomes),
        exceptions=_exceptions(data.outcomes),
        proofs=_proofs(data.proofs),
        notes="".join(f"<li>{escaped(note)}</li>" for note in data.notes),
        journal_head=escaped(data.journal_head or "–"),
        config_sha256=escaped(data.config_sha256 or "–"),
        versions=escaped(", ".join(f"{name} {version}" for name, version in data.versions) or "–"),
        generated=f"{local(data.generated_us, data.tz, '%d %b %Y %H:%M:%S')} {zone(data.generated_us, data.tz)}",
    )


def render_csv(data: ReportData) -> str:
    """Samples and events in one table by time (RFC 3339, UTC); a row is either a sample or an event."""
    rows: list[tuple[int, list[object]]] = [
        (s.time_us, [s.load_kw if measured(s) else "", s.capacity_kw, s.shed_kw, s.open_breakers, "", "", "", "", ""])
        for s in data.samples
    ]
    rows += [
        (e.time_us, ["", "", "", "", e.kind.value, *map(_no_formula, (e.title, e.actor, e.reason, e.detail))])
        for e in data.events
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for time_us, cells in sorted(rows, key=lambda row: row[0]):
        writer.writerow([iso(time_us), *cells])
    return out.getvalue()


def _no_formula(text: str) -> str:
    """Text that a spreadsheet doesn't compute."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _period(data: ReportData) -> str:
    if not data.samples and not data.events:
        return "nothing recorded"
    first = min((*(s.time_us for s in data.samples), *(e.time_us for e in data.events)))
    last = end_us(data)
    length = duration((last - first) / 1_000_000)
    return f"{local(first, data.tz, '%A %d %B %Y, %H:%M')} to {_end_text(data, first, last)} ({length}), local time"


def _end_text(data: ReportData, first: int, last: int) -> str:
    same_day = local(first, data.tz, "%d %m %Y") == local(last, data.tz, "%d %m %Y")
    return local(last, data.tz, "%H:%M" if same_day else "%d %B, %H:%M")


def _row(cells: Iterable[str], tag: str = "td") -> str:
    """A row of cells that are HTML already."""
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _table(name: str, head: Sequence[str], rows: Sequence[str], empty: str) -> str:
    if not rows:
        return f'<p class="empty">{escaped(empty)}</p>'
    return f'<table class="{name}"><thead>{_row(head, "th")}</thead><tbody>{"".join(rows)}</tbody></table>'


def _figures(data: ReportData) -> str:
    figures = key_figures(data)
    peak_at = "" if figures.peak_at_us is None else f"at {local(figures.peak_at_us, data.tz, '%H:%M')}"
    longest = figures.longest_outage_feeder
    still = f", {figures.still_out:,} still out" if figures.still_out else ""
    shown = [
        ("peak load", f"{mw(figures.peak_load_kw)} MW", peak_at),
        ("peak loading", "–" if figures.peak_pct is None else f"{figures.peak_pct:.1f} %", "of capacity"),
        ("time above the arming limit", duration(figures.above_arm_s), f"load at {data.arm_pct:g} % or more"),
        ("shed at most", f"{mw(figures.max_shed_kw)} MW", f"{figures.max_open_breakers:,} breakers open"),
        ("customers affected", f"{figures.customers_affected:,}", f"{figures.feeders_affected:,} feeders{still}"),
        ("energy not served", f"{figures.not_served_mwh:,.1f} MWh", "estimate: power before opening × time"),
        ("longest interruption", duration(figures.longest_outage_s), f"feeder {longest}" if longest else "none"),
    ]
    return "".join(
        f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd><dd class='more'>{escaped(more)}</dd></div>"
        for name, value, more in shown
    )


def _events(data: ReportData, events: Sequence[ReportEvent]) -> str:
    days = {local(event.time_us, data.tz, "%d %b") for event in events}
    form = "%d %b %H:%M:%S" if len(days) > 1 else "%H:%M:%S"
    rows = []
    for number, event in enumerate(events[:EVENTS_AT_MOST], 1):
        what = f"<b>{escaped(event.title)}</b>" + (f"<br>{escaped(event.detail)}" if event.detail else "")
        mark = f'<span class="mark {event.kind}">{number}</span>'
        rows.append(
            _row([mark, local(event.time_us, data.tz, form), what, escaped(event.actor), escaped(event.reason)])
        )
    table = _table("events", ("", "time", "what", "who", "why"), rows, "No events.")
    if len(events) > EVENTS_AT_MOST:
        table += f"<p>And {len(events) - EVENTS_AT_MOST:,} more; the CSV has them all.</p>"
    if len(events) > MARKERS_AT_MOST:
        table += f"<p>The picture marks the first {MARKERS_AT_MOST}.</p>"
    return table


def _feeders(outcomes: Sequence[FeederOutcome]) -> str:
    tiers: dict[str, list[FeederOutcome]] = {}
    for outcome in outcomes:
        tiers.setdefault(outcome.tier, []).append(outcome)
    rows = [_row(_tier_cells(tier or "no tier", of_tier)) for tier, of_tier in tiers.items()]
    if len(tiers) > 1:
        rows.append(_row(_tier_cells("all", outcomes)).replace("<tr>", '<tr class="total">'))
    head = ("tier", "feeders", *(state.value for state in FeederState), "MW operated")
    return _table("feeders", head, rows, "No feeder was commanded.")


def _tier_cells(tier: str, outcomes: Sequence[FeederOutcome]) -> list[str]:
    cells = [escaped(tier), f"{len(outcomes):,}"]
    for state in FeederState:
        count = sum(outcome.state is state for outcome in outcomes)
        bad = count and state is not FeederState.OPERATED
        cells.append(f'<span class="bad">{count:,}</span>' if bad else f"{count:,}")
    return [*cells, mw(sum(outcome.kw for outcome in outcomes if outcome.state is FeederState.OPERATED))]


def _exceptions(outcomes: Sequence[FeederOutcome]) -> str:
    bad = [outcome for outcome in outcomes if outcome.state is not FeederState.OPERATED]
    if not bad:
        return ""
    rows = [
        _row([escaped(o.feeder), escaped(o.tier), o.state.value, f"{o.kw:,.1f}", escaped(o.detail)])
        for o in bad[:EXCEPTIONS_AT_MOST]
    ]
    more = f"<p>And {len(bad) - EXCEPTIONS_AT_MOST:,} more.</p>" if len(bad) > EXCEPTIONS_AT_MOST else ""
    head = ("feeder", "tier", "ended", "kW", "why")
    return f"<h3>Feeders that did not operate</h3>{_table('exceptions', head, rows, '')}{more}"


def _proofs(proofs: Sequence[Proof]) -> str:
    rows = [
        _row([escaped(proof.name), escaped(proof.value), f'<span class="{proof.verdict}">{proof.verdict.value}</span>'])
        for proof in proofs
    ]
    return _table("proofs", ("statement", "found", "verdict"), rows, "No proof was asked for.")
