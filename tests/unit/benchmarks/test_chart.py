"""The drawing: every point is where its value says, the y axis begins at 0, and both axes say what they count."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from benchmarks.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Panel, ceiling, draw

SVG = "{http://www.w3.org/2000/svg}"
POINTS = [(1_000, 30.0), (10_000, 20.0), (100_000, 51.0)]


def test_points_lie_where_their_values_say() -> None:
    root = ElementTree.fromstring(draw("cost", [Panel("a", "records", "CPU, µs", POINTS)]))
    first, second, third = root.iter(f"{SVG}circle")
    assert float(first.attrib["cx"]) == LEFT
    assert float(second.attrib["cx"]) == pytest.approx((LEFT + WIDTH - RIGHT) / 2)
    assert float(third.attrib["cx"]) == WIDTH - RIGHT
    assert float(first.attrib["cy"]) == pytest.approx((TOP + HEIGHT - BOTTOM) / 2, abs=0.1)  # the axis ends at 60


def test_each_panel_names_its_axes_and_what_could_be_markup_is_not() -> None:
    panels = [Panel("one", "records", "CPU, µs", POINTS), Panel("two & three", "entities", "time, ms", POINTS)]
    text = draw("a < b", panels)
    said = [element.text for element in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert {"a < b", "one", "two & three", "records", "CPU, µs", "entities", "time, ms"} <= set(said)
    assert len(re.findall("<circle", text)) == 6


def test_what_is_beside_is_dashed_and_has_room() -> None:
    text = draw("cost", [Panel("a", "records", "µs", POINTS, [(1_000, 90.0), (100_000, 95.0)])])
    dashed, line = ElementTree.fromstring(text).iter(f"{SVG}polyline")
    assert "stroke-dasharray" in dashed.attrib
    assert all(float(place.split(",")[1]) >= TOP for place in dashed.attrib["points"].split())
    assert "stroke-dasharray" not in line.attrib


@pytest.mark.parametrize(("value", "above"), [(1.0, 1.0), (3.2, 4.0), (51.0, 60.0), (0.012, 0.02)])
def test_the_axis_ends_at_a_round_number(value: float, above: float) -> None:
    assert ceiling(value) == pytest.approx(above)


@pytest.mark.parametrize("panels", [[], [Panel("a", "records", "µs", [])]])
def test_nothing_is_no_drawing(panels: list[Panel]) -> None:
    with pytest.raises(ValueError, match="nothing"):
        draw("cost", panels)
