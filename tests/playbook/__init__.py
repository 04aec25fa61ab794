"""Tests of orchestrators and entities that read as transcripts, against the pure core: no engine, no journal, no clock.

``>>`` is what the world says, ``<<`` is what the code under test must say, in order::

    (
        Playbook(Procedure, {"reason": "heat"})
        << activity("ReadLoad")
        >> done({"percent": 99.0})
        << status(phase="cooldown")
        << timer(600)
        >> later(600)
        << output(status="restored")
    )

Everything that the code decides must be expected, save cancelled timers and signals to entities, which are passed over
unless the transcript names them. After each turn of an orchestrator the whole transcript is replayed from scratch, and
must lead to the same decisions, the same custom status and the same outcome; an entity is written to JSON and read
back before each operation. So each transcript is a test of what a restart would find, too.
"""

from tests.playbook.entity import EntityBook
from tests.playbook.orchestrator import Playbook
from tests.playbook.words import (
    START_US,
    activity,
    answer,
    breaks,
    call,
    cancelled_timer,
    continues_as_new,
    done,
    ends,
    entity_call,
    entity_signal,
    error,
    event,
    failed,
    fails,
    later,
    nothing,
    output,
    signal,
    starts,
    state,
    status,
    timer,
)

__all__ = [
    "START_US",
    "EntityBook",
    "Playbook",
    "activity",
    "answer",
    "breaks",
    "call",
    "cancelled_timer",
    "continues_as_new",
    "done",
    "ends",
    "entity_call",
    "entity_signal",
    "error",
    "event",
    "failed",
    "fails",
    "later",
    "nothing",
    "output",
    "signal",
    "starts",
    "state",
    "status",
    "timer",
]
