"""The process image: what is good, for how long, and what counts as a change."""

from __future__ import annotations

import math

from protocols.base import Position, Quality
from protocols.image import BreakerCell, DeviceImage, Field, MeasurementCell, Source, worst


def an_image(stale_after_s: float = 5.0):
    image = DeviceImage()
    image.set_link_up(True)
    source = Source(stale_after_s)
    cell = BreakerCell("F1", power_stale_s=10.0)
    for what in (Field.CLOSED, Field.OPEN, Field.LOCAL, Field.OP_COUNT, Field.POWER):
        cell.feed(what, source)
    source.cells.append(cell)
    image.breakers["F1"] = cell
    image.sources.append(source)
    return image, source, cell


def read(image, source, cell, now, **values):
    source.read_at = now
    source.failures = 0
    for name, value in values.items():
        cell.values[Field[name.upper()]] = value
    image.touch(cell)


def test_never_read_is_unknown_and_bad_and_no_news():
    image, _, _ = an_image()
    reading = image.breaker("F1", 100.0)
    assert (reading.position, reading.quality, reading.local) == (Position.UNKNOWN, Quality.BAD, None)
    assert image.changes(100.0) == []


def test_a_first_reading_is_a_change_and_the_same_again_is_none():
    image, source, cell = an_image()
    read(image, source, cell, 100.0, closed=1.0, open=0.0, local=0.0, op_count=7.0, power=120.5)
    [(name, reading)] = image.changes(100.0)
    assert (name, reading.position, reading.quality) == ("F1", Position.CLOSED, Quality.GOOD)
    assert (reading.local, reading.op_count, reading.power_kw, reading.read_at) == (False, 7, 120.5, 100.0)
    read(image, source, cell, 101.0, power=130.0)
    assert image.changes(101.0) == []


def test_each_of_position_local_and_counter_is_a_change():
    image, source, cell = an_image()
    read(image, source, cell, 100.0, closed=1.0, open=0.0, local=0.0, op_count=7.0)
    image.changes(100.0)
    for change in ({"closed": 0.0}, {"local": 1.0}, {"op_count": 8.0}):
        read(image, source, cell, 101.0, **change)
        assert len(image.changes(101.0)) == 1


def test_contacts_make_the_position():
    image, source, cell = an_image()
    for closed, opened, position in (
        (1.0, 0.0, Position.CLOSED),
        (0.0, 1.0, Position.OPEN),
        (0.0, 0.0, Position.INTERMEDIATE),
        (1.0, 1.0, Position.BAD),
    ):
        read(image, source, cell, 100.0, closed=closed, open=opened)
        assert image.breaker("F1", 100.0).position is position


def test_age_alone_makes_a_value_uncertain_once():
    image, source, cell = an_image(stale_after_s=5.0)
    read(image, source, cell, 100.0, closed=1.0, open=0.0)
    image.changes(100.0)
    assert image.changes(105.0) == []
    [(_, reading)] = image.changes(105.1)
    assert (reading.position, reading.quality) == (Position.CLOSED, Quality.UNCERTAIN)
    assert image.changes(106.0) == []
    assert image.breaker("F1", 106.0).quality is Quality.UNCERTAIN
    read(image, source, cell, 107.0)
    [(_, reading)] = image.changes(107.0)
    assert reading.quality is Quality.GOOD


def test_one_failed_read_is_a_hiccup_two_are_bad():
    image, source, cell = an_image()
    read(image, source, cell, 100.0, closed=1.0, open=0.0)
    image.changes(100.0)
    source.failures = 1
    assert image.changes(100.5) == []
    source.failures = 2
    [(_, reading)] = image.changes(101.0)
    assert (reading.position, reading.quality) == (Position.CLOSED, Quality.BAD)


def test_a_link_that_is_away_makes_all_bad_and_hides_the_load():
    image, source, cell = an_image()
    read(image, source, cell, 100.0, closed=1.0, open=0.0, power=50.0)
    image.changes(100.0)
    image.set_link_up(False)
    [(_, reading)] = image.changes(100.1)
    assert (reading.position, reading.quality, reading.power_kw) == (Position.CLOSED, Quality.BAD, None)


def test_an_old_load_is_not_shown():
    image, source, cell = an_image(stale_after_s=60.0)
    read(image, source, cell, 100.0, closed=1.0, open=0.0, power=50.0)
    assert image.breaker("F1", 110.0).power_kw == 50.0
    assert image.breaker("F1", 110.1).power_kw is None


def test_what_is_no_number_is_not_shown():
    image, source, cell = an_image()
    read(image, source, cell, 100.0, closed=1.0, open=0.0, power=math.nan, op_count=math.inf)
    [(_, reading)] = image.changes(100.0)
    assert (reading.power_kw, reading.op_count) == (None, None)


def test_position_from_two_reads_is_as_good_and_as_old_as_the_worse():
    image, source, cell = an_image()
    other = Source(5.0)
    cell.feed(Field.OPEN, other)
    image.sources.append(other)
    read(image, source, cell, 100.0, closed=1.0, open=0.0)
    assert image.breaker("F1", 100.0).quality is Quality.BAD
    other.read_at = 94.0
    reading = image.breaker("F1", 100.0)
    assert (reading.quality, reading.read_at) == (Quality.UNCERTAIN, 94.0)


def test_the_measurement_has_an_age_of_its_own():
    image = DeviceImage()
    source = Source(60.0)
    cell = image.measurements["load"] = MeasurementCell("load", 3.0, source)
    assert image.measurement("load", 100.0).quality is Quality.BAD
    image.set_link_up(True)
    cell.value, source.read_at = 42.0, 100.0
    assert image.measurement("load", 103.0).quality is Quality.GOOD
    late = image.measurement("load", 103.1)
    assert (late.value, late.quality, late.read_at) == (42.0, Quality.UNCERTAIN, 100.0)
    cell.value = math.nan
    assert image.measurement("load", 100.0) == type(late)(None, Quality.BAD, 100.0)
    cell.value = 42.0
    image.set_link_up(False)
    assert image.measurement("load", 100.0).quality is Quality.BAD


def test_worst():
    assert worst([Quality.GOOD, Quality.UNCERTAIN]) is Quality.UNCERTAIN
    assert worst([Quality.BAD, Quality.UNCERTAIN]) is Quality.BAD
    assert worst([]) is Quality.GOOD
