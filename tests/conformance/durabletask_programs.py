"""Programs that two engines can run: what an orchestrator does, as data, and what the outside does to it.

A program is free of races by construction, so that its outcome says something about the engine and nothing about the
machine: whatever comes from outside is given while the program stands at a ``Pause``; in a race (``First``) only one
side can ever finish; where several orchestrations touch one entity, what they do commutes or is kept apart by sender;
what does not commute happens under a lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeAlias

Json: TypeAlias = Any


class FeederFault(Exception):
    """An author's own error."""


FAULTS: dict[str, type[Exception]] = {
    "ValueError": ValueError,
    "RuntimeError": RuntimeError,
    "FeederFault": FeederFault,
}


def fault_text(kind: str, number: int) -> str:
    """The message of a fault: unlike any other in its run, and it names its kind."""
    return f"fault-{kind}-{number}"


# What can be waited for


@dataclass(frozen=True)
class Act:
    """An activity. Its first ``fails`` attempts raise; attempts: 0 without a retry, else at most so many."""

    number: int
    value: Json = None
    fails: int = 0
    kind: str = "ValueError"
    attempts: int = 0
    work_ms: int = 0


@dataclass(frozen=True)
class Nap:
    """A timer."""

    ms: int


@dataclass(frozen=True)
class Ask:
    """A call of an entity. The box (a function) keeps sum and senders, the tally (a class) a total."""

    entity: str
    operation: str
    argument: Json = None


@dataclass(frozen=True)
class Child:
    """A sub-orchestration: the run's program ``ref``."""

    ref: int
    named: str = ""
    attempts: int = 0
    version: str = ""


@dataclass(frozen=True)
class Never:
    """A wait for an event that nobody raises."""


@dataclass(frozen=True)
class Slow:
    """A timer that is long enough to lose, and is cancelled then."""

    ms: int


@dataclass(frozen=True)
class All:
    """task_all / when_all."""

    of: tuple[Tree, ...]


@dataclass(frozen=True)
class First:
    """task_any / when_any: one that can finish among others that can't (or not in time)."""

    of: tuple[Tree, ...]


Tree: TypeAlias = "Act | Nap | Ask | Child | Never | Slow | All | First"


# What the outside does at a pause


@dataclass(frozen=True)
class Raise:
    """An external event."""

    name: str
    value: Json


@dataclass(frozen=True)
class Suspend:
    """Suspend, and wait until that is seen."""


@dataclass(frozen=True)
class Resume:
    """Resume."""


@dataclass(frozen=True)
class Terminate:
    """End it from outside."""


@dataclass(frozen=True)
class Signal:
    """A client's signal to an entity."""

    entity: str
    operation: str
    argument: Json


@dataclass(frozen=True)
class Enter:
    """Start the program ``ref`` beside the root, under this name."""

    ref: int
    named: str


Deed: TypeAlias = "Raise | Suspend | Resume | Terminate | Signal | Enter"


# What an orchestrator does


@dataclass(frozen=True)
class Do:
    """Wait for a tree of tasks."""

    tree: Tree
    caught: bool = True


@dataclass(frozen=True)
class Start:
    """Begin something without waiting for it yet."""

    slot: int
    tree: Tree


@dataclass(frozen=True)
class Join:
    """Wait for what was begun."""

    slot: int


@dataclass(frozen=True)
class Tell:
    """A signal to an entity; with delay_ms one for later."""

    entity: str
    operation: str
    argument: Json = None
    delay_ms: int = 0


@dataclass(frozen=True)
class Pause:
    """Wait for external events, while the outside does what the script says.

    how: all, any: at once; sequence: one after the other.
    """

    mark: int
    how: str
    names: tuple[str, ...]
    script: tuple[Deed, ...]


@dataclass(frozen=True)
class Patience:
    """Wait for one event, but not for ever. An empty script: it expires."""

    mark: int
    name: str
    ms: int
    script: tuple[Deed, ...]


@dataclass(frozen=True)
class Section:
    """Lock counters, count each one up by reading, working and writing, unlock.

    broken: raise before or after the writing. forbidden: try something that a critical section must refuse (nested: another
    lock; other: a call of an entity that is not locked; signal: one to an entity that is). pause: wait inside.
    """

    number: int
    keys: tuple[str, ...]
    work_ms: int = 0
    broken: str = ""
    caught: bool = True
    forbidden: str = ""
    pause: Pause | None = None


@dataclass(frozen=True)
class Send:
    """An event to a named child that was begun before."""

    named: str
    name: str
    value: Json


@dataclass(frozen=True)
class Hear:
    """Wait for an event that another orchestration sends."""

    name: str


@dataclass(frozen=True)
class Say:
    """Custom status."""

    value: Json


@dataclass(frozen=True)
class Probe:
    """Name, version, and whether time runs forward."""


Step: TypeAlias = "Do | Start | Join | Tell | Pause | Patience | Section | Send | Hear | Say | Probe"


@dataclass(frozen=True)
class Round:
    """One execution: its steps and how it ends: return, raise, again.

    again: continue_as_new, with or without the events that nobody took; left: how many those are; locked: counters of the
    critical section that this happens in.
    """

    steps: tuple[Step, ...]
    end: str = "return"
    keep_events: bool = True
    number: int = 0
    left: int = 0
    locked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Program:
    """One orchestrator: its executions in turn."""

    rounds: tuple[Round, ...]


@dataclass(frozen=True)
class Run:
    """Programs that run together: the first is the root; rivals are started at the same time; others by those.

    instances: names of those that are started by name. rewinds: how often the root is rewound when it has failed.
    """

    programs: tuple[Program, ...]
    rivals: tuple[int, ...] = ()
    version: str = ""
    instances: tuple[str, ...] = field(default=())
    rewinds: int = 0

    def steps(self) -> Iterator[object]:
        """All parts of all programs, nested ones too."""
        yield from parts_of(self.programs)


def parts_of(part: object) -> Iterator[object]:
    """A record and all records within."""
    if isinstance(part, tuple):
        for item in part:
            yield from parts_of(item)
    elif is_dataclass(part):
        yield part
        for each in fields(part):
            yield from parts_of(getattr(part, each.name))


def features(run: Run) -> set[str]:
    """What a run exercises, for the guard against programs that show nothing."""
    found: set[str] = set()
    parts = list(run.steps())
    for part in parts:
        found.add(type(part).__name__)
        match part:
            case Act(attempts=attempts, fails=fails):
                found |= {"retry"} if attempts else set()
                found |= {"retries used up"} if 0 < attempts <= fails else set()
                found |= {"failure"} if fails and fails >= max(attempts, 1) else set()
            case Ask(operation="fail") | Tell(operation="fail"):
                found.add("rollback")
            case Tell(operation="forward") | Ask(operation="forward"):
                found.add("entity to entity")
            case Ask(operation="start") | Tell(operation="start"):
                found.add("entity starts")
            case Tell(delay_ms=delay) if delay:
                found.add("scheduled signal")
            case Child(attempts=attempts) if attempts:
                found.add("child retry")
            case Round(end="again", keep_events=keep, left=left, locked=locked):
                found |= {"continue as new"} | ({"continue as new in a section"} if locked else set())
                found |= {"carried events" if keep else "dropped events"} if left else set()
            case Round(end="raise"):
                found.add("failure")
            case Section(pause=Pause(script=(*_, Terminate()))):
                found.add("owner terminated")
            case Section(broken=broken, forbidden=forbidden):
                found |= {"broken section"} if broken else set()
                found |= {"forbidden in section"} if forbidden else set()
            case Pause(script=script):
                found |= {"early event"} if not script else set()
    if run.rewinds:
        found.add("rewind")
    if sum(isinstance(part, Section) for part in parts) > 1:
        found.add("contention")
    return found
