"""The event report: what stands in the page and in the picture, told as facts and not as a snapshot."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shedding import report_chart as chart
from gateway.shedding import report_layout as layout
from gateway.shedding.report import (
    EventKind,
    FeederOutcome,
    FeederState,
    Outage,
    Proof,
    ReportData,
    ReportEvent,
    Sample,
    Verdict,
    key_figures,
    render_csv,
    render_report,
)
from gateway.shedding.report_figures import duration, end_us, mw

SECOND = 1_000_000
MINUTE = 60 * SECOND
MELBOURNE = timezone(timedelta(hours=11))
T0 = int(datetime(2014, 1, 16, 14, 0, tzinfo=MELBOURNE).timestamp()) * SECOND


def sample(minute: float, load_kw: float | None, shed_kw: float = 0.0, open_breakers: int = 0) -> Sample:
    return Sample(T0 + round(minute * MINUTE), load_kw, 100_000.0, shed_kw, open_breakers)


def event(minute: float, kind: EventKind, title: str = "it happened", **more: str) -> ReportEvent:
    return ReportEvent(T0 + round(minute * MINUTE), kind, title, **more)


EMPTY = ReportData(
    site="Riverside",
    title="A hot day",
    summary="",
    tz=MELBOURNE,
    arm_pct=98.0,
    clear_pct=95.0,
    generated_us=T0,
    samples=(),
    events=(),
    outcomes=(),
    outages=(),
    proofs=(),
    journal_head="",
    config_sha256="",
    versions=(),
)


def picture(data: ReportData) -> ElementTree.Element:
    """The picture, read by a strict XML parser: it must be well formed."""
    return ElementTree.fromstring(chart.draw(data))


def of_class(svg: ElementTree.Element, tag: str, name: str) -> list[ElementTree.Element]:
    return [e for e in svg.iter(tag) if name in e.get("class", "").split()]


def points(svg: ElementTree.Element, name: str, tag: str = "polyline") -> list[tuple[float, float]]:
    """The points of the first line of this class that has its place in the plot (the legend comes last)."""
    text = of_class(svg, tag, name)[0].get("points", "")
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in text.split())]


class Heights:
    """Where a panel draws a power, told by two of its grid lines, as a reader of the picture would."""

    def __init__(self, svg: ElementTree.Element, panel: int = 0) -> None:
        top = float([e for e in svg.iter("rect") if e.get("class") == "frame"][panel].get("y", 0))
        height = (layout.LOAD_HEIGHT, layout.SHED_HEIGHT)[panel]
        lines = [(float(e.get("data-kw", 0)), float(e.get("y1", 0))) for e in svg.iter("line") if e.get("data-kw")]
        lines = [(kw, y) for kw, y in lines if top <= y <= top + height]
        (self.low, self.low_y), (self.high, self.high_y) = lines[0], lines[-1]

    def __getitem__(self, kw: float) -> float:
        return self.low_y + (kw - self.low) / (self.high - self.low) * (self.high_y - self.low_y)


# -- the picture -------------------------------------------------------------------------------------------------------


def test_the_load_is_drawn_where_it_belongs() -> None:
    svg = picture(replace(EMPTY, samples=(sample(0, 90_000), sample(30, 100_000), sample(120, 95_000))))
    load, grid = points(svg, "load"), Heights(svg)
    left, right = layout.LEFT, layout.LEFT + layout.PLOT_WIDTH
    assert [x for x, _ in load] == pytest.approx([left, left + (right - left) / 4, right], abs=0.1)
    assert [y for _, y in load] == pytest.approx([grid[90_000], grid[100_000], grid[95_000]], abs=0.1)
    assert [y for _, y in points(svg, "capacity")] == pytest.approx([grid[100_000]] * 3, abs=0.1)
    assert points(svg, "clear")[0][1] == pytest.approx(grid[95_000], abs=0.1)
    arm = points(svg, "arm")[0][1]
    assert arm == pytest.approx(grid[100_000] + 0.2 * (grid[90_000] - grid[100_000]), abs=0.1)


def test_samples_may_come_in_any_order() -> None:
    samples = (sample(0, 90_000), sample(30, 100_000), sample(120, 95_000))
    assert chart.draw(replace(EMPTY, samples=samples[::-1])) == chart.draw(replace(EMPTY, samples=samples))


def test_shed_power_is_an_area_from_zero_and_lies_on_top_of_the_load() -> None:
    samples = (sample(0, 96_000), sample(10, 92_000, 4_000), sample(20, 92_000, 4_000))
    svg = picture(replace(EMPTY, samples=samples))
    grid, load_grid = Heights(svg, panel=1), Heights(svg)
    area = points(svg, "shed", "polygon")
    assert [y for _, y in area] == pytest.approx([grid[0], grid[4000], grid[4000], grid[0], grid[0]], abs=0.1)
    without = [y for _, y in points(svg, "without")]
    assert without == pytest.approx([load_grid[96_000]] * 3, abs=0.1)


def test_no_line_over_a_gap_nor_over_a_load_that_was_not_measured() -> None:
    minutes = [0, 1, 2, 3, 4, 5, 30, 31, 32, 33]
    samples = [sample(minute, 90_000 + minute * 10) for minute in minutes]
    svg = picture(replace(EMPTY, samples=tuple(samples)))
    drawn = [e.get("points", "").count(",") for e in of_class(svg, "polyline", "load")[:-1]]
    assert drawn == [6, 4]
    for hole in (None, float("nan")):
        samples[2] = replace(samples[2], load_kw=hole)
        svg = picture(replace(EMPTY, samples=tuple(samples)))
        assert [e.get("points", "").count(",") for e in of_class(svg, "polyline", "load")[:-1]] == [2, 3, 4]
        assert "nan" not in chart.draw(replace(EMPTY, samples=tuple(samples))).lower()


def test_one_sample_is_a_dot_in_the_middle_with_its_limits_beside_it() -> None:
    svg = picture(replace(EMPTY, samples=(sample(0, 90_000),)))
    dots = of_class(svg, "circle", "dot")
    assert float(dots[0].get("cx", 0)) == pytest.approx(layout.LEFT + layout.PLOT_WIDTH / 2)
    assert [x for x, _ in points(svg, "capacity")] == [layout.LEFT, layout.LEFT + layout.PLOT_WIDTH]


def test_nothing_at_all_says_so_and_events_alone_are_drawn() -> None:
    assert "No samples" in "".join(picture(EMPTY).itertext())
    svg = picture(replace(EMPTY, events=(event(0, EventKind.ARMED), event(60, EventKind.FINISHED))))
    assert len(of_class(svg, "circle", "mark")) == 2
    assert "No samples, no events" in render_report(EMPTY)


def test_each_event_is_marked_with_its_number_at_its_time() -> None:
    events = (event(30, EventKind.TIER_SHED), event(0, EventKind.ARMED), event(120, EventKind.FINISHED))
    svg = picture(replace(EMPTY, events=events))
    marks = of_class(svg, "circle", "mark")
    assert [e.text for e in of_class(svg, "text", "mark-text")] == ["1", "2", "3"]
    assert [float(m.get("cx", 0)) for m in marks] == pytest.approx(
        [layout.LEFT, layout.LEFT + layout.PLOT_WIDTH / 4, layout.LEFT + layout.PLOT_WIDTH], abs=0.1
    )
    assert ["armed" in marks[0].get("class", ""), "tier_shed" in marks[1].get("class", "")] == [True, True]


def test_the_gateway_without_power_is_hatched_from_the_loss_to_the_restart() -> None:
    events = (
        event(0, EventKind.ARMED),
        event(30, EventKind.POWER_LOSS),
        event(60, EventKind.RESTART),
        event(120, EventKind.FINISHED),
    )
    down = of_class(picture(replace(EMPTY, events=events)), "rect", "down")[0]
    assert float(down.get("x", 0)) == pytest.approx(layout.LEFT + layout.PLOT_WIDTH / 4, abs=0.1)
    assert float(down.get("width", 0)) == pytest.approx(layout.PLOT_WIDTH / 4, abs=0.1)
    still_down = of_class(picture(replace(EMPTY, events=(*events[:2], events[3]))), "rect", "down")[0]
    assert float(still_down.get("width", 0)) == pytest.approx(layout.PLOT_WIDTH * 3 / 4, abs=0.1)


STORY = (
    event(0, EventKind.ARMED),
    event(2, EventKind.TIER_SHED),
    event(3, EventKind.COOLDOWN),
    event(8, EventKind.OVERRIDE),
    event(13, EventKind.TIER_SHED, label="tier B"),
    event(14, EventKind.CLEARED),
    event(30, EventKind.RESTORE_STAGE),
    event(40, EventKind.RESTORE_STAGE),
    event(50, EventKind.FINISHED),
)


def minutes(found: list[layout.Phase]) -> list[tuple[float, float, str]]:
    return [((p.start_us - T0) / MINUTE, (p.end_us - T0) / MINUTE, p.label) for p in found]


def test_phases_follow_from_the_events() -> None:
    assert minutes(layout.phases(STORY, T0 + 60 * MINUTE)) == [
        (0, 2, "armed"),
        (2, 3, "tier 1"),
        (3, 13, "cooldown"),
        (13, 14, "tier B"),
        (14, 30, "stability"),
        (30, 40, "stage 1"),
        (40, 50, "stage 2"),
    ]
    assert minutes(layout.phases(STORY[:3], T0 + 60 * MINUTE))[-1] == (3, 60, "cooldown")


def test_the_band_of_tiers_climbs_until_restoration() -> None:
    assert minutes(layout.tier_steps(STORY, T0 + 60 * MINUTE)) == [
        (2, 13, "1 tier"),
        (13, 30, "2 tiers"),
        (30, 50, "restoring"),
    ]


def test_thinning_keeps_every_peak_and_bounds_the_picture() -> None:
    samples = [sample(i / 60, 80_000 + i % 7, 5.0) for i in range(86_400)]
    samples[12_345] = replace(samples[12_345], load_kw=99_999.0)
    samples[54_321] = replace(samples[54_321], load_kw=1.0)
    samples[70_001] = replace(samples[70_001], shed_kw=7_777.0)
    kept = layout.thinned(samples)
    assert len(kept) <= layout.POINTS_AT_MOST + 5
    assert {samples[12_345], samples[54_321], samples[70_001], samples[0], samples[-1]} <= set(kept)
    assert kept == sorted(kept, key=lambda s: s.time_us)
    assert layout.thinned(samples[:100]) == samples[:100]
    assert len(chart.draw(replace(EMPTY, samples=tuple(samples)))) < 400_000


@given(st.lists(st.floats(layout.LEFT, layout.LEFT + layout.PLOT_WIDTH), max_size=layout.MARKERS_AT_MOST).map(sorted))
def test_markers_never_overlap_and_stay_inside(wanted: list[float]) -> None:
    places = layout.place_markers(wanted)
    assert len(places) == len(wanted)
    for row in range(layout.MARKER_ROWS_AT_MOST):
        xs = [x for x, its_row in places if its_row == row]
        assert all(b - a >= 2 * layout.MARKER_RADIUS - 1e-6 for a, b in pairwise(xs))
        assert all(x <= layout.LEFT + layout.PLOT_WIDTH for x in xs)
        assert all(x >= layout.LEFT for x in xs)


def test_a_marker_with_room_stands_exactly_at_its_time() -> None:
    assert layout.place_markers([100.0, 110.0, 200.0]) == [(100.0, 0), (110.0, 1), (200.0, 0)]


@given(st.lists(st.floats(0, 300), max_size=6))
def test_labels_at_the_right_are_spread(wanted: list[float]) -> None:
    placed = sorted(layout.spread(wanted, 14))
    assert all(b - a >= 14 - 1e-6 for a, b in pairwise(placed))


def test_labels_that_have_room_stay() -> None:
    assert layout.spread([10.0, 50.0, 30.0], 14) == [10.0, 50.0, 30.0]


def test_ticks_are_round() -> None:
    assert layout.ticks(87_000, 103_000, 6) == [90_000, 95_000, 100_000]
    assert layout.ticks(-0.3, 0.3, 6) == pytest.approx([-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3])
    assert layout.ticks(0, 4600, 3) == [0, 2000, 4000]


def test_time_ticks_are_round_in_local_time() -> None:
    start = int(datetime(2014, 1, 16, 13, 50, tzinfo=ZoneInfo("Asia/Kolkata")).timestamp()) * SECOND
    svg = picture(replace(EMPTY, tz=ZoneInfo("Asia/Kolkata"), samples=tuple(
        Sample(start + i * 10 * MINUTE, 90_000, 100_000, 0, 0) for i in range(25)
    )))  # fmt: skip
    labels = [e.text for e in of_class(svg, "text", "tick") if re.fullmatch(r"\d\d:\d\d", e.text or "")]
    assert labels == ["14:00", "14:30", "15:00", "15:30", "16:00", "16:30", "17:00", "17:30"]
    assert "local time, UTC+05:30" in "".join(svg.itertext())


# -- figures -----------------------------------------------------------------------------------------------------------


def test_key_figures() -> None:
    samples = (
        sample(0, 97_000),
        sample(10, 98_000),
        sample(30, 99_500, 0, 0),
        sample(40, 94_000, 6_000, 300),
        sample(100, 93_000, 6_000, 300),
    )
    outages = (
        Outage("F1", T0 + 30 * MINUTE, T0 + 90 * MINUTE, 40),
        Outage("F1", T0 + 95 * MINUTE, T0 + 96 * MINUTE, 40),
        Outage("F2", T0 + 35 * MINUTE, None, 2),
    )
    figures = key_figures(replace(EMPTY, samples=samples, outages=outages))
    assert (figures.peak_load_kw, figures.peak_at_us) == (99_500, T0 + 30 * MINUTE)
    assert figures.peak_pct == pytest.approx(99.5)
    assert figures.above_arm_s == 30 * 60
    assert (figures.max_shed_kw, figures.max_open_breakers) == (6_000, 300)
    assert figures.not_served_mwh == pytest.approx(0.5 * 10 / 60 * 6 + 6)
    assert (figures.feeders_affected, figures.customers_affected, figures.still_out) == (2, 42, 1)
    assert (figures.longest_outage_feeder, figures.longest_outage_s) == ("F2", 65 * 60)


def test_a_gap_is_not_counted_as_time_above_the_limit_but_power_stays_shed_through_it() -> None:
    samples = tuple(sample(minute, 99_000, 6_000) for minute in (0, 1, 2, 3, 4, 5, 65))
    figures = key_figures(replace(EMPTY, samples=samples))
    assert figures.above_arm_s == 5 * 60
    assert figures.not_served_mwh == pytest.approx(6 * 65 / 60)


def test_figures_of_nothing() -> None:
    figures = key_figures(EMPTY)
    assert (figures.peak_load_kw, figures.peak_pct, figures.above_arm_s) == (None, None, 0)
    assert (figures.not_served_mwh, figures.longest_outage_s) == (0, 0)
    assert end_us(EMPTY) == T0


def test_how_numbers_are_written() -> None:
    assert [mw(kw) for kw in (None, 512.3, 9_990.0, 13_142.0, 1_234_567.0)] == ["–", "0.51", "9.99", "13.1", "1,235"]
    assert [duration(s) for s in (0, 59.6, 754, 8_340)] == ["0 s", "1 min 00 s", "12 min 34 s", "2 h 19 min"]


# -- the page ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects tags, attributes and text as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


EVIL = "<script>alert('x')</script>\" onload=\"$title & \x00\ud800"


def full(word: str) -> ReportData:
    """A report in which every text is this word."""
    return ReportData(
        site=word,
        title=word,
        summary=word,
        tz=UTC,
        arm_pct=98.0,
        clear_pct=95.0,
        generated_us=T0,
        samples=(sample(0, 90_000), sample(10, 92_000, 5_000, 3)),
        events=(ReportEvent(T0, EventKind.TIER_SHED, word, word, word, word, word),),
        outcomes=(
            FeederOutcome(word, word, FeederState.OPERATED, 1_500.0),
            FeederOutcome(word, "other", FeederState.FAILED, 1_200.0, word),
        ),
        outages=(Outage(word, T0, None, 1),),
        proofs=(Proof(word, word, Verdict.HOLDS),),
        journal_head=word,
        config_sha256=word,
        versions=((word, word),),
        notes=(word,),
    )


def test_every_text_is_escaped_and_the_page_loads_nothing() -> None:
    html = render_report(full(EVIL))
    page = Page(html)
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") or name in ("src", "href") for _, attrs in page.tags for name in attrs)
    assert "http" not in html.replace("http-equiv", "")
    assert "url(" not in html.replace("url(#down)", "")
    assert page.text.count("alert('x')") >= 15
    assert "$title &" in page.text
    html.encode("utf-8")
    ElementTree.fromstring(chart.draw(full(EVIL)))


def test_the_page_tells_the_story() -> None:
    data = replace(
        full("plain"),
        tz=MELBOURNE,
        events=(event(1.5, EventKind.OVERRIDE, "Skip F-0412", actor="j.meyer", reason="patient", detail="tier 3"),),
        proofs=(Proof("Operated twice", "0", Verdict.HOLDS), Proof("Forgotten", "1", Verdict.FAILS)),
        journal_head="9f2c" * 16,
    )
    text = " ".join(Page(render_report(data)).text.split())
    for fact in ("14:01:30", "Skip F-0412", "j.meyer", "patient", "92.0 MW", "9f2c" * 16, "UTC+11:00"):
        assert fact in text
    html = render_report(data)
    assert '<span class="fails">fails</span>' in html
    assert '<span class="holds">holds</span>' in html


def rows(html: str, table: str) -> Iterator[list[str]]:
    body = re.search(rf'<table class="{table}">.*?<tbody>(.*?)</tbody>', html, re.DOTALL)
    assert body
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body[1], re.DOTALL):
        yield [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td>(.*?)</td>", row, re.DOTALL)]


def test_feeders_are_counted_by_tier_and_exceptions_are_named() -> None:
    outcomes = [FeederOutcome(f"F{i}", "tier1", FeederState.OPERATED, 1_000.0) for i in range(1200)]
    outcomes += [FeederOutcome(f"G{i}", "tier2", FeederState.UNKNOWN, 500.0, "silent") for i in range(100)]
    html = render_report(replace(EMPTY, outcomes=tuple(outcomes)))
    assert list(rows(html, "feeders")) == [
        ["tier1", "1,200", "1,200", "0", "0", "0", "1,200"],
        ["tier2", "100", "0", "0", "0", "100", "0.00"],
        ["all", "1,300", "1,200", "0", "0", "100", "1,200"],
    ]
    exceptions = list(rows(html, "exceptions"))
    assert exceptions[0] == ["G0", "tier2", "unknown", "500.0", "silent"]
    assert len(exceptions) == 60
    assert "And 40 more" in html


def test_tables_and_markers_are_bounded_and_say_so() -> None:
    events = tuple(event(i / 10, EventKind.OTHER) for i in range(700))
    html = render_report(replace(EMPTY, events=events))
    assert len(list(rows(html, "events"))) == 500
    assert "And 200 more" in html
    assert len(of_class(picture(replace(EMPTY, events=events)), "circle", "mark")) == layout.MARKERS_AT_MOST
    assert f"marks the first {layout.MARKERS_AT_MOST}" in html


def test_times_over_several_days_show_the_day() -> None:
    events = (event(0, EventKind.ARMED), event(24 * 60, EventKind.FINISHED))
    html = render_report(replace(EMPTY, events=events))
    assert [row[1] for row in rows(html, "events")] == ["16 Jan 14:00:00", "17 Jan 14:00:00"]


# -- CSV ---------------------------------------------------------------------------------------------------------------


def test_csv_has_samples_and_events_by_time() -> None:
    data = replace(
        EMPTY,
        samples=(sample(2, 91_000, 5.5, 3), sample(0, None)),
        events=(event(1, EventKind.OVERRIDE, 'Hold, "now"', actor="j.meyer", reason="=HYPERLINK(1)"),),
    )
    table = list(csv.DictReader(io.StringIO(render_csv(data))))
    assert [row["time"] for row in table] == [
        "2014-01-16T03:00:00.000Z",
        "2014-01-16T03:01:00.000Z",
        "2014-01-16T03:02:00.000Z",
    ]
    assert (table[0]["load_kw"], table[2]["load_kw"], table[2]["open_breakers"]) == ("", "91000", "3")
    assert (table[1]["event"], table[1]["title"], table[1]["reason"]) == ("override", 'Hold, "now"', "'=HYPERLINK(1)")


def test_csv_of_nothing_is_a_header() -> None:
    assert render_csv(EMPTY).count("\n") == 1
