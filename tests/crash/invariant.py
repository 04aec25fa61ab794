"""The invariant that every harness of this folder asserts, as one pure checker.

No acknowledged event is lost; none is taken twice, invented, or out of its sender's order; no breaker is operated without a
journaled intent, none more often than there were intents; each acknowledged command has exactly one terminal outcome. What
the field counted by itself is the witness: a gateway can't judge its own case.

For the journal alone: what is found after a crash is a prefix of what was given, and holds all that was acknowledged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Event = tuple[str, int]
"""Who sent it, and the sender's own number of it, which only grows."""

TERMINAL = frozenset({"done", "refused", "failed", "expired", "not_sent"})
"""How a command may end. ``unknown`` is no end: it must be resolved by reading."""

SHOWN = 5
"""So many examples of one kind of violation are named."""


@dataclass(frozen=True, slots=True)
class Command:
    """One acknowledged command. outcomes: all that was ever told of it, in this order."""

    breaker: str
    wanted: str
    outcomes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Count:
    """Of one breaker: frames that told it to open and to close, and its own operations; position None: not looked at."""

    opens: int = 0
    closes: int = 0
    operations: int | None = None
    position: str | None = None


@dataclass(slots=True)
class Story:
    """What a harness saw. What it did not look at stays empty."""

    given: Sequence[Event] = ()
    """All that was ever asked, acknowledged or not."""
    acknowledged: Sequence[Event] = ()
    taken: Sequence[Event] = ()
    """In the order in which they were handled."""
    commands: Sequence[Command] = ()
    intents: Mapping[str, Count] = field(default_factory=dict)
    """Of each breaker: how many distinct intents to open and to close are in the journal."""
    counted: Mapping[str, Count] = field(default_factory=dict)
    """What the field counted by itself."""
    expected: Mapping[str, Count] = field(default_factory=dict)
    """What it must have counted if every outcome that was told is true."""


def violations(story: Story) -> list[str]:
    """Every violation in a sentence with examples; empty when the invariant holds."""
    return [*_events(story), *_commands(story.commands), *_operations(story), *_expected(story)]


def prefix_violations(given: Sequence[object], acknowledged: int, found: Sequence[object]) -> list[str]:
    """Of a journal: what was given in this order, how many of these were acknowledged, what is there after the crash."""
    if list(found) != list(given[: len(found)]):
        at = next((n for n, (a, b) in enumerate(zip(found, given, strict=False)) if a != b), len(given))
        return [f"what was found is no prefix of what was given: they differ from number {at} on"]
    if len(found) < acknowledged:
        return [f"{acknowledged - len(found)} of {acknowledged} acknowledged were lost"]
    return []


def _events(story: Story) -> list[str]:
    found = []
    taken = Counter(story.taken)
    given = set(story.given) | set(story.acknowledged)
    if lost := [event for event in story.acknowledged if event not in taken]:
        found.append(f"{len(lost)} acknowledged events were lost: {lost[:SHOWN]}")
    if twice := [event for event, times in taken.items() if times > 1]:
        found.append(f"{len(twice)} events were taken twice: {twice[:SHOWN]}")
    if invented := [event for event in taken if event not in given]:
        found.append(f"{len(invented)} events were taken that nobody gave: {invented[:SHOWN]}")
    last: dict[str, int] = {}
    for sender, number in story.taken:
        if number < last.get(sender, number):
            found.append(f"events of {sender} were taken out of order: {number} after {last[sender]}")
            break
        last[sender] = number
    return found


def _commands(commands: Sequence[Command]) -> list[str]:
    found = []
    ends = [(one, [outcome for outcome in one.outcomes if outcome != "unknown"]) for one in commands]
    if open_ended := [one for one, told in ends if not told]:
        found.append(f"{len(open_ended)} commands have no terminal outcome: {open_ended[:SHOWN]}")
    if several := [one for one, told in ends if len(told) > 1]:
        found.append(f"{len(several)} commands have more than one terminal outcome: {several[:SHOWN]}")
    if strange := [one for one, told in ends if not TERMINAL.issuperset(told)]:
        found.append(f"{len(strange)} commands ended in what is no outcome: {strange[:SHOWN]}")
    return found


def _operations(story: Story) -> list[str]:
    if not story.intents:
        return []
    none = Count()
    wrong = []
    for breaker, count in story.counted.items():
        intents = story.intents.get(breaker, none)
        for word, frames, wanted in (("open", count.opens, intents.opens), ("close", count.closes, intents.closes)):
            if frames > wanted:
                wrong.append(f"{breaker}: {frames} frames to {word}, {wanted} intents")
    return [f"{len(wrong)} times a breaker was told more than was intended: {wrong[:SHOWN]}"] if wrong else []


def _expected(story: Story) -> list[str]:
    wrong = {}
    for breaker, wanted in story.expected.items():
        one = story.counted.get(breaker)
        if one is None or not _same(one, wanted):
            wrong[breaker] = (one, wanted)
    shown = [f"{breaker}: counted {one}, told {wanted}" for breaker, (one, wanted) in list(wrong.items())[:SHOWN]]
    return [f"{len(wrong)} breakers moved other than was told: {shown}"] if wrong else []


def _same(one: Count, wanted: Count) -> bool:
    return (
        (one.opens, one.closes) == (wanted.opens, wanted.closes)
        and wanted.operations in (None, one.operations)
        and wanted.position in (None, one.position)
    )
