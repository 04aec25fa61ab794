"""What an orchestrator has decided by some point, in the words of v1, whichever engine says so."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from tests.conformance.programs import Json

Action = tuple[str, ...]
"""Kind and details, all as text: ``("activity", name, input, retry policy)`` and so on; JSON in its canonical form."""


def canonical(value: Json) -> str:
    """One text for each JSON value: 1, 1.0 and true are three."""
    return json.dumps(value, sort_keys=True)


@dataclass(slots=True)
class Decisions:
    """See above.

    actions: everything asked for since the start of the execution, in order. state: running, completed, failed, continued.
    output: JSON, when completed. error: the tag in its text, when failed. status: the custom status as JSON, null for none.
    """

    actions: list[Action] = field(default_factory=list)
    state: str = "running"
    output: str = "null"
    error: str = ""
    status: str = "null"

    def difference(self, other: Decisions) -> str:
        """Empty when both are the same, else what differs first."""
        for name in ("state", "error", "output", "status"):
            if getattr(self, name) != getattr(other, name):
                return f"{name}: {getattr(self, name)} / {getattr(other, name)}"
        for number, (ours, theirs) in enumerate(zip(self.actions, other.actions, strict=False)):
            if ours != theirs:
                return f"action {number}: {ours} / {theirs}"
        if len(self.actions) != len(other.actions):
            return f"actions: {len(self.actions)} / {len(other.actions)}: {self.actions} / {other.actions}"
        return ""
