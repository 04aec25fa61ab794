"""What an engine's books say at one moment, in plain values that can be compared.

Taken when a batch is sealed, they are what recovery must make of the journal up to that batch. Left out is what a crash may
take, because nobody was promised it: questions that are in memory alone, and the places of clients of this process.
"""

from __future__ import annotations

import json
from typing import Any

from gateway.durable import Engine
from gateway.durable import history as h
from gateway.durable.entity import CLIENT
from gateway.durable.execution import Execution
from gateway.durable.instances import EntityInstance, Orchestration
from gateway.durable.mailbox import Mail, encode_content

Json = Any


def books_of(engine: Engine) -> Json:
    """All that is to survive."""
    books: Json = {"instances": {}, "mail": {}, "executions": {}, "children": {}}
    activities = {key for key, _ in engine._interrupted.activities} | set(engine.underway._pending)
    for name, instance in engine.instances.items():
        letters = [*instance.mailbox.parked, *instance.mailbox.mails]
        activities |= {(name, mail.task) for mail in letters if mail.task}
        written = [(mail.id, encode_content(mail.content)) for mail in letters if mail.id]
        if isinstance(instance, Orchestration):
            if instance.terminal:
                continue
            if instance.parent and instance.first_seq:
                books["children"].setdefault(instance.parent, []).append(name)
        if written:
            books["mail"][name] = written
        if instance.first_seq:
            books["instances"][name] = _row(instance)
        if isinstance(instance, Orchestration) and instance.execution is not None and not _starts(letters):
            books["executions"][name] = _execution(instance.execution)
    for family in books["children"].values():
        family.sort()
    books["timers"] = sorted(engine.timers.pending())
    books["signals"] = sorted((*key, encode_content(signal)) for key, signal in engine.underway._scheduled.items())
    books["activities"] = sorted(activities)
    books["records"] = engine.ledger._seq
    return books


async def rehearsed_books_of(engine: Engine) -> Json:
    """The books of an engine that has recovered and does not run yet, with every orchestration replayed."""
    for instance in list(engine.instances.values()):
        if isinstance(instance, Orchestration) and instance.first_seq and not _starts(instance.mailbox.mails):
            await engine._orchestrations._load(instance)
            assert not instance.stuck, instance.stuck
    return books_of(engine)


def differences(was: Json, now: Json) -> list[str]:
    """In words, what is not the same; an execution that was not in memory then can't be compared."""
    found = []
    for part in was:
        if part == "executions":
            for name in was[part]:
                if was[part][name] != now[part].get(name):
                    found.append(f"execution of {name}: was {was[part][name]}, is {now[part].get(name)}")
        elif was[part] != now[part]:
            found.append(f"{part}: was {was[part]}, is {now[part]}")
    return found


def _starts(letters: Any) -> bool:
    return any(isinstance(mail.content, h.ExecutionStarted) for mail in letters if isinstance(mail, Mail))


def _row(instance: Orchestration | EntityInstance) -> Json:
    row = instance.to_row()
    state = json.loads(row.state)
    state.pop("replays", None)  # that of the last replay is written with the turn after it
    if "waiting" in state:
        waiting = {token: caller for token, caller in state["waiting"].items() if not caller[0].startswith(CLIENT)}
        state["waiting"] = waiting
        if not waiting:
            del state["waiting"]
    return [*row[:8], state]


def _execution(execution: Execution) -> Json:
    external = execution._external
    lock = execution._section
    return {
        "open": sorted(execution._open),
        "next": execution.next_task,
        "kept": {name: [bytes(event.data) for event in queue] for name, queue in external._kept.items()},
        "waits": {name: len(queue) for name, queue in external._waits.items()},
        "attempts": {task: attempt.attempts for task, attempt in execution._attempts.items()},
        "lock": None if lock is None else (lock.id, lock.targets, lock.held),
        "now": execution.now_us,
        "events": execution.events_total,
        "actions": execution.actions_total,
        "uuids": execution.uuid_counter,
        "outcome": execution.outcome is None,
    }
