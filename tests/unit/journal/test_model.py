"""Whatever batches are written: what is recovered is what a dictionary would hold, and histories are complete."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.durable.store import ActivityRow, Batch, InstanceRow, MessageRow, RecordRow, TimerRow
from journal import Journal
from journal.rows import TERMINAL_STATUSES

NAMES = st.sampled_from(["plan", "plan:0001", "@breaker@7B", "@breaker@ö\U0001f50c", ""])
PAYLOADS = st.binary(max_size=6)
TASKS = st.tuples(NAMES, st.integers(0, 2))
TIMES = st.integers(0, 2**53)
STATUSES = st.sampled_from(["Running", "Suspended", "ContinuedAsNew", *TERMINAL_STATUSES])


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Additions and removals as they come, in any combination; sequence numbers are filled in later."""
    batch = Batch()
    batch.time_us = draw(TIMES)
    for name in draw(st.lists(NAMES, max_size=6)):
        batch.records.append(RecordRow(0, name, draw(st.sampled_from(["A", "B"])), draw(TIMES), draw(PAYLOADS)))
    for name in draw(st.sets(NAMES, max_size=3)):
        kind = "entity" if name.startswith("@") else "orchestration"
        batch.instances[name] = InstanceRow(name, kind, "n", draw(STATUSES), "", 1, 2, 1, draw(PAYLOADS))
    batch.instances_removed.update(draw(st.sets(NAMES, max_size=2)))
    batch.messages_removed.update(draw(st.sets(st.integers(1, 9), max_size=3)))
    for message_id in draw(st.sets(st.integers(1, 9), max_size=3)):
        batch.messages_added[message_id] = MessageRow(message_id, draw(NAMES), draw(PAYLOADS))
    batch.timers_removed.update(draw(st.sets(TASKS, max_size=3)))
    for name, task in draw(st.sets(TASKS, max_size=3)):
        batch.timers_added[name, task] = TimerRow(name, task, draw(TIMES), draw(PAYLOADS))
    batch.activities_removed.update(draw(st.sets(TASKS, max_size=3)))
    for name, task in draw(st.sets(TASKS, max_size=3)):
        batch.activities_added[name, task] = ActivityRow(name, task, draw(PAYLOADS))
    return batch


@dataclass
class Model:
    """The journal as dictionaries."""

    records: list[RecordRow] = field(default_factory=list)
    instances: dict[str, InstanceRow] = field(default_factory=dict)
    messages: dict[int, MessageRow] = field(default_factory=dict)
    timers: dict[tuple[str, int], TimerRow] = field(default_factory=dict)
    activities: dict[tuple[str, int], ActivityRow] = field(default_factory=dict)
    message_id: int = 0
    time_us: int = 0

    def apply(self, batch: Batch) -> None:
        if batch.empty:
            return
        self.records += batch.records
        for held, removed, added in (
            (self.instances, batch.instances_removed, batch.instances),
            (self.messages, batch.messages_removed, batch.messages_added),
            (self.timers, batch.timers_removed, batch.timers_added),
            (self.activities, batch.activities_removed, batch.activities_added),
        ):
            for key in removed:
                held.pop(key, None)  # type: ignore[attr-defined]
            held.update(added)  # type: ignore[attr-defined]
        self.message_id = max(self.message_id, *batch.messages_added, *batch.messages_removed, 0)
        self.time_us = max(self.time_us, batch.time_us, *(row.time_us for row in batch.records))

    def live(self) -> list[InstanceRow]:
        return sorted(r for r in self.instances.values() if r.kind == "entity" or r.status not in TERMINAL_STATUSES)


@given(st.lists(st.tuples(batches(), st.booleans()), max_size=8))
@settings(max_examples=60, deadline=None)
def test_a_journal_holds_what_the_model_holds(steps: list[tuple[Batch, bool]]) -> None:
    asyncio.run(write_and_compare(steps))


async def write_and_compare(steps: list[tuple[Batch, bool]]) -> None:
    """Write the batches, reopening after some, then compare everything."""
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.db"
        journal = await Journal.open(path)
        for batch, reopen in steps:
            first = len(model.records) + 1
            batch.records = [row._replace(seq=seq) for seq, row in enumerate(batch.records, first)]
            await journal.commit(batch)
            model.apply(batch)
            if reopen:
                await journal.close()
                journal = await Journal.open(path)
        recovered = await journal.recover()
        assert sorted(recovered.instances) == model.live()
        assert list(recovered.messages) == sorted(model.messages.values())
        assert sorted(recovered.timers) == sorted(model.timers.values())
        assert sorted(recovered.activities) == sorted(model.activities.values())
        assert recovered.last_seq == len(model.records)
        assert recovered.last_message_id == model.message_id
        assert recovered.last_time_us == model.time_us
        assert list(await journal.instances()) == sorted(model.instances.values())
        assert list(await journal.records(0)) == model.records
        for name in {row.instance for row in model.records}:
            assert list(await journal.history(name, 2)) == [
                r for r in model.records if r.instance == name and r.seq > 1
            ]
        assert (await journal.verify()).ok
        await journal.close()
