"""The daemon takes care of its journal: checks it daily, archives what is old, watches the disk, and tells what is wrong.

Theory of operation. One task looks every few seconds at what the journal says of itself and at the disk, and does what
follows: drop trends, archive early (``housekeeping_disk``). Once a day, at the time that the site says, the whole file and
its hash chain are checked, and what is older than ``keep_days`` goes to an archive file; a slot that was missed is made up
for, and while a procedure has the station the work waits. What people ask for (``housekeeping_work``) takes the same way.

What must stay true: nothing in here is needed for control, so nothing that fails in here ends it; all long work runs on the
journal's own threads, beside commits; each trouble and its end are records of the journal. Evidence is never dropped.
A crash here: the journal's work is crash-safe by itself, and all else is looked at anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, time, timedelta

import msgspec
import structlog

from config.models import JournalCare
from gateway import housekeeping_acts, logs
from gateway.clock import wall_now
from gateway.durable import Engine
from gateway.durable.codec import Json
from gateway.housekeeping_disk import MB, Pressure, Usage, measure, pressure
from gateway.housekeeping_heads import Heads
from gateway.housekeeping_procedure import Restoration
from gateway.housekeeping_seam import KeptJournal
from gateway.housekeeping_troubles import (
    CareFailed,
    CareTrouble,
    of_audit,
    of_checks,
    of_disk,
    of_journal,
    of_losses,
    of_work,
)
from gateway.housekeeping_work import CHECKED, Work
from gateway.operations import committed_station
from gateway.shedding.field import Field
from gateway.supervision import record
from gateway.trend import TrendStore

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

LOOK_S = 10.0
GRACE_S = 120.0
"""So long after the start nothing heavy is done."""
AGAIN_S = 3600.0
"""What failed is not tried again sooner; nor is anything archived early more often."""
POSTPONED_AT_MOST = timedelta(hours=20)
"""A procedure may keep the daily work waiting so long."""
EARLY_KEEPS = timedelta(hours=1)
"""What is archived early is at least so old, in engine time."""
ARCHIVING, FOLDER = "archiving", "archive folder"
LOOKED_THROUGH = 10_000
"""Records in which the last check is looked for."""


class Housekeeping:
    """See above. troubles: all that is wrong now. unrecorded: how many acts could not be recorded since the start.
    failures: what the journal and the disk raise where work can't be done."""

    def __init__(
        self,
        journal: KeptJournal,
        engine: Engine,
        field: Field,
        trend: TrendStore,
        heads: Heads,
        unrecorded: Callable[[], int],
        failures: tuple[type[Exception], ...],
    ) -> None:
        self.heads = heads
        self.troubles: tuple[CareTrouble, ...] = ()
        self.work = Work(journal, engine, lambda: self.care.archive_dir, failures)
        self._journal = journal
        self._engine = engine
        self._field = field
        self._trend = trend
        self._unrecorded = unrecorded
        self._state_dir = journal.path.parent
        self._restoration = Restoration(engine, field)
        self._losses: list[str] = []
        self._failed: dict[str, str] = {}
        self._noted: asyncio.Future[None] | None = None
        self._last_check: datetime | None = None
        self._not_before: dict[str, float] = {}
        self._usage: Usage | None = None
        self._level = Pressure.NONE
        self._opened_at = journal.head().batch

    @property
    def care(self) -> JournalCare:
        """The site's settings, as they are in use now."""
        return self._field.site.journal

    def begin(self) -> None:
        """Record what was done to the journal while no daemon owned it. Before any other record of this start."""
        try:
            acts = housekeeping_acts.noted(self._state_dir)
        except OSError as error:
            self._failed["notes"] = str(error)
            return
        for told in acts:
            log.warning("journal_offline_act", **told)
            self._noted = self._engine.record("", "audit", told)
            if (loss := housekeeping_acts.loss_of(told)) is not None:
                self._losses.append(loss)

    async def run(self) -> None:
        """Look after the journal until cancelled."""
        self._not_before["daily"] = asyncio.get_running_loop().time() + GRACE_S
        if self._noted is not None:
            await self._noted
            await self._try("notes", lambda: asyncio.to_thread(housekeeping_acts.forget, self._state_dir))
        self._last_check = wall_now()
        await self._try("last check", self._find_check)
        await self._try("the round", self._round)  # first: the check may take minutes, and nobody would watch the disk
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._check_after_start())
            while True:
                await asyncio.sleep(LOOK_S)
                await self._try("the round", self._round)

    async def _check_after_start(self) -> None:
        while self.work.at_work:  # noqa: ASYNC110 - by what a person asked for; nobody tells of its end
            await asyncio.sleep(LOOK_S)
        await self._try("check after the start", self.work.quick_check)

    async def _round(self) -> None:
        """Look, do what is due, tell what is wrong. What a person asked for goes on first."""
        await self._try("look at the disk", self._look)
        if self.care.keep_days or self._journal.stats.archived_batches:
            await self._try(FOLDER, lambda: asyncio.to_thread(self.work.look_at_folder))
        else:
            self._failed.pop(FOLDER, None)
        full = self._level is Pressure.FULL and self._usage is not None and self._usage.elsewhere
        if full and not self.work.at_work and self._may("early"):
            await self._try(ARCHIVING, lambda: self._archive(EARLY_KEEPS))
        if self._due() and not self.work.at_work and self._may("daily"):
            await self._daily()
        elif ARCHIVING in self._failed and not self.work.at_work and self._quiet() and self._may(ARCHIVING):
            await self._archive_old()
        self._tell()

    def warnings(self) -> list[str]:
        """One sentence for each trouble."""
        return [one.message for one in self.troubles]

    # What is done by itself

    async def _look(self) -> None:
        """How full is the disk; at need, trends go."""
        budget, reusable = self.care.disk_budget_mb * MB, self._journal.stats.free_bytes
        self._usage = await asyncio.to_thread(measure, self._state_dir, self.care.archive_dir, budget, reusable)
        self._level = pressure(self._usage.pct, self._level)
        if self._level >= Pressure.SHORT:
            dropped = await asyncio.to_thread(self._trend.drop_oldest)
            if dropped is not None:
                told: dict[str, Json] = {"file": dropped[0], "bytes": dropped[1], "why": self._usage.sentence()}
                log.warning("trend_dropped", **told)
                record(self._engine, "trend_dropped", **told)

    async def _daily(self) -> None:
        if await self._try("check", self.work.check):
            self._last_check = wall_now()
        self._may(ARCHIVING)
        await self._archive_old()

    async def _archive_old(self) -> None:
        """What is older than the site keeps; without such a limit nothing is left to be tried again either."""
        if self.care.keep_days:
            await self._try(ARCHIVING, lambda: self._archive(timedelta(days=self.care.keep_days)))
        else:
            self._failed.pop(ARCHIVING, None)

    async def _archive(self, age: timedelta) -> None:
        await self.work.archive(self._engine.now_us() - int(age / timedelta(microseconds=1)))

    def _due(self) -> bool:
        """Whether the daily work is to be done now."""
        now = wall_now()
        slot = last_slot(now, self.care.integrity_check_at)
        if self._last_check is not None and slot <= self._last_check <= now:
            return False  # one of the future was recorded by a clock that was wrong: it counts as none
        return self._quiet() or now - slot > POSTPONED_AT_MOST

    def _quiet(self) -> bool:
        """Whether no procedure has the station."""
        return committed_station(self._engine, self._field).running is None

    def _may(self, work: str) -> bool:
        """Whether this is not too soon after the last time; then that is now."""
        now = asyncio.get_running_loop().time()
        if now < self._not_before.get(work, 0.0):
            return False
        self._not_before[work] = now + AGAIN_S
        return True

    async def _find_check(self) -> None:
        """When the last check was and what it found, by the journal's newest records."""
        for _, _, kind, _, payload in await self._journal.latest("", LOOKED_THROUGH):
            told = msgspec.json.decode(payload) if kind == "gateway" else {}
            if told.get("event") == CHECKED:
                self.work.last["check"] = {key: told.get(key) for key in ("at", "ok", "seconds", "complaints")}
                self.work.complaints = list(told["complaints"])
                self._last_check = datetime.fromisoformat(told["at"])
                return

    async def _try(self, name: str, work: Callable[[], Awaitable[object]]) -> bool:
        """Do it, and whether that went well; a failure is a trouble until it succeeds, and never ends control."""
        try:
            await work()
        except (CareFailed, OSError) as error:
            if self._failed.get(name) != str(error):  # what lasts is told once
                log.error("journal_care_failed", work=name, error=str(error))
            self._failed[name] = str(error)
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
            if self._failed.get(name) != words:
                log.error("journal_care_failed", work=name, error=str(error), exc_info=error)
            self._failed[name] = words
        else:
            self._failed.pop(name, None)
            return True
        return False

    # What is told

    def _tell(self) -> None:
        """Compare what is wrong with what was told, and tell the difference."""
        found = self._wrong()
        before = {one.key: one for one in self.troubles}
        for one in found:
            if one.key not in before or before[one.key].occurrence != one.occurrence:
                log.error("journal_trouble", key=one.key, message=one.message)
                record(self._engine, "trouble", key=one.key, message=one.message)
        for key in sorted(before.keys() - {one.key for one in found}):
            log.info("journal_trouble_over", key=key)
            record(self._engine, "trouble_over", key=key)
        self.troubles = found

    def _wrong(self) -> tuple[CareTrouble, ...]:
        return (
            *of_checks(self.work.complaints),
            *of_losses(self._losses),
            *of_journal(self._journal.stats, self._opened_at),
            *of_disk(self._level, self._usage, self._trend.lost),
            *of_work(self._failed),
            *self._restoration.troubles(),
            *of_audit(logs.lost_lines(), self._unrecorded(), self.heads.failed, self.heads.other_key),
        )

    def told(self) -> dict[str, Json]:
        """For the status: sizes in bytes."""
        stats, usage, sent = self._journal.stats, self._usage, self.heads.sent
        return {
            "file_bytes": stats.file_bytes,
            "free_bytes": stats.free_bytes,
            "wal_bytes": stats.wal_bytes,
            "signed_head": None if sent is None else sent.told(),
            "disk_pct": None if usage is None else round(usage.pct, 1),
            "last_check": self.work.last.get("check"),
        }

    def stats(self) -> dict[str, Json]:
        """All figures: sizes in bytes, times of commits in milliseconds."""
        stats, care, head = self._journal.stats, self.care, self._journal.head()
        return {
            "path": str(self._journal.path),
            "batch": head.batch,
            "seq": head.seq,
            "hash": head.hash_hex,
            **self.told(),
            "wal_alarm": stats.wal_alarm,
            "mark": {"batch": stats.mark_batch, "found": stats.mark_found, "alarm": stats.mark_alarm},
            "commits": {"batches": stats.batches, "records": stats.records}
            | {"last_ms": round(stats.commit_ms_last, 2), "longest_ms": round(stats.commit_ms_max, 2)},
            "archived": {"batches": stats.archived_batches, "records": stats.archived_records}
            | {"folder": str(care.archive_dir), "keep_days": care.keep_days},
            "disk": None if self._usage is None else {"level": self._level.name.lower(), **self._usage.told()},
            "last": dict(self.work.last),
            "at_work": self.work.at_work,
            "troubles": self.warnings(),
        }


def last_slot(now: datetime, at: time) -> datetime:
    """The last moment at which the daily work was to begin; at: of the day, UTC."""
    today = now.replace(hour=at.hour, minute=at.minute, second=at.second, microsecond=0)
    return today if today <= now else today - timedelta(days=1)
