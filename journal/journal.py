"""The journal as the daemon holds it: opened once, owned exclusively, written batch by batch, closed once.

What must stay true: one process owns the file (lock), one thread writes it, one connection checkpoints it; ``commit``
returns only once its batch is on disk, and batches reach the disk in the order of the calls; a cancelled ``commit``
has nevertheless written its batch whole, or not at all. After a failed write every later call for writing is refused.
On a crash here: see format.md, "Recovery". Nothing in this file needs to be undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from journal import cuts, reader, recovery
from journal.care import ArchivesChecked, Care
from journal.errors import FILE_TROUBLE, JournalError, JournalNotFound, JournalReadError
from journal.folders import make_file
from journal.lock import OwnerLock
from journal.mark import Mark, MarkFile, MarkFound, read_mark, refuse_missing
from journal.rows import (
    ActivityTuple,
    Archived,
    BatchLike,
    Head,
    InstanceTuple,
    JournalStats,
    Note,
    Records,
    Recovered,
    TimerTuple,
    VerifyResult,
)
from journal.thread import SqliteThread
from journal.verify import ChainCheck
from journal.writer import Writer

T = TypeVar("T")

WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
"""A WAL beyond this raises the alarm in ``stats``: twice what checkpoints cut it down to."""
MARK_FLUSH_S: Final = 5.0
"""At the latest so long after a commit the high-water mark is flushed: what a loss of power can set it back by."""
CLOSE_TIMEOUT_S: Final = 10.0
"""A disk that does not answer for so long is given up when closing; what was acknowledged is on it already."""


class Journal:
    """An open journal. Make one by ``await Journal.open(path)``."""

    def __init__(
        self,
        path: Path,
        lock: OwnerLock,
        descriptor: int,
        write: SqliteThread,
        read: SqliteThread,
        writer: Writer,
        mark: MarkFile,
        identity: bytes,
    ) -> None:
        self.path = path
        self._descriptor = descriptor
        self._wal_path = path.with_name(path.name + "-wal")
        self._lock = lock
        self._write = write
        self._read = read
        self._writer = writer
        self._mark = mark
        self._mark_timer: asyncio.TimerHandle | None = None
        self._mark_flush: asyncio.Task[None] | None = None
        self._care = Care(path, self._writing, writer, identity, CLOSE_TIMEOUT_S)
        self._archives: Sequence[Archived] = ()
        self._removing = False
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, *, create: bool = True) -> Journal:
        """Take ownership, migrate, check, and stand ready to continue the chain.

        Raises JournalLocked, JournalNewer, JournalCorrupt, JournalTailLost, JournalNotFound (a stranger's file; or none,
        and not ``create``), JournalError (an SQLite or file error while opening). A refused file stays as it was.
        """
        try:
            async with contextlib.AsyncExitStack() as undo:
                path, lock, found, mark = _own(path, create)
                undo.callback(lock.release)
                descriptor = make_file(path)
                undo.callback(os.close, descriptor)
                read = await SqliteThread.open(path, read_only=True)
                undo.push_async_callback(read.close, CLOSE_TIMEOUT_S)
                inspected = await read.run(partial(recovery.inspect, path=path, mark=mark))
                write = await SqliteThread.open(path, read_only=False)
                undo.push_async_callback(write.close, CLOSE_TIMEOUT_S)
                end = await write.run(partial(recovery.prepare, path=path, end=inspected))
                await read.run(reader.attach)
                identity = await read.run(reader.identity)
                known, removing = await read.run(cuts.archives), await read.run(cuts.removing)
                undo.pop_all()
        except FILE_TROUBLE as error:
            raise JournalError(f"{path} can't be opened: {error}") from error
        following = MarkFile(path, identity, end.head(), found, mark.generation if mark is not None else 0)
        journal = cls(path, lock, descriptor, write, read, Writer(end, following), following, identity)
        journal._archives, journal._removing = known, removing
        return journal

    async def recover(self) -> Recovered:
        """Everything that is live, in bulk: the state after the last committed batch."""
        end = self._writer.end
        return await self._reading(self._write, partial(recovery.recover, end=end))

    async def commit(self, batch: BatchLike) -> None:
        """Make the batch durable; returns once it is on disk. An empty batch writes nothing.

        Cancelled, it waits for the write to end before it lets the cancellation through. Raises BatchRefused (the
        sequence numbers don't continue; nothing changed), JournalWriteError (the journal is stopped).
        """
        self._writer.refuse_after_failure()
        if not _is_empty(batch):
            await self._writing(partial(self._writer.commit, batch=batch))
            self._flush_mark_later()

    async def archive(self, before_us: int, folder: Path) -> Archived | None:
        """Move what is older than before_us into a file in the folder, beside running commits; None if nothing is.

        At most a million records at once: call again until None. What a row of an orchestration (from its first_seq on)
        needs stays, and so does the last record of every name: purge what is finished first. The folder is made if its
        parent is there. Cancelled or cut short, the next call goes on with it.
        Raises ArchiveFailed (nothing was removed; the journal goes on), JournalCorrupt, JournalWriteError.
        """
        try:
            return await self._care.archive(before_us, folder)
        finally:
            if self._closing is None:
                await self._look_at_archives()
                self._flush_mark_later()

    async def archives(self) -> Sequence[Archived]:
        """All parts of the log that are in archives, oldest first."""
        return await self._reading(self._read, cuts.archives)

    async def notes(self, after_batch: int = 0, limit: int = 1_000) -> Sequence[Note]:
        """What the journal says of itself, oldest first, after a batch; notes that were archived are in the archives."""
        query = partial(cuts.notes, after_batch=after_batch, limit=min(limit, reader.MAX_ROWS))
        return await self._reading(self._read, query)

    async def backup(self, target: Path) -> Head:
        """Copy the journal, of one moment, beside running commits; returns the head of that moment.

        The copy is a whole journal with a mark of its own, checked batch by batch. Archives are not copied: they don't
        change any more. Raises BackupFailed (the target exists, no room, …), JournalCorrupt.
        """
        return await self._care.backup(target)

    async def check(self) -> list[str]:
        """SQLite's own full check (integrity_check) and each projection row's checksum, beside running commits.

        Complaints; none if it is sound. Reads the whole file (1.1 s for 104 MB), and keeps the write-ahead log from being
        folded in for so long.
        """
        return await self._care.check()

    async def quick_check(self) -> list[str]:
        """SQLite's quick check of the whole file, beside running commits: an opening leaves the log out."""
        return await self._care.quick_check()

    async def check_archives(self, folder: Path) -> ArchivesChecked:
        """Check all archives that lie in the folder, each whole, and each as the journal names it, beside commits."""
        return await self._care.check_archives(await self.archives(), folder)

    async def history(self, instance: str, first_seq: int) -> Records:
        """Committed records of one instance from first_seq on, in order; see ``Records`` for those archived."""
        return await self._reading(self._read, partial(reader.history, instance=instance, first_seq=first_seq))

    async def records(
        self,
        after_seq: int,
        limit: int = 1_000,
        *,
        up_to_seq: int | None = None,
        instance: str | None = None,
        kinds: Sequence[str] | None = None,
    ) -> Records:
        """Committed records after a sequence number, oldest first; at most 10,000 at once.

        up_to_seq: none after this one. Searches the log forward unless an instance is named; fewer than ``limit`` means
        that its end (or up_to_seq) was reached. Where the beginning was archived, the result says in which archive, and
        holds what stayed of it.
        """
        limit = min(limit, reader.MAX_ROWS)
        if instance is not None:
            found_there = await self._reading(
                self._read,
                partial(reader.instance_records, instance=instance, after_seq=after_seq, limit=limit, kinds=kinds),
            )
            wanted = (record for record in found_there if up_to_seq is None or record[0] <= up_to_seq)
            return Records(wanted, found_there.archived_in)
        found = Records((), await self._reading(self._read, partial(cuts.archive_holding, seq=after_seq + 1)))
        end = self.head().seq if up_to_seq is None else min(up_to_seq, self.head().seq)
        while after_seq < end and len(found) < limit:
            up_to = min(after_seq + reader.SCAN_ROWS, end)
            query = partial(reader.records, after_seq=after_seq, up_to_seq=up_to, limit=limit - len(found), kinds=kinds)
            found += await self._reading(self._read, query)
            after_seq = up_to
        return found

    async def latest(self, instance: str, limit: int = 1_000, *, before_seq: int | None = None) -> Records:
        """The last committed records of one instance, newest first; before_seq: those before this record of it.

        Where they end at one that was archived, the result says in which archive.
        """
        query = partial(reader.latest, instance=instance, limit=limit, before_seq=before_seq)
        return await self._reading(self._read, query)

    async def instance(self, instance: str) -> InstanceTuple | None:
        """The committed row of one instance, terminal ones too; None if it is unknown or purged."""
        return await self._reading(self._read, partial(reader.instance_row, instance=instance))

    async def instances(
        self,
        *,
        kind: str | None = None,
        name: str | None = None,
        statuses: Sequence[str] | None = None,
        prefix: str | None = None,
        created_from_us: int | None = None,
        created_to_us: int | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Sequence[InstanceTuple]:
        """Committed rows in the order of instance id, at most limit (and 10,000), those after the id ``after``."""
        query = partial(
            reader.instance_rows,
            kind=kind,
            name=name,
            statuses=statuses,
            prefix=prefix,
            created_from_us=created_from_us,
            created_to_us=created_to_us,
            limit=limit,
            after=after,
        )
        return await self._reading(self._read, query)

    async def activities(self, limit: int = 1_000) -> Sequence[ActivityTuple]:
        """Committed activities without a result."""
        return await self._reading(self._read, partial(reader.activities, limit=limit))

    async def timers(self, limit: int = 1_000) -> Sequence[TimerTuple]:
        """Committed pending timers."""
        return await self._reading(self._read, partial(reader.timers, limit=limit))

    def head(self) -> Head:
        """The end of the chain on disk."""
        return self._writer.end.head()

    async def verify(self, from_batch: int = 1, expect: Head | None = None) -> VerifyResult:
        """Check the chain in short reads, beside running commits. See ``journal.verify`` for what it finds."""
        start = partial(ChainCheck.start, from_batch=from_batch, expect=expect)
        check = await self._reading(self._read, start)
        while await self._reading(self._read, check.step):
            pass
        return check.result()

    async def probe(self) -> None:
        """Pass once through the writer's thread: returns when it is alive and has done all before. For a watchdog."""
        self._writer.refuse_after_failure()
        await self._reading(self._write, lambda _: None)

    @property
    def stats(self) -> JournalStats:
        """Figures since the opening; the WAL's size is that of now."""
        writer = self._writer
        try:
            wal_bytes = self._wal_path.stat().st_size
        except FileNotFoundError:
            wal_bytes = 0
        alarm = wal_bytes > WAL_LIMIT_BYTES
        mark = self._mark
        return JournalStats(
            writer.batches,
            writer.records,
            writer.commit_ms_last,
            writer.commit_ms_max,
            wal_bytes,
            alarm,
            mark.found.value,
            mark.batch,
            mark.alarm,
            *_sizes(self._descriptor),
            len(self._archives),
            sum(one.batches for one in self._archives),
            sum(one.records for one in self._archives),
            self._removing,
        )

    async def _look_at_archives(self) -> None:
        self._archives = await self._reading(self._read, cuts.archives)
        self._removing = await self._reading(self._read, cuts.removing)

    async def close(self) -> None:
        """Finish what was handed over, fold the WAL into the file, give the journal free. May be called again."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._mark_timer is not None:
            self._mark_timer.cancel()
        self._care.end()
        try:
            if self._writer.failure is None:
                # The reader goes first, so that it holds no snapshot that the checkpoint would have to spare.
                answered = await self._read.close(CLOSE_TIMEOUT_S)
                checkpoint = asyncio.ensure_future(self._write.run(self._finish))
                done, _ = await asyncio.wait({checkpoint}, timeout=CLOSE_TIMEOUT_S)
                answered = bool(done) and await self._write.close(CLOSE_TIMEOUT_S) and answered
            else:
                # The reader goes last: the last connection to close would checkpoint, but this one can't. After a
                # failed write the WAL must stay as it is until a reopening has read what the disk really holds.
                answered = await self._write.close(CLOSE_TIMEOUT_S) and await self._read.close(CLOSE_TIMEOUT_S)
        except sqlite3.Error as error:
            raise JournalError(
                f"{self.path} could not be closed cleanly: {error}; nothing acknowledged is lost"
            ) from error
        finally:
            self._lock.release()
        if answered:  # else one of the threads may be using them
            self._mark.close()
            os.close(self._descriptor)
            self._descriptor = -1
        else:
            raise JournalError(f"{self.path}: the disk did not answer for {CLOSE_TIMEOUT_S} s; given up")

    def _finish(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._mark.flush()

    def _flush_mark_later(self) -> None:
        """Flush the mark once, some seconds from now, on the reader's thread: out of every commit's way."""
        if self._mark_timer is None and self._closing is None:
            self._mark_timer = asyncio.get_running_loop().call_later(MARK_FLUSH_S, self._flush_mark)

    def _flush_mark(self) -> None:
        self._mark_timer = None
        if self._closing is None and (self._mark_flush is None or self._mark_flush.done()):
            self._mark_flush = asyncio.create_task(self._flush_on_reader(), name="journal-mark")

    async def _flush_on_reader(self) -> None:
        with contextlib.suppress(JournalError):  # closed meanwhile, and closing flushes
            await self._read.run(lambda _: self._mark.flush())

    async def _writing(self, function: Callable[[sqlite3.Connection], T]) -> T:
        if self._closing is not None:
            raise JournalError("the journal is closed")
        work = self._write.submit(function)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            # The write goes on; wait for it, so that none is under way once the caller is gone. A second
            # cancellation is let through at once. A failure is kept by the writer and meets the next commit.
            await asyncio.wait({work})
            if not work.cancelled():
                work.exception()
            raise

    async def _reading(self, thread: SqliteThread, function: Callable[[sqlite3.Connection], T]) -> T:
        if self._closing is not None:
            raise JournalError("the journal is closed")
        try:
            return await thread.run(function)
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter: a complaint that quotes damage
            raise JournalReadError(f"{self.path}: {error}") from error


def _is_empty(batch: BatchLike) -> bool:
    return not (
        batch.records
        or batch.instances
        or batch.instances_removed
        or batch.messages_added
        or batch.messages_removed
        or batch.timers_added
        or batch.timers_removed
        or batch.activities_added
        or batch.activities_removed
    )


def _own(path: Path, create: bool) -> tuple[Path, OwnerLock, MarkFound, Mark | None]:
    """Lock the journal and read its mark."""
    path = path.resolve()  # one lock, whatever links lead here
    there = path.is_file() and path.stat().st_size > 0
    if not create and not there:
        raise JournalNotFound(f"there is no journal at {path}")
    lock = OwnerLock(path)
    try:
        found, mark = read_mark(path)
        if mark is not None and not there:
            raise refuse_missing(path, mark)
    except (OSError, JournalError):
        lock.release()
        raise
    return path, lock, found, mark


def _sizes(descriptor: int) -> tuple[int, int]:
    """Bytes of the database file, and of its free pages, by the header that SQLite keeps (fields at 16 and 36)."""
    header = os.pread(descriptor, 40, 0) if descriptor >= 0 else b""
    if len(header) < 40:
        return len(header), 0
    page_size = int.from_bytes(header[16:18], "big")
    free_pages = int.from_bytes(header[36:40], "big")
    return os.fstat(descriptor).st_size, free_pages * (65_536 if page_size == 1 else page_size)
