"""A good site loads as written; a bad one gives every error at once, each with file, line and what to write."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from datetime import time as clock_time
from pathlib import Path

import pytest

from config import ConfigErrors, ConfigProblem, Site, load_site
from config.models import AfterRestart, BadMeasurement, JournalCare, Mode

Edited = Callable[[str, str, str], Site]


def test_the_example_loads_without_a_warning(site) -> None:
    loaded = site.load()
    assert loaded.warnings == ()
    assert (len(loaded.devices), len(loaded.feeders), len(loaded.tiers)) == (2, 12, 3)
    assert loaded.shedding.mode is Mode.MONITOR
    assert loaded.shedding.after_restart is AfterRestart.CONTINUE_IF_CLEAN
    assert loaded.transformer.bad_measurement is BadMeasurement.HOLD
    assert loaded.gateway.state_dir == site.path / "state"
    assert loaded.gateway.socket_mode == 0o660
    assert [tier.name for tier in loaded.tiers] == ["tier1", "tier2", "tier3"]


def test_a_feeder_is_read_cell_by_cell(site) -> None:
    feeder = site.load().feeders[0]
    assert (feeder.name, feeder.device, feeder.tier, feeder.customers) == ("F01", "rtu1", "tier1", 40)
    assert (feeder.critical, feeder.sheddable, feeder.ufls_stage) == (False, True, None)
    assert (feeder.points.close_cmd.number, feeder.points.power_kw.scale) == (1, 0.1)
    assert feeder.line == site.line_of("feeders.csv", "F01,")


def test_device_defaults_hold_unless_a_row_says_otherwise(edited: Edited) -> None:
    loaded = edited("site.toml", "timeout_s = 1.0", "timeout_s = 0.75")
    assert [device.timeout_s for device in loaded.devices] == [0.75, 2.5]
    assert {device.max_gap for device in loaded.devices} == {16}


def test_the_file_itself_may_be_named_and_a_relative_path_works(site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(site.path.parent)
    loaded = load_site(Path("site/site.toml"))
    assert loaded == load_site(Path("site"))
    assert loaded.gateway.socket.is_absolute()


def test_tiers_come_in_the_order_of_their_rank(edited: Edited) -> None:
    assert [t.name for t in edited("site.toml", "rank = 1 ", "rank = 9 ").tiers] == ["tier2", "tier3", "tier1"]


def test_simulated_clock(edited: Edited) -> None:
    table = "rate = 60.0\norigin = 2014-01-16T12:00:00+11:00\nwall_origin = 2026-01-05T09:00:00Z"
    clock = edited("site.toml", "[transformer]", f"[gateway.simulated_clock]\n{table}\n[transformer]").gateway
    assert clock.simulated_clock is not None
    assert clock.simulated_clock.rate == 60.0
    assert clock.simulated_clock.origin == datetime(2014, 1, 16, 1, tzinfo=UTC)


def test_programs_are_modules_or_files_of_the_site(site) -> None:
    (site.path / "heat.py").write_text("")
    site.replace("site.toml", "programs = []", 'programs = ["my.procedures", "heat.py"]')
    assert site.load().gateway.programs == ("my.procedures", str(site.path / "heat.py"))
    (site.path / "heat.py").unlink()
    assert "there is no file" in site.problem().what


def test_hosts_that_may_be_called_are_named_with_their_ports(site) -> None:
    assert site.load().gateway.http_hosts == ()
    site.replace("site.toml", "http_hosts = []", 'http_hosts = ["Weather.Example:443", "10.0.0.7:8080"]')
    assert site.load().gateway.http_hosts == ("weather.example:443", "10.0.0.7:8080")


def test_the_care_of_the_journal(site) -> None:
    said = site.load().journal
    assert said == JournalCare(site.path / "state" / "archive")
    site.replace("site.toml", "[journal]", "[journal]  # as its defaults")
    site.replace("site.toml", 'archive_dir = "state/archive"', 'archive_dir = "/mnt/archive"')
    site.replace("site.toml", 'integrity_check_at = "03:30"', "integrity_check_at = 23:05:00")
    assert site.load().journal == JournalCare(Path("/mnt/archive"), integrity_check_at=clock_time(23, 5))


def test_archives_lie_beside_the_journal_unless_something_else_is_said(site) -> None:
    text = (site.path / "site.toml").read_text()
    before, _, rest = text.partition("[journal]")
    (site.path / "site.toml").write_text(before + rest[rest.index("# Only for simulated sites") :])
    site.replace("site.toml", 'state_dir = "state" ', 'state_dir = "/var/lib/x" ')
    assert site.load().journal == JournalCare(Path("/var/lib/x/archive"))


# -- one mistake, one problem, in the right place ----------------------------------------------------------------------

ONE_MISTAKE = [
    ("site.toml", "arm_pct = 98.0", "arm_ptc = 98.0", "unknown key 'arm_ptc'", "did you mean 'arm_pct'"),
    ("site.toml", "[trigger] ", "[triger] ", "unknown table or key 'triger'", "did you mean 'trigger'"),
    ("site.toml", "arm_pct = 98.0", "arm_pct = 250", "out of range", "above 0 to 200 (percent)"),
    ("site.toml", "arm_pct = 98.0", "arm_pct = nan", "out of range", "percent"),
    ("site.toml", "arm_pct = 98.0", 'arm_pct = "98"', "is no number", "percent"),
    ("site.toml", "arm_pct = 98.0", "arm_pct = true", "is no number", "percent"),
    ("site.toml", "cooldown_s = 600.0", "cooldown_s = 0", "out of range", "above 0"),
    ("site.toml", "max_operations_per_hour = 6 ", "max_operations_per_hour = 6.5 ", "not a whole number", "from 1"),
    ("site.toml", 'mode = "monitor" ', 'mode = "armd" ', "none of the words", "did you mean 'armed'"),
    ("site.toml", 'mode = "monitor" ', "# ", "has no 'mode'", "mode = ..."),
    ("site.toml", 'socket_mode = "0660"', 'socket_mode = "0666"', "lets everybody in", '"0660"'),
    ("site.toml", 'socket_mode = "0660"', "socket_mode = 660", "no file mode", '"0660"'),
    ("site.toml", 'socket = "state/', f'socket = "{"x" * 120}/', "path of the socket", "/run/gridlatch"),
    ("site.toml", "programs = []", 'programs = ["my-module"]', "neither a module", "heat.py"),
    ("site.toml", "http_hosts = []", 'http_hosts = ["weather.example"]', "no host with its port", ":443"),
    ("site.toml", "http_hosts = []", 'http_hosts = ["http://a:80"]', "no host with its port", ":443"),
    ("site.toml", "http_hosts = []", 'http_hosts = ["a:99999"]', "no host with its port", ":443"),
    ("site.toml", "keep_days = 90", "keep_days = -1", "out of range", "from 0 to 36500 (days)"),
    ("site.toml", "keep_days = 90", "keep_for = 90", "unknown key 'keep_for' in [journal]", "keep_days"),
    ("site.toml", "disk_budget_mb = 0", "disk_budget_mb = 100", "may take 128 MB", "256 or more, or 0"),
    ("site.toml", "disk_budget_mb = 0", "disk_budget_mb = 1e4", "not a whole number", "(MB)"),
    ("site.toml", '"03:30"', '"3:30"', "'3:30' is no time of day", '"03:30"'),
    ("site.toml", '"03:30"', '"24:00"', "'24:00' is no time of day", '"03:30"'),
    ("site.toml", '"03:30"', "330", "330 is no time of day", '"03:30"'),
    ("site.toml", "head_every_s = 600.0", "head_every_s = 1", "out of range", "from 10"),
    ("site.toml", 'archive_dir = "state/archive"', 'archive_dir = "state/."', "is state_dir itself", "/archive"),
    ("site.toml", 'name = "Riverside"', 'name = ""', "empty", "characters"),
    ("site.toml", "rank = 2", "rank = 1", "as has tier 'tier1'", "rank = 2"),
    ("site.toml", "rank = 2", "wait = 5\nrank = 2", "unknown key 'wait' in [tier]", "rank"),
    ("site.toml", 'name = "tier2"', 'name = "tier1"', "tier 'tier1' stands already in line", "used once"),
    ("site.toml", "clear_pct = 95.0", "clear_pct = 98.0", "clear_pct = 98 is not below arm_pct", "below 98"),
    ("site.toml", "limit_pct = 95.0", "limit_pct = 98.0", "limit_pct = 98 is not below", "below 98"),
    ("site.toml", "target_pct = 95.0", "target_pct = 99", "is not below trigger.arm_pct", "below 98"),
    ("site.toml", "stage_pct = 5.0", "stage_pct = 96", "is not below limit_pct", "below 95"),
    ("site.toml", 'load = "t1_load"', 'load = "t1_laod"', "no measurement 't1_laod'", "did you mean 't1_load'"),
    ("site.toml", 'ambient = "t1_ambient"', 'ambient = "x"', "no measurement 'x'", "t1_ambient"),
    ("site.toml", 'devices = "devices.csv"', 'devices = "none.csv"', "there is no file", "path"),
    ("site.toml", 'name = "T1"', 'name = "T1', "this is not TOML", "key ="),
    ("site.toml", 'load = "t1_load"', 'name = "T2"', "this key stands there twice", "each key once"),
    ("site.toml", "timeout_s = 1.0", "timeout = 1.0", "unknown key 'timeout' in [device_defaults]", "timeout_s"),
    ("devices.csv", "192.0.2.11,502,1", "192.0.2.11,502,0", "broadcast", "1 to 255"),
    ("devices.csv", "192.0.2.11,502,1", "192.0.2.11,70000,1", "out of range", "65535"),
    ("devices.csv", "192.0.2.12", "192.0.2.11", "as is 'rtu1'", "another host"),
    ("feeders.csv", "F02,rtu1,tier1,no", "F02,rtu1,tier1,yes", "critical", "an empty tier"),
    ("feeders.csv", "F02,rtu1,tier1,no", "F02,rtu1,tier1,maybe", "neither yes nor no", "yes or no"),
    ("feeders.csv", "F02,rtu1,tier1", "F02,rtu1,teir1", "tier 'teir1'", "did you mean 'tier1'"),
    ("feeders.csv", "F02,rtu1", "F02,rtu9", "on device 'rtu9'", "did you mean 'rtu"),
    ("feeders.csv", "F02,", "F01,", "stands already in line", "used once"),
    ("feeders.csv", "F02,", "F 02,", "can't be a name", "F_02"),
    ("feeders.csv", "F02,", ",", "is empty", "a value for name"),
    ("feeders.csv", "F02,", f"{'F' * 65},", "can't be a name", "64"),
    ("feeders.csv", "di:2,di:3", "di:2,di:2", "as pos_closed and as pos_open", "of this breaker alone"),
    ("feeders.csv", "di:2,di:3", "di:2,di:1", "which is pos_open of 'F01'", "of this breaker alone"),
    ("feeders.csv", "coil:2,coil:3", "coil:2,coil:2", "as open_cmd and as close_cmd", "of this breaker alone"),
    ("feeders.csv", "coil:2,coil:3", "coil:0,coil:3", "which is open_cmd of 'F01'", "of this breaker alone"),
    ("feeders.csv", "coil:2,coil:3", "di:90,coil:3", "can't be written", "coil:90"),
    ("feeders.csv", "coil:2,coil:3", "hr:9:u32,coil:3", "neither type nor scale", "hr:9"),
    ("feeders.csv", "hr:202,hr:203", "hr:200.1,hr:203", "which is open_cmd of 'F07'", "alone"),
    ("feeders.csv", "di:2,di:3", "ir:2,di:3", "not a bit", "ir:2.0"),
    ("feeders.csv", "di:2,di:3", "di:2,", "pos_open of 'F02' is empty", "a value for pos_open"),
    ("feeders.csv", "ir:101:u16*0.1", "di:101", "one bit, not a number", "ir:40"),
    ("feeders.csv", "no,yes,,260", "no,yes,,-1", "out of range", "kW"),
    ("feeders.csv", "no,yes,,260", "no,yes,,1_0", "no number", "kW"),
    ("feeders.csv", "no,yes,,260", "no,yes,260", "17 cells", "18 cells"),
    ("feeders.csv", "load_class,travel_s", "load_class,travel", "unknown column 'travel'", "did you mean 'travel_s'"),
    ("feeders.csv", "load_class,travel_s", "load_class,group", "stands twice", "once"),
    ("feeders.csv", "F02,", '"F02,', "not CSV", "quotes in pairs"),
    ("measurements.csv", "t1_ambient,rtu1", "t1_ambient,rtu3", "on device 'rtu3'", "did you mean 'rtu"),
    ("measurements.csv", "ir:302:s16*0.1", "di:302", "one bit", "ir:40"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "what", "write_instead"), ONE_MISTAKE)
def test_one_mistake_gives_one_problem(site, file: str, old: str, new: str, what: str, write_instead: str) -> None:
    line = site.replace(file, old, new)
    problem = site.problem()
    assert problem.file == str(site.path / file)
    assert what in problem.what
    assert write_instead in problem.write_instead
    if "has no" not in what and "not CSV" not in what:
        assert problem.line == line


def test_a_missing_required_key_is_told_at_its_table(site) -> None:
    site.replace("site.toml", 'mode = "monitor"', "# mode")
    assert site.problem().line == site.line_of("site.toml", "[shedding]")


def test_a_missing_table_and_missing_columns(site) -> None:
    site.replace("site.toml", "[transformer]", "[device_defaults.x]")
    assert any("[transformer] is missing" in problem.what for problem in site.problems())
    site.replace("devices.csv", "host,port,unit", "host,port")
    assert any("columns are missing: unit" in problem.what for problem in site.problems())


def test_all_errors_are_told_at_once_in_the_order_of_the_files(site) -> None:
    site.replace("site.toml", "arm_for_s = 60.0", "arm_for_s = -1")
    site.replace("site.toml", "rank = 3", 'rank = "last"')
    site.replace("devices.csv", "192.0.2.11,502", "192.0.2.11,0")
    site.replace("feeders.csv", "F05,rtu1", "F05,rtu7")
    site.replace("feeders.csv", "di:10,di:11", "di:10,dl:11")
    site.replace("measurements.csv", "ir:302:s16*0.1", "ir:99999")
    problems = site.problems()
    assert [(Path(p.file).name, p.line) for p in problems] == [
        ("site.toml", site.line_of("site.toml", "arm_for_s")),
        ("site.toml", site.line_of("site.toml", 'rank = "last"')),
        ("devices.csv", site.line_of("devices.csv", "rtu1,")),
        ("feeders.csv", site.line_of("feeders.csv", "F06")),
        ("measurements.csv", site.line_of("measurements.csv", "t1_ambient")),
        ("feeders.csv", site.line_of("feeders.csv", "F05")),
    ]


# -- files that can't be read ------------------------------------------------------------------------------------------


def bom(raw: bytes) -> bytes:
    return b"\xef\xbb\xbf" + raw


def crlf(raw: bytes) -> bytes:
    return raw.replace(b"\n", b"\r\n")


def latin1(raw: bytes) -> bytes:
    return raw + "# Dübel\n".encode("latin-1")


def utf16(raw: bytes) -> bytes:
    return raw.decode().encode("utf-16")


def nul(raw: bytes) -> bytes:
    return raw + b"\0\n"


def nothing(raw: bytes) -> bytes:
    return b" \n"


@pytest.mark.parametrize("file", ["site.toml", "devices.csv", "feeders.csv", "measurements.csv"])
@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (bom, "byte order mark"),
        (crlf, "CR LF"),
        (latin1, "not UTF-8"),
        (utf16, "byte order mark"),
        (nul, "NUL"),
        (nothing, "empty"),
    ],
)
def test_a_damaged_file_gives_one_problem(site, file: str, damage: Callable[[bytes], bytes], what: str) -> None:
    path = site.path / file
    raw = damage(path.read_bytes())
    path.write_bytes(raw)
    problem = site.problem()
    assert problem.file == str(path)
    assert what in problem.what
    if damage in (latin1, nul):
        assert problem.line == raw.count(b"\n")


def test_a_file_with_a_header_and_no_rows(site) -> None:
    (site.path / "feeders.csv").write_text((site.path / "feeders.csv").read_text().split("F01")[0])
    assert "has no rows" in site.problem().what


def test_files_that_are_not_there_are_told_where_they_are_named(site) -> None:
    (site.path / "feeders.csv").unlink()
    problem = site.problem()
    assert (Path(problem.file).name, problem.line) == ("site.toml", site.line_of("site.toml", "feeders ="))
    (site.path / "feeders.csv").mkdir()
    assert "not a regular file" in site.problem().what
    (site.path / "site.toml").unlink()
    assert "there is no file" in site.problem().what


def test_a_fifo_does_not_hold_the_loader(site) -> None:
    (site.path / "devices.csv").unlink()
    os.mkfifo(site.path / "devices.csv")
    assert "not a regular file" in site.problem().what


# -- warnings, printing, hash, speed -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "old", "new", "warning"),
    [
        ("feeders.csv", "F02,rtu1,tier1,no,yes,,", "F02,rtu1,tier1,no,yes,2,", "under-frequency stage 2"),
        ("site.toml", "[files]", '[[tier]]\nname = "t9"\nrank = 9\n[files]', "tier 't9' has no feeders"),
        ("devices.csv", "rtu2,192.0.2.12", "rtu3,192.0.2.13,502,1,\nrtu2,192.0.2.12", "'rtu3' has neither"),
        ("site.toml", "capacity_kw = 6000.0", "capacity_kw = 6.0", "in another unit"),
        ("site.toml", "poll_fast_s = 1.0", "poll_fast_s = 5.0", "often be stale"),
        ("site.toml", "late_move_s = 60.0", "late_move_s = 29.0", "late_move_s = 30 or more is safe"),
    ],
)
def test_warnings(edited: Edited, file: str, old: str, new: str, warning: str) -> None:
    assert any(warning in sentence and ":" in sentence for sentence in edited(file, old, new).warnings)


def test_problems_are_printed_one_a_line_and_at_most_200() -> None:
    one = ConfigErrors([ConfigProblem("site.toml", 7, "cooldown is negative", "cooldown_s = 600")])
    assert str(one) == "site.toml:7: cooldown is negative — write instead: cooldown_s = 600"
    many = str(ConfigErrors(ConfigProblem("f", n, "w", "i") for n in range(1, 251))).split("\n")
    assert len(many) == 201
    assert many[-1] == "and 50 more"


def test_the_hash_covers_every_file(site) -> None:
    before = site.load().sha256
    assert before == site.load().sha256
    for file in ("site.toml", "devices.csv", "feeders.csv", "measurements.csv"):
        with (site.path / file).open("a") as f:
            f.write("# a comment\n")
        after = site.load().sha256
        assert after != before
        # Bytes count, not only lengths.
        (site.path / file).write_text((site.path / file).read_text().replace("# a comment", "# b comment"))
        assert site.load().sha256 != after
        after = site.load().sha256
        before = after


def make_large(folder: Path, rtus: int, breakers: int) -> None:
    """A site of rtus × breakers feeders in place of the example's."""
    devices = [f"d{r},127.0.1.{r + 1},502,1" for r in range(rtus)]
    (folder / "devices.csv").write_text("name,host,port,unit\n" + "\n".join(devices) + "\n")
    rows = [
        f"d{r}_f{b},d{r},tier{b % 3 + 1},no,yes,,10.5,g{b % 7},3,residential,5,di:{2 * b},di:{2 * b + 1},"
        f"coil:{2 * b},coil:{2 * b + 1},di:{500 + b},ir:{b},ir:{200 + 2 * b}:u32*0.01"
        for r in range(rtus)
        for b in range(breakers)
    ]
    header = next(
        line for line in (folder / "feeders.csv").read_text().split("\n") if line.startswith("name,device,tier")
    )
    (folder / "feeders.csv").write_text(header + "\n" + "\n".join(rows) + "\n")
    (folder / "measurements.csv").write_text(
        "name,device,address,unit,stale_after_s\nt1_load,d0,ir:900:u32,kW,5\nt1_ambient,d0,ir:902,°C,60\n"
    )


def cpu_s(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def test_the_cost_of_12000_feeders_and_of_as_many_errors_grows_as_they_do(site) -> None:
    """Ten times as many cost about ten times as much; what looks at all for each would cost a hundred times as much."""
    site.replace("site.toml", "capacity_kw = 6000.0", "capacity_kw = 100000.0")
    feeders, cost = {}, {}
    for rtus in (12, 120):
        make_large(site.path, rtus, 100)
        feeders[rtus] = len(site.load().feeders)
        cost[rtus, "good"] = min(cpu_s(site.load) for _ in range(2))
        text = (site.path / "feeders.csv").read_text()
        (site.path / "feeders.csv").write_text(text.replace("tier1", "teir1").replace("d1_", "d1 "))
        problems = site.problems()
        cost[rtus, "bad"] = min(cpu_s(site.problems) for _ in range(2))
    assert feeders == {12: 1_200, 120: 12_000}
    assert len(problems) > 4000
    for what in ("good", "bad"):
        assert cost[120, what] < 40 * cost[12, what], cost
