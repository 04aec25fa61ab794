"""The work on an open journal that takes long: check, backup, archive; one piece at a time, each on record.

What must stay true: all of it runs on the journal's own threads, beside commits; work that was not done leaves the journal
as it was; work that was done is a record of the gateway (``journal_checked``, ``journal_backed_up``, ``journal_archived``).
A crash here: each piece of work is crash-safe in the journal itself; one without a record may have been done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import structlog

from gateway import housekeeping_folder
from gateway.clock import wall_now
from gateway.durable import Engine, NotFoundError, WrongStatusError
from gateway.durable.codec import Json
from gateway.durable.instances import ORCHESTRATION, TERMINAL
from gateway.durable.store import InstanceRow
from gateway.housekeeping_seam import KeptJournal
from gateway.housekeeping_troubles import CareFailed
from gateway.supervision import record

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

CHECKED = "journal_checked"
FORGETS = "the gateway, which archives it"
"""Who purges what is archived, in the record."""
PAGE = 500
"""Orchestrations that are looked at at once."""


class Work:
    """See above. archive_dir: where archives go, as the site says at that moment. failures: what the journal and the disk
    raise where work can't be done.

    last: what was done last, by kind of work. complaints: of the last check. at_work: what is being done, as in "the
    journal is being ..."; empty while nothing is.
    """

    def __init__(
        self,
        journal: KeptJournal,
        engine: Engine,
        archive_dir: Callable[[], Path],
        failures: tuple[type[Exception], ...],
    ) -> None:
        self.last: dict[str, Json] = {}
        self.complaints: list[str] = []
        self.at_work = ""
        self._journal = journal
        self._engine = engine
        self._archive_dir = archive_dir
        self._failures = failures

    async def check(self) -> dict[str, Json]:
        """SQLite's check of the whole file, the hash chain from its beginning, and the archives that lie in their folder.

        Errors: CareFailed.
        """
        began = asyncio.get_running_loop().time()
        async with self._alone("checked"):
            complaints = list(await self._journal.check())
            chain = await self._journal.verify()
            archives = await self._journal.check_archives(self._archive_dir())
        complaints += archives.complaints
        if not chain.ok:
            complaints.append(f"the hash chain breaks at batch {chain.first_bad_batch}: {chain.reason}")
        took_s = round(asyncio.get_running_loop().time() - began, 2)
        self.complaints = complaints
        told: dict[str, Json] = {"ok": not complaints, "complaints": list(complaints), "seconds": took_s}
        told |= {"batches": chain.batches, "records": chain.records, "not_compared": chain.not_compared}
        told |= {"archives": archives.checked, "archives_elsewhere": archives.elsewhere}
        (log.info if not complaints else log.critical)(CHECKED, **told)
        self._done("check", CHECKED, told)
        return told

    async def quick_check(self) -> None:
        """SQLite's quick check of the whole file, of which an opening reads what is live alone. What it finds is told as by
        the check of the day, and stands until the next one finds nothing. Errors: CareFailed."""
        async with self._alone("checked"):
            found = await self._journal.quick_check()
        if found:
            log.critical("journal_damaged", complaints=list(found))
            self.complaints += [one for one in found if one not in self.complaints]

    def look_at_folder(self) -> None:
        """See whether archives have the folder that they should have. Blocks. Errors: CareFailed, OSError."""
        has_archives = self._journal.stats.archived_batches > 0
        housekeeping_folder.look(self._archive_dir(), self._journal.path.parent, has_archives)

    async def backup(self, target: Path | None, seen: tuple[int, int] | None = None) -> dict[str, Json]:
        """A whole copy, made beside running commits. target: a new file, or a folder for one; none: the folder ``backups``
        beside the journal. seen: device and number of the folder in which the caller would look for it; another one here
        is refused, for a service has a /tmp of its own. Errors: CareFailed."""
        target = await asyncio.to_thread(housekeeping_folder.for_backup, target, seen, self._journal.path.parent)
        async with self._alone("backed up"):
            head = await self._journal.backup(target)
        size = (await asyncio.to_thread(target.stat)).st_size
        told: dict[str, Json] = {"file": str(target), "bytes": size, "batch": head.batch, "seq": head.seq}
        told |= {"hash": head.hash_hex}
        log.info("journal_backed_up", **told)
        self._done("backup", "journal_backed_up", told)
        return told

    async def archive(self, before_us: int) -> list[dict[str, Json]]:
        """Move what is older than this engine time to files, as far as nothing needs it; what went to each file.

        Orchestrations that had ended by then are forgotten first, for their records stay as long as they are listed; but
        only once the folder has proved to take an archive. Should the archive fail all the same, their rows are gone, and
        all their records are still in the journal, for the next try.
        Errors: CareFailed; files that were finished before it stay.
        """
        folder, files = self._archive_dir(), []
        async with self._alone("archived"):
            stats = self._journal.stats
            size = max(0, stats.file_bytes - stats.free_bytes)
            await asyncio.to_thread(
                housekeeping_folder.ready, folder, self._journal.path.parent, stats.archived_batches > 0, size
            )
            forgotten = await self._forget_ended(before_us)
            while (done := await self._journal.archive(before_us, folder)) is not None:
                told: dict[str, Json] = {
                    "file": str(folder / done.file),
                    "first_batch": done.first_batch,
                    "last_batch": done.last_batch,
                    "records": done.records,
                    "kept": done.kept,
                    "forgotten": forgotten,
                    "sha256": done.file_sha256.hex(),
                }
                forgotten = 0
                log.info("journal_archived", **told)
                self._done("archive", "journal_archived", told)
                files.append(told)
        return files

    async def _forget_ended(self, before_us: int) -> int:
        """Forget the orchestrations that had ended before this time; how many there were."""
        forgotten, after = 0, None
        statuses = [status.value for status in TERMINAL]
        while True:
            page = await self._engine.store.instances(
                kind=ORCHESTRATION, statuses=statuses, created_to_us=before_us, limit=PAGE, after=after
            )
            for row in page:
                one = InstanceRow(*row)
                if one.updated_us < before_us:
                    # Something of it may be under way yet, or somebody has just purged or rewound it: another time, then.
                    with contextlib.suppress(WrongStatusError, NotFoundError):
                        await self._engine.client.purge_instance_history(one.instance, FORGETS)
                        forgotten += 1
            if len(page) < PAGE:
                return forgotten
            after = page[-1][0]

    @contextlib.asynccontextmanager
    async def _alone(self, what: str) -> AsyncIterator[None]:
        """One piece of work at a time. Errors: CareFailed."""
        if self.at_work:
            raise CareFailed(f"the journal is being {self.at_work} just now: ask again later")
        self.at_work = what
        try:
            yield
        except self._failures as error:
            raise CareFailed(str(error)) from error
        finally:
            self.at_work = ""

    def _done(self, work: str, event: str, told: dict[str, Json]) -> None:
        at = wall_now().isoformat(timespec="seconds")
        self.last[work] = {"at": at, **told}
        record(self._engine, event, at=at, **told)
