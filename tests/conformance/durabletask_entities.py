"""The entities of conformance programs: what they do, whatever the dialects call it.

What two senders do to one of them commutes, or is kept apart by sender; what does not (the counter's writing) programs do
under a lock.
"""

from __future__ import annotations

import re
from typing import Protocol

from tests.conformance.durabletask_programs import FAULTS, Json, fault_text


class EntityApi(Protocol):
    """What the box asks of an entity's context."""

    def get(self) -> Json: ...
    def set(self, state: Json) -> None: ...
    def tell(self, entity: str, operation: str, argument: Json) -> None: ...
    def start(self, given: Json, instance: str) -> None: ...


def box(api: EntityApi, operation: str, order: Json) -> Json:
    """Sums up, and keeps what each sender gave in the order in which it came. Answers with the sender's own part."""
    state = api.get() or {"sum": 0, "by": {}}
    mine = [*state["by"].get(order["from"], []), [operation, order["value"]]]
    amount = order["value"] if isinstance(order["value"], int) else 1
    state = {"sum": state["sum"] + amount, "by": state["by"] | {order["from"]: mine}}
    match operation:
        case "drop":
            api.set(None)
            return "dropped"
        case "forward":
            api.tell(order["to"], "add", {"from": order["as"], "value": order["value"]})
        case "start":
            api.start(order["start"], order["id"])
        case "fail":
            api.set(state | {"sum": -1})
            api.tell(order["to"], "add", {"from": "ghost", "value": 1000})
            api.start(order["start"], order["id"])
            raise FAULTS["ValueError"](fault_text("ValueError", order["value"]))
    api.set(state)
    return mine


def counter(api: EntityApi, operation: str, value: Json) -> Json:
    """What sections count up: read and write apart, so that only a lock keeps it right."""
    if operation == "write":
        api.set(value)
    return api.get() or 0


class Tally:
    """What the class-based entity holds and does, whatever the dialect calls its state."""

    def __init__(self, state: Json = None) -> None:
        self.total: int = 0
        self.counts: dict[str, int] = {}
        self.__dict__.update(state or {})

    def add(self, order: Json) -> Json:
        """Add; answers how often this sender has."""
        self.total += order["value"]
        self.counts[order["from"]] = self.counts.get(order["from"], 0) + 1
        return self.counts[order["from"]]

    def fail(self, order: Json) -> Json:
        """Change everything, then raise."""
        self.total = -1
        self.counts = {}
        raise FAULTS["RuntimeError"](fault_text("RuntimeError", order["value"]))


def fault_in(text: str) -> str:
    """The fault that a message speaks of."""
    found = re.search(r"fault-\w+-\d+", text)
    return found.group() if found else text
