"""Opening a journal after a fault, and judging what it holds by what was given and what was acknowledged.

What must stay true: a journal is opened by its own ``Journal.open``, read by its own queries, and compared in full:
all records, all projections, every history, the chain. Then it must take the next batch. A complaint is a violation of
what the journal promises; an empty list is the only good answer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from crash.invariant import prefix_violations
from crash.storage.given import Given, Moment

from gateway.durable.store import ActivityRow, InstanceRow, MessageRow, RecordRow, TimerRow
from journal import Archived, ArchiveReader, Journal, JournalError, cuts, reader, recovery
from journal.archive import verify_archives
from journal.writer import ChainEnd

ROWS = 10_000


@dataclass(slots=True)
class Found:
    """What a reopening showed. steps: how many of the given steps are there; None if no number of them explains it."""

    steps: int | None = None
    complaints: list[str] = field(default_factory=list)
    refused: JournalError | None = None
    """It was not opened at all, and said why."""


@dataclass(slots=True)
class Held:
    """All that a journal holds."""

    moment: Moment
    live: dict[str, InstanceRow]
    records: list[RecordRow]
    """Those in archives too, which lie beside the journal."""
    archived: int
    """How many of them are in archives."""
    notes: int
    """What the journal says of itself: batches that nobody gave."""
    complaints: list[str]


async def write_step(journal: Journal, given: Given, number: int) -> None:
    """Commit one step; returns once it is acknowledged."""
    await journal.commit(given.step(number))


async def read_all(journal: Journal) -> Held:
    """Everything, by the functions behind the journal's own queries: on its thread at once, as 6,000 states are many."""
    query = partial(_read_all, folder=journal.path.parent, end=journal._writer.end)
    return await journal._reading(journal._read, query)


def _read_all(connection: sqlite3.Connection, folder: Path, end: ChainEnd) -> Held:
    recovered = recovery.recover(connection, end)
    moment = Moment(end.batch, recovered.last_seq, recovered.last_message_id, recovered.last_time_us)
    rows = reader.instance_rows(connection, None, None, None, None, None, None, ROWS, None)
    moment.instances = {row[0]: InstanceRow(*row) for row in rows}
    moment.messages = {row[0]: MessageRow(*row) for row in recovered.messages}
    moment.timers = {(row[0], row[1]): TimerRow(*row) for row in recovered.timers}
    moment.activities = {(row[0], row[1]): ActivityRow(*row) for row in recovered.activities}
    known = cuts.archives(connection)
    verified = verify_archives(folder, known)
    records, notes = archived_records(folder, known) if verified.ok else ([], 0)
    archived = len(records)
    records += [RecordRow(*row) for row in reader.records(connection, archived, end.seq, ROWS, None)]
    # Rows of what is in an archive may still be here: they go in slices.
    notes += len(cuts.notes(connection, known[-1].last_batch if known else 0, ROWS))
    live = {row[0]: InstanceRow(*row) for row in recovered.instances}
    held = Held(moment, live, records, archived, notes, [])
    held.complaints += [] if verified.ok else [f"the archives do not verify: {verified.reason}"]
    held.complaints += _histories(connection, held)
    return held


def archived_records(folder: Path, known: Sequence[Archived]) -> tuple[list[RecordRow], int]:
    """The records of all archives, and how many notes are among their batches."""
    records, notes = [], 0
    for one in known:
        with ArchiveReader(folder / one.file) as archive:
            for batch in archive.batches():
                notes += batch.note is not None
                records += [RecordRow(*row[:4], row[5]) for row in batch.records]
    return records, notes


async def judge(path: Path, given: Given, acknowledged: int, asked: int, *, go_on: bool = True) -> Found:
    """Open, read and compare; ``acknowledged`` steps must be there, and no more than were ``asked`` for.

    go_on: also write the next step. The journal is closed again.
    """
    try:
        journal = await Journal.open(path)
    except JournalError as error:
        return Found(complaints=[f"it was refused: {error}"], refused=error)
    try:
        found = await compare(journal, given, acknowledged, asked)
        if go_on and found.steps is not None and not found.complaints:
            await write_step(journal, given, found.steps)
            if not await _went_on(journal, given, found.steps + 1):
                found.complaints.append(f"after going on, it does not hold step {found.steps + 1}")
    except JournalError as error:
        return Found(complaints=[f"it can't be read or written: {type(error).__name__}: {error}"])
    finally:
        await journal.close()
    return found


async def compare(journal: Journal, given: Given, acknowledged: int, asked: int) -> Found:
    """The same of an open journal."""
    held = await read_all(journal)
    found = Found(complaints=held.complaints)
    held.moment.batches -= held.notes
    closest: list[str] = []
    for steps in given.moments_with(held.moment.batches, asked):
        closest = given.moment(steps).differences(held.moment)
        if not closest:
            found.steps = steps
            break
    if found.steps is None:
        found.complaints.append(f"what {held.moment.batches} batches left is no prefix of what was given: {closest}")
    else:
        if found.steps < acknowledged:
            found.complaints.append(f"{acknowledged} steps were acknowledged, {found.steps} are there")
        if held.live != given.moment(found.steps).live():
            found.complaints.append("what is recovered as live is not what is live")
    wrong = prefix_violations(given.records, given.moment(acknowledged).last_seq, held.records)
    found.complaints += [f"records: {complaint}" for complaint in wrong]
    verified = await journal.verify()
    if not verified.ok or verified.head != journal.head():
        found.complaints.append(f"the chain does not verify: {verified.reason}")
    return found


def _histories(connection: sqlite3.Connection, held: Held) -> list[str]:
    """An instance's history along its links must be its records, back to the archives at least: of two instances."""
    complaints = []
    for name in sorted({held.records[-1].instance, held.records[0].instance} if held.records else ()):
        expected = [row for row in held.records if row.instance == name]
        history = [RecordRow(*row) for row in reader.history(connection, name, 1)]
        least = sum(row.seq > held.archived for row in expected)
        if len(history) < least or history != expected[len(expected) - len(history) :]:
            complaints.append(f"the history of {name} is not what was given")
    return complaints


async def _went_on(journal: Journal, given: Given, steps: int) -> bool:
    moment = given.moment(steps)
    head, recovered = journal.head(), await journal.recover()
    return (head.seq, len(recovered.messages)) == (moment.last_seq, len(moment.messages))
