"""The disk under the journal: a batch is durable some time after it was given, and known to be so a little later.

A crash in between is a coin: the batch that was under way may be there, whole, or not. Some commits fail, before or after
they got to the disk. What must stay true: what was acknowledged is there after every crash, in the order of the batches.
The book of intents is kept here, from what is durable: the field asks it whether a frame had a cause on disk.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from gateway.durable import history as h
from gateway.durable.store import Batch, RecordRow
from gateway.durable.testing import MemoryStore

BREAKER = "@breaker@"


@dataclass(slots=True)
class Intent:
    """One durable intent. cause: the operation that asked for the frame; frames: how many left for it."""

    feeder: str
    number: int
    target: str
    deadline_us: int
    seq: int
    time_us: int
    cause: h.OperationRecord
    frames: int = 0


class Disk(MemoryStore):
    """What is durable. digest: of every byte that ever got here."""

    def __init__(self) -> None:
        super().__init__()
        self.by_instance: dict[str, list[RecordRow]] = defaultdict(list)
        self.intents: dict[str, list[Intent]] = defaultdict(list)
        self.digest = hashlib.sha256()
        self.on_batch: Callable[[Batch], None] = lambda _: None

    def put(self, batch: Batch) -> None:
        """The batch is durable from now on."""
        self._apply(batch)
        self.batches.clear()  # nobody goes back; what they held is below
        for record in batch.records:
            self.by_instance[record.instance].append(record)
            self.digest.update(record.payload)
            self.digest.update(b"%d %d" % (record.seq, record.time_us))
            if record.instance.startswith(BREAKER):
                self._note_intents(record)
        for row in batch.instances.values():
            self.digest.update(row.state)
        self.digest.update(
            repr(
                (
                    list(batch.messages_added),
                    list(batch.timers_added),
                    list(batch.activities_added),
                    sorted(batch.messages_removed),
                    sorted(batch.timers_removed),
                    sorted(batch.activities_removed),
                )
            ).encode()
        )
        self.on_batch(batch)

    def _note_intents(self, record: RecordRow) -> None:
        if b'"OperateBreaker"' not in record.payload:
            return
        for operation in h.decode_entity_record(record.payload).operations:
            for action in operation.actions:
                if isinstance(action, h.EntityActivity) and action.name == "OperateBreaker":
                    order = msgspec.json.decode(action.input)
                    feeder = order["feeder"]
                    self.intents[feeder].append(
                        Intent(
                            feeder,
                            order["intent"],
                            order["target"],
                            order["deadline_us"],
                            record.seq,
                            record.time_us,
                            operation,
                        )
                    )

    async def history(self, instance: str, first_seq: int) -> list[RecordRow]:
        """See Store."""
        await asyncio.sleep(0)
        return [record for record in self.by_instance.get(instance, ()) if record.seq >= first_seq]

    @property
    def last_time_us(self) -> int:
        """Time of the last record, as the journal tells it."""
        return self.records[-1].time_us if self.records else 0


class Journal:
    """The Store of one process. note: told of what goes wrong. fails: how often a commit does (0 to 1)."""

    def __init__(self, disk: Disk, chance: random.Random, note: Callable[..., None], fails: float = 0.0) -> None:
        self.disk = disk
        self.fails = fails
        self.commits = 0
        self.trouble = ""
        """Set when a commit comes after one that failed: the gateway went on without its journal."""
        self._chance = chance
        self._note = note
        self._under_way: list[Batch] = []
        self._failed = False
        self.recover = disk.recover
        self.history = disk.history
        self.instance = disk.instance
        self.instances = disk.instances

    async def commit(self, batch: Batch) -> None:
        """See Store."""
        if self._failed:
            self.trouble = "a batch was given to a journal that has failed"
        self.commits += 1
        failure = self._chance.random() < self.fails
        late = failure and self._chance.random() < 0.5
        self._under_way.append(batch)
        await asyncio.sleep(self._delay_s())
        if failure and not late:
            self._failed = True
            self._note("commit failed, not durable")
            raise OSError(errno.ENOSPC, "no space left on device")
        self._under_way.remove(batch)
        self.disk.put(batch)
        if late:
            self._failed = True
            self._note("commit failed, durable")
            raise OSError(errno.EIO, "input/output error")
        await asyncio.sleep(self._chance.random() * 0.0005)

    def _delay_s(self) -> float:
        chance = self._chance.random()
        if chance < 0.002:
            self._note("disk stalls")
            return self._chance.uniform(0.3, 4.0)
        return self._chance.uniform(0.05, 0.3) if chance < 0.02 else self._chance.uniform(0.0003, 0.002)

    def crash(self) -> None:
        """The process is gone: what was under way got to the disk, or it did not; a prefix of it in any case."""
        for batch in self._under_way:
            if self._chance.random() < 0.5:
                self._note("crash: batch under way is lost")
                return
            self._note("crash: batch under way is durable")
            self.disk.put(batch)
        self._under_way.clear()


class HastyJournal(Journal):
    """A control: it acknowledges before the batch is durable, as a disk with a lying write cache does."""

    async def commit(self, batch: Batch) -> None:
        """See Store."""
        self._under_way.append(batch)
        asyncio.get_running_loop().call_later(self._delay_s(), self._flush)
        await asyncio.sleep(0)

    def _flush(self) -> None:
        if self._under_way:
            self.disk.put(self._under_way.pop(0))
