"""Runs a script on this engine and lets the SDK of v1 judge every decision in its journals."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from tests.conformance import v1_sdk
from tests.conformance.differences import DIFFERENCES
from tests.conformance.programs import Json, features
from tests.conformance.v1_history import ExecutionExport, executions, export
from tests.conformance.world import Turns, World


class Disagreement(AssertionError):
    """The engines decide differently, and no listed difference says so."""


@dataclass(slots=True)
class Tally:
    """What was compared. features: programs that have each; differences: executions in which each showed; forks: of those,
    executions where the SDK's next decisions were just what our core decides under v1's rule."""

    programs: int = 0
    executions: int = 0
    cuts: int = 0
    actions: int = 0
    features: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    differences: Counter[str] = field(default_factory=Counter)
    forks: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.programs} programs, {self.executions} executions, {self.cuts} cuts, {self.actions} actions; "
            f"outcomes: {_list(self.outcomes)}; listed differences: {_list(self.differences)} "
            f"(with v1's rule the same there: {_list(self.forks)}); "
            "unlisted: none"
        )


def _list(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "none"


def compare(script: Json, runner: asyncio.Runner, tally: Tally) -> None:
    """Run a script and have it judged.

    Errors: Disagreement; HostRuleBroken, OwnRuleBroken (see ``v1_history``).
    """
    world = World()
    runner.run(world.run(script))
    found = features(script)
    tally.programs += 1
    tally.features.update(found)
    # Without tasks that are made early both engines must schedule the same in the same order.
    for instance, turns in world.turns().items():
        before: ExecutionExport | None = None
        for execution in executions(turns):
            _note(execution, tally)
            exported = export(instance, execution)
            if before is not None and before.left is not None and before.left != exported.carried:
                raise Disagreement(f"{instance} left {before.left}, and went on with {exported.carried}")
            judge(instance, exported, "start" not in found, tally)
            before = exported


def judge(instance: str, exported: ExecutionExport, strict: bool, tally: Tally) -> None:
    """Compare the decisions of both engines at every cut of one execution.

    strict: all tasks are waited for as soon as they are made. Errors: Disagreement.
    """
    tally.executions += 1
    shown: set[str] = set()
    for number, cut in enumerate(exported.cuts):
        theirs = v1_sdk.ask(v1_sdk.program, instance, exported.parent, exported.input, cut.history)
        difference = cut.ours.difference(theirs)
        if difference:
            raise Disagreement(f"{instance}, cut {number}: ours / v1: {difference}")
        if strict and (cut.early or not cut.in_order):
            raise Disagreement(f"{instance}, cut {number}: scheduled in another order than v1 would, or more than that")
        tally.cuts += 1
        tally.actions += len(theirs.actions)
        if cut.fork is not None:
            tally.forks[cut.fork.name] += 1
        shown |= {d.name for d in DIFFERENCES if d.seen is not None and d.seen(exported, cut)}
    tally.differences.update(shown)
    if exported.cuts:
        tally.outcomes[exported.cuts[-1].ours.state] += 1


def _note(turns: Turns, tally: Tally) -> None:
    incoming = [sum(event.incoming for event in record.events) for _, record in turns]
    tally.features["several turns"] += len(turns) > 1
    tally.features["several events in a turn"] += max(incoming) > 1
