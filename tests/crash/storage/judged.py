"""Opening a journal after a fault, and judging what it holds by what was given and what was acknowledged.

What must stay true: a journal is opened by its own ``Journal.open``, read through its own methods, and compared in full:
all records, all projections, every history, the chain. Then it must take the next batch. A complaint is a violation of
what the journal promises; an empty list is the only good answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from crash.invariant import prefix_violations
from crash.storage.given import Given, Moment

from gateway.durable.store import ActivityRow, Batch, InstanceRow, MessageRow, RecordRow, TimerRow
from journal import Journal, JournalError

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


async def write_step(journal: Journal, given: Given, number: int) -> None:
    """Carry out one step; returns once it is acknowledged."""
    step = given.step(number)
    if isinstance(step, Batch):
        await journal.commit(step)
    else:
        await journal.purge(step)


async def read_all(journal: Journal) -> Held:
    """Everything, through the journal's own methods."""
    recovered = await journal.recover()
    moment = Moment(journal.head().batch, recovered.last_seq, recovered.last_message_id, recovered.last_time_us)
    moment.instances = {row[0]: InstanceRow(*row) for row in await journal.instances(limit=ROWS)}
    moment.messages = {row[0]: MessageRow(*row) for row in recovered.messages}
    moment.timers = {(row[0], row[1]): TimerRow(*row) for row in recovered.timers}
    moment.activities = {(row[0], row[1]): ActivityRow(*row) for row in recovered.activities}
    records: list[RecordRow] = []
    while len(rows := await journal.records(len(records), ROWS)) > 0:
        records += [RecordRow(*row) for row in rows]
    return Held(moment, {row[0]: InstanceRow(*row) for row in recovered.instances}, records)


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
            if await _steps_there(journal, given, found.steps + 1) is None:
                found.complaints.append(f"after going on, it does not hold step {found.steps + 1}")
    except JournalError as error:
        return Found(complaints=[f"it can't be read or written: {type(error).__name__}: {error}"])
    finally:
        await journal.close()
    return found


async def compare(journal: Journal, given: Given, acknowledged: int, asked: int) -> Found:
    """The same of an open journal."""
    held = await read_all(journal)
    found = Found()
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
    found.complaints += [f"records: {complaint}" for complaint in wrong] or await _histories(journal, held.records)
    verified = await journal.verify()
    if not verified.ok or verified.batches != held.moment.batches:
        found.complaints.append(f"the chain does not verify: {verified.reason}")
    return found


async def _histories(journal: Journal, records: list[RecordRow]) -> list[str]:
    """Each instance's history along its links must be its records: the one of the last record and of the longest."""
    if not records:
        return []
    names = {records[-1].instance, records[0].instance}
    return [
        f"the history of {name} is not what was given"
        for name in sorted(names)
        if [tuple(row) for row in await journal.history(name, 1)] != [row for row in records if row.instance == name]
    ]


async def _steps_there(journal: Journal, given: Given, steps: int) -> int | None:
    moment = given.moment(steps)
    head, recovered = journal.head(), await journal.recover()
    there = (head.batch, head.seq, len(recovered.messages)) == (moment.batches, moment.last_seq, len(moment.messages))
    return steps if there else None
