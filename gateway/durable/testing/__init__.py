"""Testing kit for those who write procedures: hour-long timers in milliseconds, without a daemon.

Two ways to look at a procedure. A ``Playbook`` (an ``EntityBook``) is a transcript against the pure core: what the world
says, what the code must say, turn by turn. A ``Workbench`` is the real engine on a store in memory and a clock that stands
still: whole procedures with their entities, sub-orchestrations, stubbed activities, and the power failing at any commit.
The words of a transcript are in ``gateway.durable.testing.words``.

What must stay true: nothing in here runs in a daemon, and nothing of the daemon knows of it.
"""

from gateway.durable.testing.clock import VirtualClock
from gateway.durable.testing.crashes import Survived, play, survives_every_crash
from gateway.durable.testing.entity_book import EntityBook
from gateway.durable.testing.errors import Ended, Endless, Stalled, UnexpectedCall
from gateway.durable.testing.playbook import Playbook
from gateway.durable.testing.store import MemoryStore, PowerLost
from gateway.durable.testing.stubs import Call, Stub, StubbedFailure
from gateway.durable.testing.workbench import Workbench

__all__ = [
    "Call",
    "Ended",
    "Endless",
    "EntityBook",
    "MemoryStore",
    "Playbook",
    "PowerLost",
    "Stalled",
    "Stub",
    "StubbedFailure",
    "Survived",
    "UnexpectedCall",
    "VirtualClock",
    "Workbench",
    "play",
    "survives_every_crash",
]
