"""How the breakers stand, counted: kept up from commit to commit, so that a look costs what has changed and not 12,000.

What must stay true: the counts are those of the committed states, each breaker of the site in them once. A breaker that
somebody has to look after is in one of the lists below until that is over. A crash loses nothing: the first look after a
start is one at all of them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection
from typing import TypeVar

from gateway.durable.instances import EntityInstance, Instance
from gateway.shedding.breaker_model import Breaker, Phase, Result
from gateway.shedding.entities import BREAKER
from protocols.base import Position

KINDS = ("total", "open", "closed", "intermediate", "bad", "unknown", "failed", "unresolved", "blocked", "local")


class Census:
    """Counts breakers. state_of: the committed state of a feeder's breaker, None when it has none.

    failed, unresolved: as they are counted. shed_kw: load that each shed breaker took off. procedures: the breakers that
    each procedure has shed, or has a command under way for that is wanted.
    """

    def __init__(self, state_of: Callable[[str], Breaker | None]) -> None:
        self.failed: dict[str, Breaker] = {}
        self.unresolved: dict[str, Breaker] = {}
        self.shed_kw: dict[str, float] = {}
        self.procedures: dict[str, dict[str, Breaker]] = {}
        self._procedures_of: dict[str, tuple[str, ...]] = {}
        self._state_of = state_of
        self._kinds: dict[str, tuple[str, ...]] = {}
        self._counts: Counter[str] = Counter()
        self._changed: dict[str, None] = {}
        self._begun = False

    def committed(self, instance: Instance) -> None:
        """See Engine.on_commit."""
        if isinstance(instance, EntityInstance) and instance.name == BREAKER:
            self._changed[instance.core.id.key] = None

    def catch_up(self, feeders: Collection[str], most: int) -> bool:
        """Look at some of those that have changed; True when none is left. feeders: all breakers of the site."""
        if not self._begun:
            self._begun = True
            self._changed = dict.fromkeys(feeders)
        for _ in range(min(most, len(self._changed))):
            feeder, _ = self._changed.popitem()
            if feeder in feeders:  # an entity may have outlived its feeder
                self._look(feeder)
        return not self._changed

    def count(self, feeders: Collection[str]) -> dict[str, int]:
        """The counts now. feeders: all breakers of the site."""
        self.catch_up(feeders, sys.maxsize)
        return {kind: self._counts[kind] for kind in KINDS}

    def _look(self, feeder: str) -> None:
        state = self._state_of(feeder)
        before, kinds = self._kinds.get(feeder, ()), _kinds_of(state)
        if kinds != before:
            for kind in before:
                self._counts[kind] -= 1
            for kind in kinds:
                self._counts[kind] += 1
            self._kinds[feeder] = kinds
        _keep(self.failed, feeder, state if "failed" in kinds else None)
        _keep(self.unresolved, feeder, state if "unresolved" in kinds else None)
        shed = state.shed if state is not None and state.position is Position.OPEN else None
        _keep(self.shed_kw, feeder, None if shed is None else shed.kw)
        self._sort(feeder, state)

    def _sort(self, feeder: str, state: Breaker | None) -> None:
        """Under the procedures that have to do with it."""
        before, now = self._procedures_of.get(feeder, ()), _procedures_of(state)
        for procedure in before:
            if procedure not in now:
                del self.procedures[procedure][feeder]
                if not self.procedures[procedure]:
                    del self.procedures[procedure]
        if state is not None:
            for procedure in now:
                self.procedures.setdefault(procedure, {})[feeder] = state
        _keep(self._procedures_of, feeder, now or None)


V = TypeVar("V")


def _keep(where: dict[str, V], feeder: str, value: V | None) -> None:
    if value is None:
        where.pop(feeder, None)
    else:
        where[feeder] = value


def _procedures_of(state: Breaker | None) -> tuple[str, ...]:
    """The procedures that have to do with a breaker: that commands it, that has shed it."""
    if state is None:
        return ()
    shed = state.shed.procedure if state.shed is not None and state.position is Position.OPEN else ""
    command = state.command.procedure if state.command is not None and state.command.wanted else ""
    if command and shed and command != shed:
        return (command, shed)
    return (command or shed,) if command or shed else ()


def _kinds_of(state: Breaker | None) -> tuple[str, ...]:
    """What a breaker counts as."""
    if state is None:
        return ("total", "unknown")
    kinds = ["total", state.position.value]
    if state.phase in (Phase.RESOLVING, Phase.UNRESOLVED):
        kinds.append("unresolved")
    elif state.last is not None and state.last.result is Result.FAILED:
        kinds.append("failed")
    if state.blocked is not None:
        kinds.append("blocked")
    if state.local:
        kinds.append("local")
    return tuple(kinds)
