"""Rewinds failed orchestrations: reads what they are made of, and lets what failed happen again.

Reading takes its time, and the engine goes on meanwhile; so the ids are reserved (``Ledger.starting``), and all that
could have changed is looked at once more before anything is done. What is then done, for the orchestration and for those
of its sub-orchestrations that failed, is one step in memory, and so one batch.

What must stay true: a step that succeeded does not run again; what may run once only, or may have been carried out by an
entity, is not repeated unless its failure is known: its caller is told so instead. On a crash here: the batch is on disk
whole, and the rewound orchestrations find ``ExecutionRewound`` first in their mail (behind ``ExecutionStarted``, if they
start over); or nothing was changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

import msgspec

from gateway.durable import history as h
from gateway.durable.activities import INTERRUPTED
from gateway.durable.codec import NULL
from gateway.durable.decisions import Decisions
from gateway.durable.entity import OperationRequest
from gateway.durable.errors import FailureDetails, NotFoundError, WrongStatusError
from gateway.durable.instances import (
    ORCHESTRATION,
    TERMINAL,
    EntityInstance,
    Orchestration,
    OrchestrationRuntimeStatus,
    decode_state,
)
from gateway.durable.ledger import Ledger
from gateway.durable.mailbox import Lane
from gateway.durable.rewound import Cut, cut
from gateway.durable.store import InstanceRow, Store
from gateway.durable.underway import Underway

UNKNOWN = "OutcomeUnknown"
"""Kind of the failure of a step that is not repeated, because it may have been carried out."""
MAX_TRIES = 10


@dataclass(slots=True)
class _Read:
    """What the journal has of one instance. cut: for one that is to be rewound. children: rows of its open
    sub-orchestrations, by their ids."""

    row: InstanceRow
    cut: Cut
    children: dict[str, InstanceRow | None] = field(default_factory=dict)


class Rewinding:
    """See above. on_disk: completes once all that was decided is on disk."""

    def __init__(
        self,
        ledger: Ledger,
        underway: Underway,
        store: Store,
        decisions: Decisions,
        on_disk: Callable[[], asyncio.Future[None]],
    ) -> None:
        self._ledger = ledger
        self._underway = underway
        self._store = store
        self._decisions = decisions
        self._on_disk = on_disk

    async def rewind(self, instance_id: str, reason: str, raised_by: str) -> None:
        """Let a failed orchestration go on from before its failure.

        Errors: NotFoundError (the instance, or its code), WrongStatusError (not failed, or in a critical section).
        """
        for _ in range(MAX_TRIES):
            await self._on_disk()  # what has ended up to now can be read
            reserved: set[str] = set()
            try:
                reads = await self._read_all(instance_id, reserved)
            finally:
                self._ledger.starting -= reserved
            if not self._unchanged(reads):
                continue
            self._ledger.now_us()
            for read in reads.values():
                self._revive(read, reads, reason, raised_by)
            return
        raise WrongStatusError(
            f"{instance_id} can't be rewound now: its sub-orchestrations are about to end; try again"
        )

    # Reading

    async def _read_all(self, instance_id: str, reserved: set[str]) -> dict[str, _Read]:
        """The instance and its failed sub-orchestrations, all the way down."""
        reads: dict[str, _Read] = {}
        waiting = [instance_id]
        while waiting:
            name = waiting.pop()
            self._reserve(name, reserved)
            reads[name] = read = await self._read(name)
            for step in read.cut.open.values():
                if isinstance(step, h.SubOrchestrationInstanceCreated):
                    self._reserve(step.instance, reserved)
                    found = await self._store.instance(step.instance)
                    child = None if found is None else InstanceRow(*found)
                    read.children[step.instance] = child
                    if child is not None and _failed_child(child, name, step.id) and step.instance not in reads:
                        waiting.append(step.instance)
        return reads

    def _reserve(self, name: str, reserved: set[str]) -> None:
        if name in self._ledger.starting and name not in reserved:
            raise WrongStatusError(f"{name} is being started, rewound or purged already")
        self._ledger.starting.add(name)
        reserved.add(name)

    async def _read(self, name: str) -> _Read:
        found = await self._store.instance(name)
        row = None if found is None else InstanceRow(*found)
        live = self._ledger.instances.get(name)
        if isinstance(live, Orchestration) and not live.terminal:
            raise WrongStatusError(f"{name} is {live.status}: only a failed orchestration can be rewound")
        if row is None or row.kind != ORCHESTRATION:
            raise NotFoundError(f"there is no orchestration {name!r}")
        if row.status != OrchestrationRuntimeStatus.Failed:
            raise WrongStatusError(f"{name} is {row.status}: only a failed orchestration can be rewound")
        code = self._ledger.registry.get_orchestrator(row.name, decode_state(row.state).version)
        records = await self._store.history(name, row.first_seq)
        turns = [(r[0], r[3], h.decode_turn(r[4])) for r in records if r[2] == h.TURN]
        if not turns:
            raise WrongStatusError(f"{name} has no history that it could go back in")
        found_cut = cut(name, code.function, turns)
        if found_cut.section:
            raise WrongStatusError(
                f"{name} failed in a critical section, or on the way into one, and others may have changed what it had "
                "locked: restart it instead"
            )
        return _Read(row, found_cut)

    def _unchanged(self, reads: dict[str, _Read]) -> bool:
        """True while all is as it was read."""
        for name, read in reads.items():
            live = self._ledger.instances.get(name)
            if live is not None and not (isinstance(live, Orchestration) and live.settled):
                return False
            for child, row in read.children.items():
                now = self._ledger.instances.get(child)
                runs = isinstance(now, Orchestration) and not now.terminal
                if not runs and ((row is not None and row.status not in TERMINAL) or (now is not None and row is None)):
                    return False
                if isinstance(now, Orchestration) and now.terminal and now.row != row:
                    return False
        return True

    # Doing

    def _revive(self, read: _Read, reads: dict[str, _Read], reason: str, raised_by: str) -> None:
        ledger, found = self._ledger, read.cut
        instance = self._bring_back(read.row)
        again = tuple(sorted(step for step in found.open if step in found.failed))
        rewound = h.ExecutionRewound(found.until, instance.next_task, reason, raised_by, again)
        if found.started is not None:
            code = ledger.registry.get_orchestrator(instance.name, instance.version)
            started = msgspec.structs.replace(
                found.started, first_task=instance.next_task, fingerprint=code.fingerprint
            )
            ledger.send(instance, started, Lane.OPERATOR)
        ledger.send(instance, rewound, Lane.OPERATOR)
        for event in found.heard:
            ledger.send(instance, event, Lane.OPERATOR)
        for _, step in sorted(found.open.items()):
            failure = found.failed.get(step.id)
            match step:
                case h.TaskScheduled():
                    self._activity(instance, step, failure)
                case h.EntityOperationCalled():
                    self._entity_call(instance, step, failure)
                case h.SubOrchestrationInstanceCreated():
                    self._child(instance, step, read.children[step.instance], reads)
                case h.TimerCreated():
                    self._decisions.carry_out(instance, step)
                case _:
                    assert_never(step)

    def _bring_back(self, row: InstanceRow) -> Orchestration:
        instance = self._ledger.instances.get(row.instance)
        if not isinstance(instance, Orchestration):
            instance = Orchestration.from_row(row)
            instance.activities = self._underway.activities_of(row.instance)
            self._ledger.admit(instance)
        instance.status = OrchestrationRuntimeStatus.Running
        instance.output, instance.failure, instance.buffered = NULL, None, 0
        self._ledger.touch(instance)
        return instance

    def _activity(self, instance: Orchestration, step: h.TaskScheduled, failure: FailureDetails | None) -> None:
        if step.id in instance.activities:
            return  # under way all the time: its result will be heard
        if (failure is None or failure.kind == INTERRUPTED) and not self._may_repeat(step.name):
            words = f"{step.name} may run once only, and how it ended is not known: it is not repeated"
            self._ledger.send(instance, h.TaskFailed(step.id, FailureDetails(INTERRUPTED, words)))
        else:
            self._decisions.carry_out(instance, step, again=True)

    def _may_repeat(self, name: str) -> bool:
        try:
            return not self._ledger.registry.get_activity(name).at_most_once
        except NotFoundError:
            return False  # nobody can say any more whether it may be repeated: never repeat on a guess

    def _entity_call(
        self, instance: Orchestration, step: h.EntityOperationCalled, failure: FailureDetails | None
    ) -> None:
        if failure is not None and failure.kind != UNKNOWN:
            self._decisions.carry_out(instance, step, again=True)
        elif not owes_answer(self._ledger.instances.get(step.target), instance.id, step.id):
            words = (
                f"{step.name} on {step.target} may have been carried out, and its answer is lost: it is not repeated"
            )
            self._ledger.send(instance, h.EntityOperationFailed(step.id, FailureDetails(UNKNOWN, words)))

    def _child(
        self,
        instance: Orchestration,
        step: h.SubOrchestrationInstanceCreated,
        row: InstanceRow | None,
        reads: dict[str, _Read],
    ) -> None:
        live = self._ledger.instances.get(step.instance)
        if isinstance(live, Orchestration) and not live.terminal and _is_child(live, instance.id, step.id):
            return  # it runs (perhaps rewound just now) and will answer
        if row is not None and _belongs(row, instance.id, step.id):
            if step.instance in reads:
                return
            if row.status == OrchestrationRuntimeStatus.Completed:
                output = decode_state(row.state).output
                self._ledger.send(instance, h.SubOrchestrationInstanceCompleted(step.id, output))
                return
        self._decisions.carry_out(instance, step, again=True)


def owes_answer(entity: object, caller: str, task: int) -> bool:
    """True while this entity has not answered this question of an orchestration."""
    if not isinstance(entity, EntityInstance):
        return False
    if (caller, task) in entity.core.waiting.values():
        return True
    asked = (mail.content for mails in (entity.mailbox.mails, entity.mailbox.parked) for mail in mails)
    return any(isinstance(q, OperationRequest) and q.caller == caller and q.caller_task == task for q in asked)


def _is_child(child: Orchestration, parent: str, task: int) -> bool:
    return child.parent == parent and child.parent_task == task


def _belongs(row: InstanceRow, parent: str, task: int) -> bool:
    return row.kind == ORCHESTRATION and row.parent == parent and decode_state(row.state).parent_task == task


def _failed_child(row: InstanceRow, parent: str, task: int) -> bool:
    return row.status == OrchestrationRuntimeStatus.Failed and _belongs(row, parent, task)
