"""The simulator's own reader: addresses, and errors that name their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.generate import Plan, generate
from simulators.modbus import Point, Space, parse_point
from simulators.site import DeviceRow, SiteError, read_site


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("di:17", Point(Space.DISCRETE, 17)),
        ("coil:3", Point(Space.COIL, 3)),
        ("hr:120.3", Point(Space.HOLDING, 120, bit=3)),
        ("ir:40:u32*0.1", Point(Space.INPUT, 40, kind="u32", scale=0.1)),
        ("ir:2:s16*0.1-40", Point(Space.INPUT, 2, kind="s16", scale=0.1, offset=-40.0)),
        ("ir:2:s16*1e-1+5", Point(Space.INPUT, 2, kind="s16", scale=0.1, offset=5.0)),
        ("hr:7:f32", Point(Space.HOLDING, 7, kind="f32")),
    ],
)
def test_addresses(text: str, point: Point) -> None:
    assert parse_point(text) == point


@pytest.mark.parametrize("text", ["", "di", "xx:3", "di:-1", "hr:1:u64", "hr:1*2", "hr:a"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        parse_point(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generate(tmp_path, Plan(rtus=2, breakers=4, rate=60))
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("devices.csv", "15020", "many", r"devices.csv:2: port must be a whole number, not 'many'"),
        ("feeders.csv", "di:2,", "di2,", r"feeders.csv:3: pos_closed: 'di2' is no address"),
        ("feeders.csv", "F001-002", "F001-001", "1 feeder names are used more than once"),
        ("feeders.csv", "RTU002", "RTU9", "is on device 'RTU9'"),
        ("site.toml", "capacity_kw", "capacity", "'capacity_kw' is missing"),
        ("site.toml", "[transformer]", "[transformer", r"site.toml: "),
        ("site.toml", "rate = 60.0", "rate = 0", "rate must be above 0"),
        ("site.toml", "12:00:00+11:00", "12:00:00", "need an offset"),
        ("site.toml", "feeders.csv", "none.csv", "none.csv: No such file"),
    ],
)
def test_errors_name_their_place(folder: Path, file: str, old: str, new: str, message: str) -> None:
    change(folder / file, old, new)
    with pytest.raises(SiteError, match=message):
        read_site(folder)


def test_no_site_at_all(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match=r"site\.toml: No such file"):
        read_site(tmp_path / "nowhere")


def test_comments_blank_lines_and_any_order_of_columns(folder: Path) -> None:
    (folder / "devices.csv").write_text(
        "# our RTUs\n\nunit,port,host,name\n1,15020,127.0.1.1,RTU001\n\n# second\n2,15020,127.0.1.2,RTU002\n"
        "1,15020,127.0.1.3,TX\n"
    )
    assert [(d.name, d.unit) for d in read_site(folder).devices if isinstance(d, DeviceRow)] == [
        ("RTU001", 1),
        ("RTU002", 2),
        ("TX", 1),
    ]
