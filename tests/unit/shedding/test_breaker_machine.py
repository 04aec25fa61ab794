"""The breaker entity against a device that loses answers, and a process that dies at any moment.

Hypothesis plays the world: callers, a device that executes or doesn't, answers that are lost, crashes, people who block and
withdraw. The device counts by itself what it executed. Whatever happens:

* at most one frame is under way;
* nothing is sent again for a request unless the device has not executed what was sent for it before;
* every caller is answered exactly once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.durable import history as h
from gateway.durable.codec import unpack
from gateway.durable.testing import EntityBook
from gateway.durable.testing.words import breaks, call, ends, later, signal
from gateway.shedding.breaker_model import Breaker, Phase, Rules
from gateway.shedding.entities import breaker_entity

RULES = Rules(critical=False, sheddable=True, max_operations_per_hour=4, command_deadline_us=120_000_000)


class BreakerMachine(RuleBasedStateMachine):
    """One breaker, its device, its callers."""

    def __init__(self) -> None:
        super().__init__()
        self.book = EntityBook(breaker_entity(lambda _: RULES), "breaker", "F1", Breaker)
        self.position = "closed"
        self.op_count = 0
        self.counts = True
        self.executed: dict[int, bool] = {}
        self.intents_of: dict[str, list[int]] = {}
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.number = 0
        self.by_hand = 0

    @initialize(counts=st.booleans(), known=st.booleans())
    def device(self, counts: bool, known: bool) -> None:
        """A device with or without a counter, seen or not seen yet."""
        self.counts = counts
        if known:
            self.see()

    def hear(self) -> None:
        """Sort what the entity said."""
        for said in self.book.said:
            if isinstance(said, h.EntityActivity) and said.name == "OperateBreaker":
                order = unpack(said.input)
                command = self.book.state.command
                assert command.intent == order["intent"], "the intent is in the state before the frame can leave"
                earlier = self.intents_of.setdefault(command.request_id, [])
                assert not any(self.executed[i] for i in earlier), "sent again what was executed"
                earlier.append(order["intent"])
                self.executed[order["intent"]] = False
            elif hasattr(said, "to"):
                assert said.failure is None
                self.answered[said.to] += 1
                assert self.answered[said.to] == 1, f"{said.to} was answered twice"
        self.book.said.clear()

    def operating(self) -> h.EntityActivity | None:
        """The frame under way."""
        return next((a for a in self.book.open if a.name == "OperateBreaker"), None)

    def execute(self) -> None:
        """The device does what the frame under way says."""
        frame = self.operating()
        assert frame is not None
        order = unpack(frame.input)
        if self.position != order["target"]:
            self.position = order["target"]
            self.op_count += 1
            self.executed[order["intent"]] = True

    def reading(self, **more: Any) -> dict[str, Any]:
        """What the device would say."""
        count = self.op_count if self.counts else None
        return {"position": self.position, "quality": "good", "local": False, "op_count": count, **more}

    # callers

    @rule(operation=st.sampled_from(["open", "close"]), again=st.booleans(), person=st.booleans())
    def ask(self, operation: str, again: bool, person: bool) -> None:
        """Someone asks; again: with the id of the last request."""
        self.number += 0 if again and self.number else 1
        caller = f"caller{sum(self.asked.values())}"
        self.asked[caller] += 1
        procedure = "" if person else "proc"
        message = {"request_id": f"r{self.number}", "actor": "a", "procedure": procedure, "force": person}
        self.book >> call(operation, message, by=caller)
        self.hear()

    # the frame under way

    @precondition(lambda self: self.operating())
    @rule(moves=st.booleans(), tells=st.booleans(), counts=st.booleans())
    def frame_ends(self, moves: bool, tells: bool, counts: bool) -> None:
        """The device executes or not, and the answer comes (with its counter or without) or is lost."""
        if moves:
            self.execute()
        word = ("done" if moves else "failed") if tells else "unknown"
        position = self.position if tells else "unknown"
        if moves or tells or self.book.state.phase is Phase.OPERATING:
            told = {"outcome": word, "position": position, "detail": "", "sent": True}
            if word == "done" and counts and self.counts:
                told["op_count"] = self.op_count
            self.book >> ends(told, of="OperateBreaker")
        self.hear()

    @precondition(lambda self: self.operating())
    @rule(expired=st.booleans())
    def frame_never_left(self, expired: bool) -> None:
        """The link was down, or the deadline passed."""
        said = {"outcome": "not_sent", "position": "unknown", "detail": "", "sent": False, "expired": expired}
        self.book >> ends(said, of="OperateBreaker")
        self.hear()

    @precondition(lambda self: self.operating())
    @rule(moves=st.booleans())
    def crash(self, moves: bool) -> None:
        """The process dies with the frame under way."""
        if moves:
            self.execute()
        self.book >> breaks("ActivityInterrupted", of="OperateBreaker")
        self.hear()

    # readbacks and observations

    @precondition(lambda self: any(a.name == "ReadBreaker" for a in self.book.open))
    @rule(readable=st.booleans())
    def read_ends(self, readable: bool) -> None:
        """The readback comes, or gives up."""
        said = self.reading(settled=True) | ({} if readable else {"quality": "bad"})
        self.book >> ends(said, of="ReadBreaker")
        self.hear()

    @rule()
    def see(self) -> None:
        """A scan reads the device."""
        self.book >> signal("observe", self.reading())
        self.hear()

    # people and time

    @precondition(lambda self: self.counts)
    @rule()
    def hand(self) -> None:
        """Someone works the breaker on site; a device without a counter could not tell that from a command."""
        self.position = "open" if self.position == "closed" else "closed"
        self.op_count += 1
        self.by_hand += 1

    @rule(what=st.sampled_from(["block", "unblock", "reset", "resolve"]))
    def person(self, what: str) -> None:
        """A person does something else."""
        self.book >> signal(what, {"actor": "p"})
        self.hear()

    @rule()
    def withdraw(self) -> None:
        """The last request is wanted no more."""
        self.book >> signal("withdraw", {"request_id": f"r{self.number}"})
        self.hear()

    @rule(seconds=st.sampled_from([1, 60, 130, 4000]))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.book >> later(seconds)

    # what must hold

    @invariant()
    def one_frame_at_a_time(self) -> None:
        """At most one frame; a frame exactly while operating."""
        frames = [a for a in self.book.open if a.name == "OperateBreaker"]
        phase = (self.book.state or Breaker()).phase
        assert len(frames) == (1 if phase is Phase.OPERATING else 0)
        assert (phase is Phase.IDLE) == ((self.book.state or Breaker()).command is None)

    @invariant()
    def nothing_grows(self) -> None:
        """The state stays small whatever happens."""
        state = self.book.state or Breaker()
        assert len(state.recent) <= 4
        assert len(msgspec.json.encode(state)) < 4096
        assert self.op_count - self.by_hand <= len(self.executed)

    def teardown(self) -> None:
        """The world calms down: everything can be read again. Then nobody is left without an answer."""
        for _ in range(30):
            if self.operating():
                self.execute()
                said = {"outcome": "done", "position": self.position, "detail": "", "sent": True}
                self.book >> ends(said, of="OperateBreaker")
                self.hear()
            elif self.book.open:
                self.book >> ends(self.reading(settled=True))
                self.hear()
            elif (self.book.state or Breaker()).phase is not Phase.IDLE:
                self.see()
        assert self.answered == self.asked
        assert (self.book.state or Breaker()).phase is Phase.IDLE


BreakerMachine.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestBreakerMachine = BreakerMachine.TestCase
