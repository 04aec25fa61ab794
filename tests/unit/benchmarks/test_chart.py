"""The drawing: every point is where its value says, and the y axis begins at 0."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from benchmarks.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Series, ceiling, draw

SVG = "{http://www.w3.org/2000/svg}"


def test_points_lie_where_their_values_say() -> None:
    root = ElementTree.fromstring(draw("cost", "records", "µs", [Series("a", [(1_000, 25.0), (100_000, 50.0)])]))
    first, second = root.findall(f"{SVG}circle")
    assert float(first.attrib["cx"]) == LEFT
    assert float(second.attrib["cx"]) == WIDTH - RIGHT
    assert float(second.attrib["cy"]) == TOP
    assert float(first.attrib["cy"]) == pytest.approx((TOP + HEIGHT - BOTTOM) / 2)


def test_each_line_is_named_and_what_could_be_markup_is_not() -> None:
    text = draw("a < b", "x", "µs", [Series("one", [(1, 1)]), Series("two & three", [(10, 2)])])
    said = [element.text for element in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert {"one", "two & three"} <= set(said)
    assert len(re.findall("<polyline", text)) == 2


@pytest.mark.parametrize(("value", "above"), [(1.0, 1.0), (3.2, 5.0), (51.0, 100.0), (0.012, 0.02)])
def test_the_axis_ends_at_a_round_number(value: float, above: float) -> None:
    assert ceiling(value) == pytest.approx(above)


def test_nothing_is_no_drawing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        draw("cost", "records", "µs", [])
