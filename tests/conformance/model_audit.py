"""Holds what a journal says against the reference, and against what the world outside knows.

The auditor reads committed rows and records as plain JSON. Every turn of every instance must decide as the reference does;
what each instance waits for must be under way in the books, and nothing else; every message must have been handled once, or
wait to be; and what clients were promised must be there, in the order in which each of them sent it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gateway.durable.testing import MemoryStore
from tests.conformance.model_reference import Reference

Json = Any
TERMINAL = ("Completed", "Failed", "Terminated")
ANSWERS = {
    "TimerFired",
    "TaskCompleted",
    "TaskFailed",
    "SubOrchestrationInstanceCompleted",
    "SubOrchestrationInstanceFailed",
    "EntityOperationCompleted",
    "EntityOperationFailed",
    "EntityLockGranted",
}
INCOMING = ANSWERS | {
    "ExecutionStarted",
    "EventRaised",
    "ExecutionSuspended",
    "ExecutionResumed",
    "ExecutionTerminated",
    "ExecutionRewound",
}


@dataclass
class Facts:
    """What the world knows. A client's act is promised (it was told so), refused, or open (a crash came first).

    events: (instance, sender, number) → what became of it. tokens: of signals and calls, in the order in which each sender
    sent them. starts: instances. executed: each run of an activity, as (operation id, attempt, name); ahead: those
    whose cause was not on disk. purged: instances that may be gone. rewinds: (instance, reason) → what became of it.
    """

    events: dict[tuple[str, str, int], str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    starts: dict[str, str] = field(default_factory=dict)
    executed: Counter[tuple[str, int, str]] = field(default_factory=Counter)
    ahead: list[tuple[str, int]] = field(default_factory=list)
    purged: set[str] = field(default_factory=set)
    rewinds: dict[tuple[str, str], str] = field(default_factory=dict)


class Audit:
    """One look at one journal. references: by instance."""

    def __init__(self, store: MemoryStore, facts: Facts) -> None:
        self.store = store
        self.facts = facts
        self.references: dict[str, Reference] = {}
        self.mail: dict[str, list[Json]] = defaultdict(list)
        self.events: dict[str, list[Json]] = defaultdict(list)
        self.operations: dict[str, list[Json]] = defaultdict(list)
        self.asked: list[tuple[str, Json]] = []
        self.sent: list[tuple[int, str, Json]] = []
        self.results: dict[tuple[str, int], Json] = {}
        self.begun: dict[str, int] = {}
        self.rewound: set[tuple[str, str]] = set()
        self.heard: dict[str, int] = {}
        for number in sorted(store.messages):
            message = store.messages[number]
            self.mail[message.target].append(json.loads(message.payload))
        for record in store.records:
            if record.kind == "turn":
                self._turn(record.seq, record.instance, record.time_us, json.loads(record.payload))
            elif record.kind == "operations":
                operations = json.loads(record.payload)["operations"]
                self.operations[record.instance] += operations
                self.heard |= {
                    o["input"]["token"]: record.time_us for o in operations if "token" in (o.get("input") or {})
                }

    def check(self) -> None:
        """Raise AssertionError where journal, reference and facts disagree."""
        assert not self.facts.ahead, f"activities ran ahead of the disk: {self.facts.ahead}"
        for instance, row in self.store.rows.items():
            if row.kind == "orchestration":
                self._check_row(instance)
        self._check_answers()
        self._check_events()
        self._check_rewinds()
        self._check_entities()
        self._check_messages_to_entities()
        self._check_activities()
        for instance, what in self.facts.starts.items():
            if what == "promised" and instance not in self.facts.purged:
                assert instance in self.store.rows or self._has_start(instance), f"{instance} is forgotten"

    # Orchestrations

    def _turn(self, seq: int, instance: str, time_us: int, record: Json) -> None:
        reference = self.references.setdefault(instance, Reference(instance))
        self.begun.setdefault(instance, seq)
        incoming = [event for event in record["events"] if event["type"] in INCOMING]
        actions = [event for event in record["events"] if event["type"] not in INCOMING]
        for event in incoming:
            if event["type"] == "EventRaised":
                self.events[instance].append(event["data"])
            elif event["type"] == "ExecutionRewound":
                self.rewound.add((instance, event["reason"]))
            elif event["type"].startswith("SubOrchestrationInstance"):
                self.results[instance, event["id"]] = event
        expected = reference.turn(seq, time_us, incoming)
        if reference.outcome is not None and reference.outcome["type"] == "ExecutionTerminated":
            expected = []
        where = f"{instance} at {seq}: {incoming}\n expected {expected}\n found {actions}"
        assert len(actions) == len(expected), where
        for action, wanted in zip(actions, expected, strict=True):
            assert _same(action, wanted), where
            match action["type"]:
                case "EntityOperationCalled" | "EntityOperationSignaled":
                    self.asked.append((instance, action))
                case "EventSent":
                    self.sent.append((seq, instance, action))
        if "custom_status" in record:
            assert record["custom_status"] == reference.custom_status, where

    def _check_row(self, instance: str) -> None:
        row = self.store.rows[instance]
        state = json.loads(row.state)
        if row.first_seq == 0:
            assert row.status == "Pending"
            assert self._has_start(instance), f"{instance} has neither begun nor a start"
            return
        reference = self.references[instance]
        outcome = reference.outcome
        if any(message["type"] == "ExecutionRewound" for message in self.mail[instance]):
            assert outcome["type"] == "ExecutionFailed"
            assert row.status in ("Running", "Suspended")
            return
        kind = "" if outcome is None else outcome["type"]
        status = {
            "": "Suspended" if reference.suspended else "Running",
            "ContinueAsNew": "Running",
            "ExecutionCompleted": "Completed",
            "ExecutionFailed": "Failed",
            "ExecutionTerminated": "Terminated",
        }[kind]
        assert row.status == status, f"{instance}: {row.status} instead of {status}"
        assert state.get("custom_status") == reference.custom_status
        if status in TERMINAL:
            assert state.get("output") == outcome.get("result")
            assert not self.mail[instance], f"{instance} has ended and has mail: {self.mail[instance]}"
            assert not [key for key in self.store.pending_timers if key[0] == instance]
        elif kind == "ContinueAsNew":
            assert self._has_start(instance), f"{instance} continues, and has no start"
        else:
            assert not self._has_start(instance)
            assert state.get("buffered", 0) == reference.buffered
            assert state.get("next_task", 1) == reference.next_task
            self._check_open(instance, reference)

    def _has_start(self, instance: str) -> bool:
        return any(message["type"] == "ExecutionStarted" for message in self.mail[instance])

    def _check_open(self, instance: str, reference: Reference) -> None:
        """What it waits for is under way, exactly."""
        answered = [message["id"] for message in self.mail[instance] if message["type"] in ANSWERS]
        # A child that failed, and was rewound before its parent had heard of it, answers again; the first answer counts.
        unique = self._has_rewound or len(answered) == len(set(answered))
        assert unique, f"{instance} is answered twice: {self.mail[instance]}"
        timers = {key[1] for key in self.store.pending_timers if key[0] == instance}
        activities = {key[1] for key in self.store.pending_activities if key[0] == instance}
        for task, leaf in reference.open.items():
            where = f"{instance}: {leaf} as {task}"
            ways = [task in answered, task in timers, task in activities]
            if leaf.kind == "sub":
                child = self.store.rows.get(f"{instance}:{task:04x}")
                starting = self._has_start(f"{instance}:{task:04x}")
                lives = starting or (child is not None and child.status not in TERMINAL)
                # One that was rewound before its parent had heard of its failure lives on, and the first answer counts.
                ways.append(lives and not (self._has_rewound and task in answered))
            elif leaf.kind in ("add", "ask", "lock"):
                ways.append(self._is_asked(instance, task))
            assert sum(ways) == 1, f"{where}: {ways}"
        assert timers <= set(reference.open), f"{instance}: timers {timers} that nobody waits for"
        late = {task for task in activities - set(reference.open) if task >= reference.first_task}
        assert not late or reference.rewinds, f"{instance}: activities {late} that nobody waits for"

    def _is_asked(self, instance: str, task: int) -> bool:
        """The question (or the request for a lock) is under way, or the entity answers later."""
        for target, messages in self.mail.items():
            for message in messages:
                if message["type"] == "OperationRequest" and target.startswith("@"):
                    if (message.get("caller"), message.get("caller_task")) == (instance, task):
                        return True
                elif message["type"] == "LockRequest" and (message["owner"], message["task"]) == (instance, task):
                    return True
        waiting = [
            tuple(caller)
            for row in self.store.rows.values()
            if row.kind == "entity"
            for caller in json.loads(row.state).get("waiting", {}).values()
        ]
        assert waiting.count((instance, task)) <= 1
        return (instance, task) in waiting

    def _check_answers(self) -> None:
        """A parent hears what its child came to."""
        for (parent, task), event in self.results.items():
            child = self.store.rows.get(f"{parent}:{task:04x}")
            if child is None or self._was_rewound(f"{parent}:{task:04x}"):
                continue
            state = json.loads(child.state)
            if event["type"] == "SubOrchestrationInstanceCompleted":
                assert (child.status, state.get("output")) == ("Completed", event.get("result"))
            else:
                assert child.status in ("Failed", "Terminated")
                assert state["failure"]["kind"] == event["details"]["kind"]

    def _check_events(self) -> None:
        for instance in {key[0] for key in self.facts.events} | set(self.events):
            waiting = [m["data"] for m in self.mail[instance] if m["type"] == "EventRaised"]
            arrived = [tuple(data) for data in self.events[instance] + waiting]
            if self._has_rewound:  # what cut turns had heard is heard again, and what they had sent is sent again
                arrived = list(dict.fromkeys(arrived))
            assert len(arrived) == len(set(arrived)), f"{instance} heard an event twice: {arrived}"
            row = self.store.rows.get(instance)
            ended = row is None or row.status in TERMINAL or self._was_used_again(instance)
            for (to, sender, number), what in self.facts.events.items():
                if to != instance:
                    continue
                found = (sender, number) in arrived
                assert found or ended or what != "promised", f"{instance} lost {sender} {number}: {arrived}"
                assert not (found and what == "refused"), f"{instance} heard {sender} {number}, which was refused"
            by_sender: dict[str, list[int]] = defaultdict(list)
            for sender, number in arrived:
                order = int(number.rsplit(".", 1)[1]) if isinstance(number, str) else number
                by_sender[sender].append(order)
            for sender, numbers in by_sender.items():
                assert numbers == sorted(numbers), f"{instance} heard {sender} out of order: {numbers}"
        for seq, sender, action in self.sent:
            to = action["instance"]
            row = self.store.rows.get(to)
            runs = (
                row is not None
                and row.status not in TERMINAL
                and not self._was_used_again(to)
                and not self._was_rewound(to)
            )
            if runs and self.begun.get(to, seq) < seq:
                waiting = [m["data"] for m in self.mail[to] if m["type"] == "EventRaised"]
                assert action["data"] in self.events[to] + waiting, f"{to} never heard {action} of {sender}"

    def _check_rewinds(self) -> None:
        """Who rewound, and why, is in the journal, whatever came of it."""
        for (instance, reason), what in self.facts.rewinds.items():
            waiting = {m["reason"] for m in self.mail[instance] if m["type"] == "ExecutionRewound"}
            found = (instance, reason) in self.rewound or reason in waiting
            assert found or what != "promised", f"{reason} of {instance} left no trace"
            assert not (found and what == "refused"), f"{reason} of {instance} was refused, and happened"

    def _was_used_again(self, instance: str) -> bool:
        return instance in self.references and self.references[instance].lives > 1

    def _may_repeat(self, instance: str) -> bool:
        parts = instance.split(":")
        above = [self.references.get(":".join(parts[:count])) for count in range(1, len(parts) + 1)]
        return any(reference is not None and reference.rewinds > 0 for reference in above)

    def _was_rewound(self, instance: str) -> bool:
        """Also when the rewind is on disk, and the turn that begins with it is not yet."""
        told = any(message["type"] == "ExecutionRewound" for message in self.mail[instance])
        return told or (instance in self.references and self.references[instance].rewinds > 0)

    # Entities

    def _check_entities(self) -> None:
        noted: list[str] = []
        for entity, operations in self.operations.items():
            snapshot = json.loads(self.store.rows[entity].state)
            if entity == "@audit@all":
                noted = [operation["input"]["token"] for operation in operations]
                assert snapshot["state"] == noted
                continue
            total, seen, holder = 0, [], None
            for operation in operations:
                name, caller = operation["name"], operation.get("caller", "")
                given = operation.get("input") or {}
                if name == "(locked)":
                    assert holder is None, f"{entity} was locked twice"
                    holder = caller
                    continue
                if name == "(unlocked)":
                    assert holder == caller
                    holder = None
                    continue
                assert holder in (None, caller) or name == "answered", f"{entity}: {operation} while {holder} has it"
                if name == "answered":
                    seen.append(f"{given['context'][1]} answered")
                elif name == "add" and given["n"] < 0:
                    assert operation["failure"]["kind"] == "ValueError"
                    assert "actions" not in operation
                else:
                    assert "failure" not in operation, operation
                    seen.append(given["token"])
                    if name == "add":
                        total += given["n"]
                        assert operation["result"] == total
            assert snapshot.get("state") == ({"total": total, "seen": seen} if seen else None), entity
            twice = [
                token for token, count in Counter(seen).items() if count > self._times(token.removesuffix(" answered"))
            ]
            assert not twice, f"{entity} heard something twice: {twice}"
            assert snapshot.get("lock_owner") == holder
            if holder is not None:
                row = self.store.rows[holder]
                releasing = any(m["type"] == "LockRelease" and m["owner"] == holder for m in self.mail[entity])
                assert row.status not in TERMINAL or releasing, f"{holder} has ended and keeps {entity}"
        on_their_way = [m["input"]["token"] for m in self.mail["@audit@all"]]
        told = [
            operation["input"]["token"]
            for entity, operations in self.operations.items()
            if entity.startswith("@tally")
            for operation in operations
            if operation["name"] == "add" and "failure" not in operation
        ]
        assert sorted(noted + on_their_way) == sorted(told)

    def _check_messages_to_entities(self) -> None:
        arrived: list[str] = []
        for entity in {*self.operations, *(target for target in self.mail if target.startswith("@tally"))}:
            if entity == "@audit@all":
                continue
            heard = list(self._tokens(entity))
            arrived += heard
            by_sender: dict[str, list[int]] = defaultdict(list)
            for token in heard:
                sender, number = token.rsplit(".", 1)
                if token not in self._scheduled_tokens:
                    by_sender[sender].append(int(number))
            for sender, numbers in by_sender.items():
                if max(Counter(numbers).values()) > 1:
                    continue  # a rewound instance sends again what it decides again
                assert numbers == sorted(numbers), f"{entity} heard {sender} out of order: {numbers}"
        for (owner, _), row in self.store.pending_timers.items():
            if owner.startswith("@"):
                arrived.append(json.loads(row.payload)["input"]["token"])
        counted = Counter(arrived)
        # A question that an entity refused is asked again by who is rewound.
        refused = {
            operation["input"]["token"]
            for operations in self.operations.values()
            for operation in operations
            if "failure" in operation and self._has_rewound
        }
        for token in refused:
            counted[token] = min(counted[token], self._times(token))
        twice = [token for token, count in counted.items() if count > self._times(token)]
        assert not twice, f"entities heard twice: {twice}"
        for instance, action in self.asked:
            token = action["input"]["token"]
            assert counted[token] == self._times(token), f"{action} of {instance} got lost"
            due_us = action.get("due_us", 0)
            early = self._times(token) == 1 and self.heard.get(token, due_us) < due_us
            assert not early, f"{action} came too early"
        for token, what in self.facts.tokens.items():
            assert counted[token] or what != "promised", f"the signal or call {token} got lost"

    @property
    def _scheduled_tokens(self) -> set[str]:
        return {action["input"]["token"] for _, action in self.asked if action.get("due_us")}

    def _times(self, token: str) -> int:
        """How often it was sent: more than once only by who was rewound, or by children whom such a one began anew."""
        senders = [instance for instance, action in self.asked if action["input"]["token"] == token]
        times = len(senders)
        assert times < 2 or any(self._may_repeat(sender) for sender in senders), f"{token} was sent {times} times"
        return max(1, times)

    @property
    def _has_rewound(self) -> bool:
        return any(reference.rewinds for reference in self.references.values())

    def _tokens(self, entity: str) -> Iterator[str]:
        for operation in self.operations[entity]:
            if operation["name"] in ("add", "ask", "begin"):
                yield operation["input"]["token"]
        for message in self.mail[entity]:
            if message["type"] == "OperationRequest" and message["name"] != "answered":
                yield message["input"]["token"]

    # Activities

    def _check_activities(self) -> None:
        for (operation, attempt, name), times in self.facts.executed.items():
            if name == "once":
                assert times == 1, f"{operation} ({attempt}) may run once, and ran {times} times"
        for record in self.store.records:
            if record.kind != "turn":
                continue
            events = json.loads(record.payload)["events"]
            for event in events:
                if event["type"] == "TaskCompleted":
                    name, x, operation, attempt = self._scheduled(record.instance)[event["id"]]
                    assert event.get("result") == (x * 2 if name != "fail" else "well")
                    assert self.facts.executed[operation, attempt, name] >= 1, f"nobody ran {operation}"

    def _scheduled(self, instance: str) -> dict[int, tuple[str, Json, str, int]]:
        if not hasattr(self, "_by_instance"):
            self._by_instance: dict[str, dict[int, tuple[str, Json, str, int]]] = defaultdict(dict)
            for record in self.store.records:
                if record.kind == "turn":
                    for event in json.loads(record.payload)["events"]:
                        if event["type"] == "TaskScheduled":
                            value = (event["name"], event.get("input"), event["operation_id"], event.get("attempt", 1))
                            self._by_instance[record.instance][event["id"]] = value
        return self._by_instance[instance]


_DEFAULTS: dict[str, Json] = {"attempt": 1}


def _same(action: Json, wanted: Json) -> bool:
    if wanted.get("details"):
        return bool(action["details"]["kind"] == wanted["details"])
    return all(action.get(key, _DEFAULTS.get(key)) == value for key, value in wanted.items())
