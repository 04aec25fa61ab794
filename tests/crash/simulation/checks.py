"""What must be true of a story when it is over, read from the journal and from the field's own counts.

The general invariant is ``crash/invariant.py``; here is what a substation adds: cooldown and stages are kept in engine
time, a hold holds, and every feeder that a procedure opened is closed again or named to people.
"""

from __future__ import annotations

from typing import Any

import msgspec
from crash.invariant import Command, Count, Story, violations
from crash.simulation.disk import BREAKER, Disk
from crash.simulation.people import Operator
from crash.simulation.world import MORE, World

from config.models import Site
from gateway.durable import history as h
from gateway.durable.entity import decode_snapshot
from gateway.shedding.breaker_model import Breaker, Phase
from protocols.base import Position

PROTOCOL = "LoadSheddingProtocol"
SLACK_S = 0.001
_SENDS = ("SendDisconnectCommand", "SendReconnectCommand")


def judge(world: World, people: list[Operator], taken: list[tuple[str, int]]) -> list[str]:
    """Every violation in a sentence."""
    return [
        *world.wrong,
        *violations(_story(world, people, taken)),
        *_procedures(world),
        *_breakers_at_the_end(world),
    ]


def _story(world: World, people: list[Operator], taken: list[tuple[str, int]]) -> Story:
    intents = {
        feeder: Count(
            sum(1 for one in known if one.target == Position.OPEN.value),
            sum(1 for one in known if one.target == Position.CLOSED.value),
        )
        for feeder, known in world.disk.intents.items()
    }
    counted = {
        name: Count(one.opens, one.closes, one.moves, one.position.value) for name, one in world.breakers.items()
    }
    return Story(
        given=[event for person in people for event in person.given],
        acknowledged=[event for person in people for event in person.acknowledged],
        taken=taken,
        commands=[one for name in world.breakers for one in _commands(world.disk, name)],
        intents=intents or {"none": Count()},
        counted=counted,
    )


def breaker_state(disk: Disk, feeder: str) -> Breaker | None:
    """The durable state of a breaker entity."""
    row = disk.rows.get(f"{BREAKER}{feeder}")
    state = None if row is None else decode_snapshot(row.state).state
    return None if state is None else msgspec.json.decode(state, type=Breaker | None)


def _commands(disk: Disk, feeder: str) -> list[Command]:
    """Each command for which an intent was journaled, and all different ends that were told of it."""
    wanted: dict[str, str] = {}
    told: dict[str, list[tuple[str, int]]] = {}
    for record in disk.by_instance.get(f"{BREAKER}{feeder}", ()):
        for operation in h.decode_entity_record(record.payload).operations:
            starts = any(isinstance(action, h.EntityActivity) for action in operation.actions)
            if operation.name in ("open", "close") and starts:
                request = msgspec.json.decode(operation.input)["request_id"]
                wanted[request] = operation.name
                told.setdefault(request, [])
            answers = [action.result for action in operation.actions if isinstance(action, h.EntityReply)]
            for raw in answers:
                answer = msgspec.json.decode(raw)
                if isinstance(answer, dict) and answer.get("request_id") in told:
                    end = (str(answer["outcome"]), int(answer["at_us"]))
                    if end not in told[answer["request_id"]]:
                        told[answer["request_id"]].append(end)
    state = breaker_state(disk, feeder)
    under_way = state.command.request_id if state is not None and state.command is not None else ""
    commands = []
    for request, word in wanted.items():
        ends = [outcome for outcome, _ in told[request]]
        if all(end == "unknown" for end in ends) and request != under_way:
            # Nobody waited any more when it ended: the breaker remembers, for some time.
            recent = [one.result.value for one in state.recent if one.request_id == request] if state else []
            ends += [end for end in recent if end != "unknown"] or ["failed"]
        commands.append(Command(feeder, word, ends))
    return commands


def _procedures(world: World) -> list[str]:
    found = []
    for instance, records in world.disk.by_instance.items():
        row = world.disk.rows.get(instance)
        if row is not None and row.name == PROTOCOL:
            found += _Sheet(world.site, instance).read(records)
    return found


class _Sheet:
    """One procedure, read turn by turn."""

    def __init__(self, site: Site, instance: str) -> None:
        self.site = site
        self.instance = instance
        self.rank = {tier.name: tier.rank for tier in site.tiers}
        self.tier = {feeder.name: feeder.tier for feeder in site.feeders}
        self.tasks: dict[int, tuple[str, int]] = {}
        self.begun = 0
        self.opened_us = 0
        self.closed_us = 0
        self.asked_us = 0
        self.word_us = 0
        self.held_until_us = 0
        self.found: list[str] = []

    def read(self, records: Any) -> list[str]:
        """What is wrong with it."""
        for record in records:
            if record.kind != h.TURN:
                continue
            turn = h.decode_turn(record.payload)
            for event in turn.events:
                self._event(record.time_us, event)
        return self.found

    def _event(self, now_us: int, event: object) -> None:
        match event:
            case h.EventRaised():
                self._word(now_us, msgspec.json.decode(event.data))
            case h.TaskScheduled(name=name) if name in _SENDS:
                order = msgspec.json.decode(event.input)
                if not order.get("force"):
                    self._sends(now_us, event.id, name, order["feeders"])
            case h.TaskCompleted() if event.id in self.tasks:
                self._sent(now_us, *self.tasks[event.id], msgspec.json.decode(event.result))
            case _:
                pass

    def _word(self, now_us: int, word: Any) -> None:
        self.word_us = now_us
        decision = word.get("decision")
        if decision == "hold":
            expires = word.get("expires")
            self.held_until_us = 1 << 62 if expires is None else -1  # an expiry is left to the procedure's own tests
        elif decision in ("resume", "skip", "cancel", "cancel-and-restore"):
            self.held_until_us = 0

    def _sends(self, now_us: int, task: int, name: str, feeders: list[str]) -> None:
        self.tasks[task] = (name, now_us)
        if self.held_until_us > now_us:
            self.found.append(f"{self.instance}: {name} although it was held")
        heard = self.word_us
        if name == "SendReconnectCommand":
            wait_us = int((self.site.restoration.stage_wait_s - SLACK_S) * 1e6)
            if self.closed_us and now_us < self.closed_us + wait_us and heard < self.asked_us:
                left_s = (self.closed_us + wait_us - now_us) / 1e6
                self.found.append(f"{self.instance}: a stage was closed {left_s:.3f} s too early")
            self.begun, self.opened_us, self.asked_us = 0, 0, now_us
            return
        rank = max((self.rank[self.tier[name] or ""] for name in feeders if self.tier[name]), default=0)
        wait_us = int((self.site.shedding.cooldown_s - SLACK_S) * 1e6)
        if rank > self.begun and self.opened_us and now_us < self.opened_us + wait_us and heard < self.opened_us:
            left_s = (self.opened_us + wait_us - now_us) / 1e6
            self.found.append(f"{self.instance}: a tier was begun {left_s:.3f} s before the cooldown was over")

    def _sent(self, now_us: int, name: str, _: int, outcomes: dict[str, str]) -> None:
        done = [feeder for feeder, outcome in outcomes.items() if outcome == "done"]
        if name == "SendReconnectCommand":
            self.closed_us = now_us
        elif done and not self.closed_us:
            rank = max((self.rank[self.tier[one] or ""] for one in done if self.tier[one]), default=0)
            if rank > self.begun:
                self.begun, self.opened_us = rank, now_us


def _breakers_at_the_end(world: World) -> list[str]:
    found = []
    left_by_person = _left_by_person(world)
    for name, breaker in world.breakers.items():
        state = breaker_state(world.disk, name)
        if state is None:
            found.append(f"{name} has never been looked at")
            continue
        if state.phase is not Phase.IDLE:
            found.append(f"the command of {name} has no end: {state.phase}")
        if state.position is not breaker.position:
            found.append(f"{name} is {breaker.position}, its entity says {state.position}")
        if breaker.position is Position.OPEN and breaker.by == "frame":
            found += _left_open(world, name, state, left_by_person)
    return found


def _left_by_person(world: World) -> set[str]:
    """Feeders that procedures have named in what they ended with."""
    named: set[str] = set()
    for row in world.disk.rows.values():
        if row.name == PROTOCOL:
            for record in world.disk.by_instance[row.instance]:
                if b'"ExecutionCompleted"' not in record.payload:
                    continue
                for event in h.decode_turn(record.payload).events:
                    if isinstance(event, h.ExecutionCompleted):
                        result = msgspec.json.decode(event.result) or {}
                        named.update(result.get("not_closed", ()), result.get("failed", ()))
    return named


def _left_open(world: World, name: str, state: Breaker, named: set[str]) -> list[str]:
    """A frame opened it, and nobody closed it."""
    if name in named or name in world.named or (MORE in world.named and state.shed is not None):
        return []
    wanted = [
        msgspec.json.decode(operation.input)
        for record in world.disk.by_instance[f"{BREAKER}{name}"]
        for operation in h.decode_entity_record(record.payload).operations
        if operation.name in ("open", "close") and (operation.actions or b'"done"' in bytes(operation.result))
    ]
    if not wanted or not wanted[-1].get("procedure") or wanted[-1].get("force"):
        return []  # a person has the last word on it
    return [f"{name} was opened by {wanted[-1]['procedure']}, is still open, and nobody is told (shed: {state.shed})"]
