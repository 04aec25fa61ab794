"""Care of the journal: a day with its check and its archive, a disk that fills, troubles that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import gateway.housekeeping as module
from config.models import JournalCare
from gateway.housekeeping import Housekeeping, last_slot
from gateway.housekeeping_acts import ACCEPT_LOSS, DONE, Act, noted
from gateway.housekeeping_disk import MB, Usage
from gateway.housekeeping_heads import Heads
from gateway.housekeeping_troubles import AUDIT, CARE, DISK, INTEGRITY, MARK, WAL, CareFailed
from gateway.trend import TrendStore
from journal import Head, VerifyResult
from tests.core_station import Station, make_site

HEAD = Head(9, 90, "cd" * 32, 5)
DAY_US = 86_400_000_000


class BrokenError(Exception):
    """What the journal raises."""


class FakeJournal:
    """A journal that says what a test wants to hear, and remembers what was done to it."""

    def __init__(self, folder: Path, station: Station) -> None:
        self.path = folder / "journal.db"
        self.complaints: list[str] = []
        self.chain: Any = VerifyResult(True, 9, 90, HEAD, None, None)
        self.checked_archives: Any = SimpleNamespace(complaints=[], checked=2, elsewhere=1)
        self.fails: str = ""
        self.archives: list[tuple[int, Path]] = []
        self.asked = 0
        self.backups: list[Path] = []
        self.hold: asyncio.Event | None = None
        self.stats: Any = SimpleNamespace(
            batches=1,
            records=2,
            commit_ms_last=0.5,
            commit_ms_max=1.5,
            file_bytes=4096,
            free_bytes=0,
            wal_bytes=100,
            wal_alarm=False,
            mark_found="held",
            mark_batch=9,
            mark_alarm="",
            archived_batches=0,
            archived_records=0,
        )
        self._station = station

    def head(self) -> Any:
        return HEAD

    async def check(self) -> list[str]:
        await self._may()
        return self.complaints

    async def quick_check(self) -> list[str]:
        return self.complaints

    async def check_archives(self, folder: Path) -> Any:
        return self.checked_archives

    async def verify(self) -> Any:
        return self.chain

    async def archive(self, before_us: int, folder: Path) -> Any:
        await self._may()
        self.asked += 1
        if self.archives:
            return None
        self.archives.append((before_us, folder))
        return SimpleNamespace(
            file="1.gz", file_sha256=b"\1", first_batch=1, last_batch=5, records=50, kept=3, batches=5
        )

    async def backup(self, target: Path) -> Any:
        await self._may()
        self.backups.append(target)
        await asyncio.to_thread(target.write_bytes, b"copy")
        return HEAD

    async def latest(self, instance: str, limit: int) -> list[Any]:
        return [one for one in reversed(self._station.store.records) if one.instance == instance][:limit]

    async def _may(self) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.fails:
            raise BrokenError(self.fails)


class House:
    """A station, its journal, and who looks after it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.station = Station(make_site())
        self.trend = TrendStore(folder)
        self.unrecorded = 0
        self.sign: Any = lambda _: "signed"
        self.make()

    def make(self) -> None:
        self.journal = FakeJournal(self.folder, self.station)
        self.heads = Heads(self.journal.head, lambda head: self.sign(head), lambda: 600.0)
        journal: Any = self.journal
        self.care = Housekeeping(
            journal,
            self.station.engine,
            self.station.field,
            self.trend,
            self.heads,
            lambda: self.unrecorded,
            (BrokenError, OSError),
        )

    def settings(self, **changed: Any) -> None:
        """Other settings of [journal], as a reload brings them."""
        given = {"archive_dir": self.folder / "archive", **changed}
        self.station.field.use(replace(self.station.field.site, journal=JournalCare(**given)))

    def recorded(self, event: str) -> list[dict[str, Any]]:
        """The gateway's records of this event."""
        told = [msgspec.json.decode(one.payload) for one in self.station.store.records if one.kind == "gateway"]
        return [one for one in told if one["event"] == event]

    def keys(self) -> dict[str, str]:
        """Troubles by key, with the type of their alarm."""
        self.care._tell()
        return {one.key: one.type for one in self.care.troubles}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    one = House(tmp_path)
    await one.station.start()
    one.make()
    one.settings()
    yield one
    await one.station.engine.stop(0.1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The wall clock, in a test's hands."""
    now = [datetime(2026, 1, 14, 3, 0, tzinfo=UTC)]
    monkeypatch.setattr(module, "wall_now", lambda: now[0])
    return now


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "GRACE_S", 0.0)
    monkeypatch.setattr(module, "AGAIN_S", 0.05)


async def until(condition: Any, what: str) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)
    assert condition(), what


@pytest.mark.parametrize(
    ("now", "slot"),
    [
        (datetime(2026, 1, 14, 3, 29, 59, tzinfo=UTC), datetime(2026, 1, 13, 3, 30, tzinfo=UTC)),
        (datetime(2026, 1, 14, 3, 30, tzinfo=UTC), datetime(2026, 1, 14, 3, 30, tzinfo=UTC)),
        (datetime(2026, 1, 14, 23, 59, tzinfo=UTC), datetime(2026, 1, 14, 3, 30, tzinfo=UTC)),
    ],
)
def test_the_slot_is_the_last_time_of_day_that_has_come(now: datetime, slot: datetime) -> None:
    assert last_slot(now, time(3, 30)) == slot


async def test_at_its_time_of_day_the_journal_is_checked_and_what_is_old_is_archived_once(
    house: House, clock: list[datetime], quick: None
) -> None:
    task = asyncio.create_task(house.care.run())
    await asyncio.sleep(0.1)
    assert house.recorded("journal_checked") == [], "its time has not come"
    clock[0] += timedelta(minutes=31)
    await until(lambda: house.recorded("journal_archived"), "the night's work")
    await asyncio.sleep(0.1)
    (checked,) = house.recorded("journal_checked")
    assert (checked["ok"], checked["batches"]) == (True, 9)
    ((before_us, folder),) = house.journal.archives
    assert folder == house.folder / "archive"
    assert before_us == house.station.engine.now_us() - 90 * DAY_US
    (archived,) = house.recorded("journal_archived")
    assert (archived["file"], archived["records"], archived["kept"]) == (str(folder / "1.gz"), 50, 3)
    clock[0] += timedelta(days=1)
    await until(lambda: len(house.recorded("journal_checked")) == 2, "the next night's")
    task.cancel()


async def test_a_night_that_was_missed_is_made_up_for_and_one_that_was_not_is_not_repeated(
    house: House, clock: list[datetime], quick: None
) -> None:
    clock[0] = datetime(2026, 1, 14, 4, 0, tzinfo=UTC)
    first = asyncio.create_task(house.care.run())
    await asyncio.sleep(0.1)
    first.cancel()
    assert house.recorded("journal_checked") == [], "a journal without any check waits for its first night"
    await house.care.work.check()
    await house.station.engine.on_disk()
    found = house.recorded("journal_checked")[0]["at"]
    clock[0] = datetime.fromisoformat(found)
    house.make()
    second = asyncio.create_task(house.care.run())
    await asyncio.sleep(0.1)
    second.cancel()
    assert len(house.recorded("journal_checked")) == 1
    clock[0] += timedelta(days=2)
    house.make()
    third = asyncio.create_task(house.care.run())
    await until(lambda: len(house.recorded("journal_checked")) == 2, "the missed night")
    third.cancel()


async def test_while_a_procedure_has_the_station_the_work_waits_but_not_for_ever(
    house: House, clock: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    house.care._last_check = clock[0]
    monkeypatch.setattr(module, "committed_station", lambda *_: SimpleNamespace(running=object()))
    clock[0] += timedelta(hours=2)
    assert not house.care._due()
    clock[0] += timedelta(hours=20)
    assert house.care._due()
    monkeypatch.setattr(module, "committed_station", lambda *_: SimpleNamespace(running=None))
    clock[0] -= timedelta(hours=20)
    assert house.care._due()


async def test_a_check_that_a_wrong_clock_recorded_in_the_future_counts_as_none(
    house: House, clock: list[datetime], quick: None
) -> None:
    told = {"event": "journal_checked", "at": "2036-01-14T03:30:00+00:00", "ok": True, "complaints": []}
    house.station.engine.record("", "gateway", told)
    await house.station.engine.on_disk()
    task = asyncio.create_task(house.care.run())
    await until(lambda: len(house.recorded("journal_checked")) == 2, "the check of this night")
    task.cancel()
    assert house.care._last_check == clock[0]


async def test_an_archive_that_failed_is_tried_again_within_the_hour_and_not_only_the_next_night(
    house: House, clock: list[datetime], quick: None
) -> None:
    house.settings(archive_dir=house.folder.parent / "unmounted")
    task = asyncio.create_task(house.care.run())
    await asyncio.sleep(0.05)
    clock[0] += timedelta(minutes=31)
    await until(lambda: "archiving" in house.care._failed and house.recorded("journal_checked"), "the failure")
    assert house.keys() == {"journal_archive_folder": CARE}, "one reason, one alarm"
    assert (house.journal.archives, len(house.recorded("journal_checked"))) == ([], 1)
    house.settings()
    await until(lambda: house.journal.archives, "it is made up for")
    await until(lambda: not house.care.troubles, "the alarms are over")
    assert len(house.recorded("journal_checked")) == 1, "the check is not repeated for that"
    task.cancel()


async def test_an_archive_folder_that_is_not_there_is_an_alarm_long_before_the_next_archive(house: House) -> None:
    house.care._last_check = module.wall_now()
    house.settings(archive_dir=house.folder.parent / "unmounted")
    await house.care._round()
    assert house.keys() == {"journal_archive_folder": CARE}
    assert "mount its disk" in house.care.warnings()[0]
    house.settings(archive_dir=house.folder.parent / "unmounted", keep_days=0)
    await house.care._round()
    assert house.keys() == {}, "a site that archives nothing needs no folder"


async def test_keep_days_of_none_archives_nothing_by_itself(house: House) -> None:
    house.settings(keep_days=0)
    await house.care._daily()
    await house.station.engine.on_disk()
    assert len(house.recorded("journal_checked")) == 1
    assert house.journal.archives == []


async def test_a_damaged_journal_is_an_alarm_that_a_restart_does_not_end(house: House) -> None:
    house.journal.complaints = ["row 7 missing from index"]
    house.journal.chain = VerifyResult(False, 3, 9, HEAD, 4, "a byte changed", 7)
    await house.care._daily()
    assert house.keys() == {"journal_integrity": INTEGRITY}
    (warning,) = house.care.warnings()
    assert "row 7 missing from index; the hash chain breaks at batch 4: a byte changed" in warning
    await house.station.engine.on_disk()
    house.make()
    await house.care._find_check()
    assert house.keys() == {"journal_integrity": INTEGRITY}
    house.journal.chain = VerifyResult(True, 9, 90, HEAD, not_compared=7)
    told = await house.care.work.check()
    assert house.keys() == {}
    assert (told["batches"], told["records"], told["not_compared"]) == (9, 90, 7)
    await house.station.engine.on_disk()
    assert house.recorded("trouble_over")[-1]["key"] == "journal_integrity"


async def test_a_damaged_archive_is_the_same_alarm(house: House) -> None:
    house.journal.checked_archives = SimpleNamespace(
        complaints=["archive 1.gz: a byte changed"], checked=1, elsewhere=0
    )
    await house.care._daily()
    assert house.keys() == {"journal_integrity": INTEGRITY}
    assert "the journal is whole, but not its archives: archive 1.gz: a byte changed; put" in house.care.warnings()[0]


async def test_damage_that_an_opening_does_not_see_is_told_soon_after_the_start(
    house: House, clock: list[datetime], quick: None
) -> None:
    house.journal.complaints = ["page 7: never used"]
    task = asyncio.create_task(house.care.run())
    await until(lambda: house.care.troubles, "the alarm")
    assert house.keys() == {"journal_integrity": INTEGRITY}
    assert "page 7: never used" in house.care.warnings()[0]
    assert house.recorded("journal_checked") == [], "it is no check of the day"
    house.journal.complaints = []
    clock[0] += timedelta(minutes=31)
    await until(lambda: not house.care.troubles, "the check of the day found nothing")
    task.cancel()


async def test_what_the_journal_says_of_itself_becomes_alarms(house: House) -> None:
    house.journal.stats.wal_alarm, house.journal.stats.wal_bytes = True, 70 * MB
    house.journal.stats.mark_alarm, house.journal.stats.mark_found = "it is read-only", "unreadable"
    house.unrecorded = 2
    assert house.keys() == {
        "journal_wal": WAL,
        "journal_mark": MARK,
        "journal_mark_unreadable": MARK,
        "audit_unrecorded": AUDIT,
    }
    assert "has 70 MB" in house.care.warnings()[0]
    await house.station.engine.on_disk()
    assert [one["key"] for one in house.recorded("trouble")] == list(house.keys()), "each is recorded once"


async def test_a_journal_that_came_without_its_mark_is_told_and_a_new_one_is_not(house: House) -> None:
    house.journal.stats.mark_found = "none"
    assert house.keys() == {"journal_mark_missing": MARK}
    assert house.care.troubles[0].severity == 400
    house.care._opened_at = 0
    assert house.keys() == {}


async def test_the_nights_work_waits_for_what_a_person_asked_for(
    house: House, clock: list[datetime], quick: None
) -> None:
    house.journal.hold = asyncio.Event()
    asked = asyncio.create_task(house.care.work.backup(house.folder / "copy.db"))
    task = asyncio.create_task(house.care.run())
    await asyncio.sleep(0.05)
    clock[0] += timedelta(hours=1)
    await asyncio.sleep(0.05)
    assert house.care.troubles == (), "it is no failure"
    house.journal.hold.set()
    await asked
    await until(lambda: house.recorded("journal_checked"), "the night's work")
    task.cancel()


async def test_a_log_that_loses_lines_and_a_key_that_does_not_sign_are_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> str:
        raise ValueError("the key is gone")

    house.sign = broken
    monkeypatch.setattr("gateway.logs._lost_lines", 3)
    house.heads.send()
    assert house.keys() == {"audit_unsigned": AUDIT, "audit_log": AUDIT}
    assert house.care.warnings() == [
        "the journal's head can't be signed: the key is gone",
        "3 lines of the log could not be written",
    ]


def usage(pct: float, elsewhere: bool = False) -> Usage:
    free = int((100 - pct) * 10 * MB)
    return Usage(MB, 0, MB, 0, 0, 0, 1000 * MB, free, elsewhere)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[Usage]:
    """What is measured."""
    now = [usage(50)]
    monkeypatch.setattr(module, "measure", lambda *_: now[0])
    return now


async def test_a_disk_that_fills_is_told_then_trends_go_then_archives_and_never_evidence(
    house: House, disk: list[Usage]
) -> None:
    for number in range(4):
        (house.folder / ("trend.csv" if not number else f"trend.{number}.csv")).write_text("x\n")
    told = []
    for pct, left in ((79, 4), (80, 4), (89, 4), (90, 3), (95, 2), (95, 1), (96, 1)):
        disk[0] = usage(pct)
        await house.care._look()
        house.care._tell()
        told.append(house.care.troubles[0].severity if house.care.troubles else 0)
        assert len(list(house.folder.glob("trend*.csv"))) == left, pct
    assert told == [0, 500, 500, 700, 900, 900, 900]
    assert (house.folder / "trend.csv").exists(), "the one that is written stays"
    await house.station.engine.on_disk()
    assert [one["file"] for one in house.recorded("trend_dropped")] == ["trend.3.csv", "trend.2.csv", "trend.1.csv"]
    assert house.journal.archives == [], "archives on the same disk free nothing"
    disk[0] = usage(70)
    await house.care._look()
    assert house.keys() == {}


async def test_at_the_last_level_archives_go_early_to_another_disk_and_not_again_within_the_hour(
    house: House, disk: list[Usage], clock: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    disk[0] = usage(96, elsewhere=True)
    task = asyncio.create_task(house.care.run())
    await until(lambda: house.journal.archives, "it archives")
    await asyncio.sleep(0.1)
    task.cancel()
    assert house.journal.asked == 2, "until there is nothing more, and then not for an hour"
    ((before_us, _),) = house.journal.archives
    assert before_us == house.station.engine.now_us() - 3600 * 1_000_000
    assert house.care.troubles[0].type == DISK
    assert house.recorded("journal_checked") == []


async def test_work_that_fails_is_an_alarm_until_it_succeeds_and_ends_nothing(
    house: House, clock: list[datetime], quick: None
) -> None:
    house.journal.fails = "the disk answers no more"
    clock[0] = datetime(2026, 1, 14, 3, 0, tzinfo=UTC)
    task = asyncio.create_task(house.care.run())
    await asyncio.sleep(0.05)
    clock[0] += timedelta(hours=1)
    await until(lambda: "journal_check" in {one.key for one in house.care.troubles}, "the trouble")
    assert {one.type for one in house.care.troubles} == {CARE}
    assert "care of the journal, check: the disk answers no more" in house.care.warnings()
    house.journal.fails = ""
    await until(lambda: not house.care.troubles, "it is over once it went well")
    assert not task.done()
    task.cancel()


async def test_a_defect_in_the_care_ends_nothing_either(
    house: House, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    def broken(*_: object) -> Usage:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(module, "measure", broken)
    task = asyncio.create_task(house.care.run())
    await until(lambda: house.care.troubles, "the trouble")
    assert "look at the disk: ZeroDivisionError: a defect" in house.care.warnings()[0]
    assert not task.done()
    task.cancel()


async def test_one_piece_of_work_at_a_time(house: House, tmp_path: Path) -> None:
    house.journal.hold = asyncio.Event()
    checking = asyncio.create_task(house.care.work.check())
    await asyncio.sleep(0.01)
    with pytest.raises(CareFailed, match="is being checked just now"):
        await house.care.work.backup(tmp_path / "copy.db")
    house.journal.hold.set()
    await checking
    await house.care.work.backup(tmp_path / "copy.db")
    assert house.journal.backups == [tmp_path / "copy.db"]


async def test_a_backup_goes_to_a_new_file_or_into_a_folder_and_is_recorded(house: House, tmp_path: Path) -> None:
    with pytest.raises(CareFailed, match="whole path"):
        await house.care.work.backup(Path("copy.db"))
    told = await house.care.work.backup(tmp_path)
    (target,) = house.journal.backups
    assert target.parent == tmp_path
    assert target.name.startswith("journal-2")
    assert (told["file"], told["bytes"], told["batch"]) == (str(target), 4, 9)
    await house.station.engine.on_disk()
    assert house.recorded("journal_backed_up")[0]["hash"] == HEAD.hash_hex
    assert house.care.stats()["last"] == {"backup": told | {"at": house.recorded("journal_backed_up")[0]["at"]}}


async def test_acts_without_a_daemon_come_into_the_chain_before_anything_else_and_a_loss_is_an_alarm(
    house: House, clock: list[datetime], quick: None
) -> None:
    Act.begin(house.folder, ACCEPT_LOSS, "anna", "root", reason="the card broke").end(DONE, "ends at batch 3")
    house.care.begin()
    await house.station.engine.on_disk()
    (record,) = [one for one in house.station.store.records if one.kind == "audit"]
    told = msgspec.json.decode(record.payload)
    assert (told["op"], told["actor"], told["reason"], told["status"]) == (ACCEPT_LOSS, "anna", "the card broke", "ok")
    assert len(noted(house.folder)) == 1, "kept until the record is on disk and somebody has looked"
    task = asyncio.create_task(house.care.run())
    await until(lambda: not noted(house.folder), "the notes are gone")
    await until(lambda: house.care.troubles, "the alarm")
    assert {one.key: one.type for one in house.care.troubles} == {"journal_loss": INTEGRITY}
    assert "anna accepted a loss" in house.care.warnings()[0]
    assert "it ends at batch 3" in house.care.warnings()[0]
    task.cancel()
    house.make()
    house.care.begin()
    assert house.keys() == {}, "it is told until the next start"


def Ends(context: Any) -> Any:
    """Is over at once."""
    return "over"


def Waits(context: Any) -> Any:
    """Is not over."""
    yield context.wait_for_external_event("Go")


async def test_what_has_ended_before_the_cut_is_forgotten_first_and_what_lives_or_ended_later_is_not(
    tmp_path: Path,
) -> None:
    house = House(tmp_path)
    house.station.programs += [Ends, Waits]
    house.station.build()
    await house.station.start()
    house.make()
    house.settings()
    client, clock = house.station.engine.client, house.station.clock
    await client.start_new("Ends", "early")
    await client.start_new("Waits", "lives")
    await client.wait_for_completion("early")
    clock.advance(60.0)
    cut_us = house.station.engine.now_us()
    clock.advance(60.0)
    await client.start_new("Ends", "late")
    await client.wait_for_completion("late")
    house.settings(archive_dir=tmp_path.parent / "unmounted")
    with pytest.raises(CareFailed, match="mount its disk"):
        await house.care.work.archive(cut_us)
    found = {row[0] for row in await house.station.engine.store.instances(kind="orchestration")}
    assert found == {"early", "lives", "late"}, "nothing is forgotten for an archive that can't be written"
    house.settings()
    (told,) = await house.care.work.archive(cut_us)
    assert told["forgotten"] == 1
    assert "early" in {one.instance for one in house.station.store.records}, "its records are the archive's to take"
    found = {row[0] for row in await house.station.engine.store.instances(kind="orchestration")}
    assert found == {"lives", "late"}
    await house.station.engine.stop(0.1)
