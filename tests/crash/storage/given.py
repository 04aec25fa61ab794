"""What is given to a journal under faults, and what it must hold after each step: a pure model of the batches.

The steps of a seed are always the same, and each continues the one before. So a journal that was cut off after any of
them goes on with the next one, and what it holds can be compared with one moment of the model, in full: records,
projections, highest ids. Nothing here touches a file.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields

from gateway.durable.store import ActivityRow, Batch, InstanceRow, MessageRow, RecordRow, TimerRow
from journal.rows import TERMINAL_STATUSES

PLANS = 6
BREAKERS = 8
KINDS = ("OrchestratorStarted", "TaskCompleted", "TimerFired", "EventRaised", "Opened")
US = 1_000


@dataclass(slots=True)
class Moment:
    """What a journal holds after some number of steps."""

    batches: int = 0
    last_seq: int = 0
    last_message_id: int = 0
    last_time_us: int = 0
    instances: dict[str, InstanceRow] = field(default_factory=dict)
    messages: dict[int, MessageRow] = field(default_factory=dict)
    timers: dict[tuple[str, int], TimerRow] = field(default_factory=dict)
    activities: dict[tuple[str, int], ActivityRow] = field(default_factory=dict)

    def after(self, step: Batch) -> Moment:
        """The moment that follows."""
        following = Moment(
            self.batches,
            self.last_seq,
            self.last_message_id,
            self.last_time_us,
            dict(self.instances),
            dict(self.messages),
            dict(self.timers),
            dict(self.activities),
        )
        following._commit(step)
        return following

    def live(self) -> dict[str, InstanceRow]:
        """What a recovery reads of the instances."""
        return {
            name: row
            for name, row in self.instances.items()
            if row.kind == "entity" or row.status not in TERMINAL_STATUSES
        }

    def differences(self, other: Moment) -> list[str]:
        """Which parts differ, in words; empty if they are the same."""
        return [
            f"{part.name}: {_differing(getattr(self, part.name), getattr(other, part.name))}"
            for part in fields(self)
            if getattr(self, part.name) != getattr(other, part.name)
        ]

    def _commit(self, batch: Batch) -> None:
        self.batches += 1
        self.last_seq += len(batch.records)
        self.last_message_id = max(self.last_message_id, *batch.messages_added, *batch.messages_removed, 0)
        self.last_time_us = max(self.last_time_us, batch.time_us, *(row.time_us for row in batch.records))
        for name in batch.instances_removed:
            self.instances.pop(name, None)
        for message_id in batch.messages_removed:
            self.messages.pop(message_id, None)
        for key in batch.timers_removed:
            self.timers.pop(key, None)
        for key in batch.activities_removed:
            self.activities.pop(key, None)
        self.instances.update(batch.instances)
        self.messages.update(batch.messages_added)
        self.timers.update(batch.timers_added)
        self.activities.update(batch.activities_added)


class Given:
    """The steps of one seed and the moments between them; made as they are asked for.

    ``large``: how many bytes a payload may have (most are small).
    """

    def __init__(self, seed: int, *, large: int = 3_000) -> None:
        self.seed = seed
        self._dice = random.Random(seed)
        self._large = large
        self._steps: list[Batch] = []
        self._moments = [Moment()]
        self.records: list[RecordRow] = []

    def step(self, number: int) -> Batch:
        """Step ``number``, counted from 0."""
        while len(self._steps) <= number:
            self._extend()
        return self._steps[number]

    def moment(self, steps: int) -> Moment:
        """What is held after so many steps."""
        if steps:
            self.step(steps - 1)
        return self._moments[steps]

    def moments_with(self, batches: int, up_to: int) -> list[int]:
        """After how many steps (up_to at most) so many batches are there: the latest first."""
        return [steps for steps in range(up_to, -1, -1) if self.moment(steps).batches == batches]

    def _extend(self) -> None:
        now = self._moments[-1]
        step = self._batch(now)
        self.records += step.records
        self._steps.append(step)
        self._moments.append(now.after(step))

    def _batch(self, now: Moment) -> Batch:
        dice = self._dice
        batch = Batch()
        for number in range(now.last_seq + 1, now.last_seq + 1 + dice.choice((0, 1, 1, 2, 3, 5, 9))):
            record = RecordRow(
                number, self._name(), dice.choice(KINDS), now.last_time_us + number % 7 * US, self._bytes()
            )
            batch.records.append(record)
        batch.time_us = now.last_time_us + dice.randrange(US)
        for name in [self._name() for _ in range(dice.randrange(1, 4))]:
            batch.instances[name] = self._instance(name, now)
        if now.instances and dice.random() < 0.1:
            batch.instances_removed.add(dice.choice(list(now.instances)))
        for _ in range(dice.randrange(3)):
            message_id = max(now.last_message_id, *batch.messages_added, 0) + 1
            batch.add_message(MessageRow(message_id, self._name(), self._bytes()))
            batch.add_timer(TimerRow(self._name(), dice.randrange(4), dice.randrange(2**50), self._bytes()))
            batch.add_activity(ActivityRow(self._name(), dice.randrange(4), self._bytes()))
        batch.messages_removed.update(self._some(now.messages))
        batch.timers_removed.update(self._some(now.timers))
        batch.activities_removed.update(self._some(now.activities))
        return batch

    def _instance(self, name: str, now: Moment) -> InstanceRow:
        dice = self._dice
        status = "Running"
        if not name.startswith("@"):
            status = dice.choice(("Running", "Running", "Suspended", "ContinuedAsNew", *TERMINAL_STATUSES))
        kind = "entity" if name.startswith("@") else "orchestration"
        # Whoever comes anew has nothing of the records that were written under its name before.
        first_seq = now.instances[name].first_seq if name in now.instances else now.last_seq + 1
        return InstanceRow(name, kind, "shed", status, "", 1, now.last_time_us, first_seq, self._bytes())

    def _some(self, held: dict) -> list:  # type: ignore[type-arg]
        return self._dice.sample(list(held), min(len(held), self._dice.randrange(3)))

    def _name(self) -> str:
        dice = self._dice
        return f"plan-{dice.randrange(PLANS)}" if dice.random() < 0.5 else f"@breaker@{dice.randrange(BREAKERS)}B"

    def _bytes(self) -> bytes:
        return self._dice.randbytes(self._dice.randrange(self._large if self._dice.random() < 0.1 else 60))


def _differing(ours: object, theirs: object) -> str:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted({str(key) for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)})
        return f"{len(keys)} differ, such as {keys[0]}"
    return f"{ours!r}, not {theirs!r}"
