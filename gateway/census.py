"""How the breakers stand, counted: kept up from commit to commit, so that a look costs what has changed and not 12,000.

What must stay true: the counts are those of the committed states, each breaker of the site in them once. A breaker that
somebody has to look after (shed, under command, failed) is in ``watched`` until that is over. A crash loses nothing: the
first look after a start is one at all of them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection

from gateway.durable.instances import EntityInstance, Instance
from gateway.shedding.breaker_model import Breaker, Phase, Result
from gateway.shedding.entities import BREAKER

KINDS = ("total", "open", "closed", "intermediate", "bad", "unknown", "failed", "unresolved", "blocked", "local")


class Census:
    """Counts breakers. state_of: the committed state of a feeder's breaker, None when it has none."""

    def __init__(self, state_of: Callable[[str], Breaker | None]) -> None:
        self.watched: dict[str, Breaker] = {}
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
            self._counts.subtract(before)
            self._counts.update(kinds)
            self._kinds[feeder] = kinds
        if state is not None and (state.shed is not None or state.command is not None or "failed" in kinds):
            self.watched[feeder] = state
        else:
            self.watched.pop(feeder, None)


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
