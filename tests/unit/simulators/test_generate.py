"""The site generator: repeatable, of the stated mix, and readable by both readers, the simulator's and the gateway's."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.device_models import NodeBreakerPoints
from config.loader import load_site
from config.nodes import format_bit, format_command
from simulators.generate import Plan, generate, host, start_clock
from simulators.modbus import BreakerPoints, parse_point
from simulators.opcua.points import NodePoints, parse_bit, parse_command
from simulators.site import DeviceRow, OpcuaRow, read_site


def test_the_full_site_has_its_mix(tmp_path: Path) -> None:
    generate(tmp_path, Plan())
    site = read_site(tmp_path)
    assert len(site.devices) == 121
    assert len(site.feeders) == 12_000
    tiers = Counter(feeder.tier for feeder in site.feeders)
    assert tiers == {"Tier1": 3000, "Tier2": 4200, "Tier3": 3000, "": 1800}
    assert {feeder.load_class for feeder in site.feeders if feeder.tier == "Tier1"} == {"ev", "pool"}
    assert len({(d.host, d.port) for d in site.devices}) == 121
    assert (site.devices[0].host, site.devices[119].host) == ("127.0.1.1", "127.0.1.120")
    assert 50_000 < site.capacity_kw < 250_000


def test_the_point_map(tmp_path: Path) -> None:
    generate(tmp_path, Plan(rtus=2, breakers=100))
    feeder = read_site(tmp_path).feeders[106]
    assert (feeder.name, feeder.device) == ("F002-007", "RTU002")
    seventh = feeder.points
    assert isinstance(seventh, BreakerPoints)
    assert [seventh.pos_closed, seventh.pos_open, seventh.local] == [
        parse_point(p) for p in ("di:12", "di:13", "di:206")
    ]
    assert [seventh.open_cmd, seventh.close_cmd] == [parse_point("coil:12"), parse_point("coil:13")]
    assert [seventh.power_kw, seventh.op_count] == [parse_point("ir:6:u16*0.1"), parse_point("ir:106")]


def test_the_same_plan_gives_the_same_files(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(tmp_path / name, Plan(rtus=2, breakers=20, seed=seed))
    one, same, other = ((tmp_path / name / "feeders.csv").read_text() for name in "abc")
    assert one == same
    assert one != other


def test_the_gateways_loader_takes_it_without_a_warning(tmp_path: Path) -> None:
    origin = datetime(2014, 1, 16, 1, tzinfo=UTC)
    wall_origin = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    generate(tmp_path, Plan(rtus=4, breakers=10, rate=60.0, origin=origin, wall_origin=wall_origin, port=15999))
    theirs, ours = load_site(tmp_path), read_site(tmp_path)
    assert theirs.warnings == ()
    assert [(d.name, d.host, d.port, d.unit) for d in theirs.devices] == [
        (d.name, d.host, d.port, d.unit) for d in ours.devices if isinstance(d, DeviceRow)
    ]
    assert [(f.name, f.device, f.tier or "", f.rated_kw) for f in theirs.feeders] == [
        (f.name, f.device, f.tier, f.rated_kw) for f in ours.feeders
    ]
    clock = theirs.gateway.simulated_clock
    assert clock is not None
    assert (clock.rate, clock.origin, clock.wall_origin) == (60.0, origin, wall_origin)
    assert ours.clock is not None
    assert (ours.clock.rate, ours.clock.origin, ours.clock.wall_origin) == (60.0, origin, wall_origin)
    assert not any(feeder.critical and feeder.tier for feeder in theirs.feeders)
    assert any(feeder.critical for feeder in theirs.feeders)


def test_the_last_rtus_speak_opc_ua(tmp_path: Path) -> None:
    generate(tmp_path, Plan(rtus=4, breakers=4, opcua_rtus=2))
    site = read_site(tmp_path)
    assert [isinstance(device, OpcuaRow) for device in site.devices] == [False, False, True, True, False]
    points = {feeder.name: feeder.points for feeder in site.feeders}
    direct, by_select = points["F003-002"], points["F004-002"]
    assert isinstance(direct, NodePoints)
    assert isinstance(by_select, NodePoints)
    assert (direct.pos_open, direct.close_cmd) == (
        parse_bit("s=F003-002/Pos==1"),
        parse_command("s=F003-002->s=F003-002/Close()"),
    )
    assert (direct.select_open, by_select.select_close) == (None, parse_command("s=F004-002->s=F004-002/Select(true)"))
    assert isinstance(points["F002-004"], BreakerPoints)


def test_both_readers_agree_on_opc_ua(tmp_path: Path) -> None:
    generate(tmp_path, Plan(rtus=3, breakers=4, opcua_rtus=2, operators=("127.0.64.9", 4841)))
    theirs, ours = load_site(tmp_path), read_site(tmp_path)
    assert theirs.warnings == ()
    assert theirs.operators is not None
    assert (theirs.operators.host, theirs.operators.port) == ("127.0.64.9", 4841)
    access = {device.name: device.opcua for device in theirs.devices if device.opcua is not None}
    assert {name: (one.namespace, one.server_cert, one.user, one.secret_file) for name, one in access.items()} == {
        row.name: (row.namespace, row.certificate, row.user, row.secret_file)
        for row in ours.devices
        if isinstance(row, OpcuaRow)
    }
    assert len({one.policy for one in access.values()}) == 2
    for known, own in zip(theirs.feeders, ours.feeders, strict=True):
        if not isinstance(own.points, NodePoints):
            continue
        assert isinstance(known.points, NodeBreakerPoints)
        assert format_bit(known.points.pos_closed) == f"{own.points.pos_closed.node}==2"
        assert format_command(known.points.open_cmd).startswith(str(own.points.open_cmd.object))  # type: ignore[union-attr]
        assert (known.points.select_open is None) == (own.points.select_open is None)


def test_without_a_rate_the_site_runs_in_real_time(tmp_path: Path) -> None:
    generate(tmp_path, Plan(rtus=1, breakers=2))
    assert read_site(tmp_path).clock is None
    assert load_site(tmp_path).gateway.simulated_clock is None


def test_addresses_go_on_past_250() -> None:
    assert [host("127.0.1.1", i) for i in (0, 119, 249, 250, 500)] == [
        "127.0.1.1", "127.0.1.120", "127.0.1.250", "127.0.2.1", "127.0.3.1",
    ]  # fmt: skip
    assert host("127.0.71.5", 3) == "127.0.71.8"


@pytest.mark.parametrize("plan", [Plan(rtus=0), Plan(breakers=0), Plan(breakers=1001), Plan(rtus=2, opcua_rtus=3)])
def test_a_plan_that_cannot_be_is_refused(tmp_path: Path, plan: Plan) -> None:
    with pytest.raises(ValueError, match="RTUs"):
        generate(tmp_path, plan)


def test_the_default_origin_is_noon_of_the_16th_now(tmp_path: Path) -> None:
    generate(tmp_path, Plan(rtus=1, breakers=2, rate=120))
    clock = read_site(tmp_path).clock
    assert clock is not None
    assert clock.origin.isoformat() == "2014-01-16T12:00:00+11:00"
    assert abs(clock.wall_origin - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_clock_of_a_site_can_begin_later(tmp_path: Path) -> None:
    early = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    generate(tmp_path, Plan(rtus=1, breakers=2, rate=120, wall_origin=early))
    before = read_site(tmp_path).clock
    start_clock(tmp_path)
    after = read_site(tmp_path).clock
    assert before is not None
    assert after is not None
    assert (after.rate, after.origin) == (before.rate, before.origin)
    assert abs(after.wall_origin - datetime.now(UTC)) < timedelta(minutes=1)
