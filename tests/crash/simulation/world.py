"""The world around the gateway: time, chance, the field, the power, and a book of all that happens.

What must stay true: all chance is drawn from the seed; everything that happens is noted in its order, so that two runs of
one seed can be compared to the last byte. Frames are judged the moment they leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import math
import random
import secrets
import sys
import types
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import msgspec
import structlog
from crash.simulation.disk import Disk, Journal
from crash.simulation.gateway_process import Gate, GatewayProcess
from crash.simulation.loop import PROCESS, VirtualLoop
from crash.simulation.rtu import Rtu, SimBreaker, connect
from crash.simulation.station import BEGIN, Plan, make_site, plan_of

from config.models import Mode
from protocols.base import Position

LOCAL_SEEN_S = 4.5
"""So long after it was turned to local a breaker may still get a frame: the check, its age, the way of the frame."""
TIMER_LATE_S = 30.0
"""So late a timer may be on disk still: the loop stalls, the disk stalls."""
MORE = "and more"
"""In ``named`` when a line of the log names so many feeders only, and how many there are."""
KEPT_LINES = 400
WRONG_AT_MOST = 20
_DEFECTS = {"turn_failed", "engine_failed", "task_failed", "defect", "procedure_stuck", "entity_missing"}
"""Lines of the log that no story may hold."""
_NO_CHANCE = {"gateway.durable.refusals", "gateway.durable.guard", "gateway.durable.context"}
"""They name the functions that orchestrators must not call; they call none."""


class World:
    """See above. journal_of, gate_of: a control puts broken parts in their place."""

    def __init__(
        self,
        seed: int,
        journal_of: type[Journal] = Journal,
        gate_of: type[Gate] = Gate,
        plan: Callable[[random.Random], Plan] = plan_of,
    ) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.loop = VirtualLoop(random.Random(self.chance.getrandbits(64)))
        self.plan = plan(self.chance)
        self.site = make_site(self.chance)
        self.disk = Disk()
        self.digest = hashlib.sha256()
        self.counts: Counter[str] = Counter()
        self.lines: list[str] = []
        self.wrong: list[str] = []
        self.faults = True
        self.synced = True
        self.wall_step_s = 0.0
        self.process: GatewayProcess | None = None
        self.boots = 0
        self.trigger = ""
        """What the next crash waits for: frame, commit, or nothing."""
        self.named: set[str] = set()
        """Feeders that the present process has named to people as being in trouble or left open."""
        self.over = False
        """The story is told: what is buried now adds nothing to it."""
        self._journal_of, self._gate_of = journal_of, gate_of
        self._context = contextvars.Context()
        self._curve = 1.0
        self._make_field()
        self.disk.on_batch = lambda _: self._crash_if("commit")

    def _make_field(self) -> None:
        site = self.site
        self.breakers: dict[str, SimBreaker] = {}
        self.rtus: list[Rtu] = []
        travel_s = site.feeders[0].travel_s
        for device in site.devices:
            breakers = [
                SimBreaker(
                    feeder.name,
                    feeder.rated_kw,
                    feeder.critical,
                    count=self.chance.choice((0, 7, 65533, 65535)),
                    modulus=65536,
                )
                for feeder in site.feeders
                if feeder.device == device.name
            ]
            self.breakers.update({breaker.name: breaker for breaker in breakers})
            self.rtus.append(Rtu(device.name, self, breakers, device.timeout_s, travel_s))
        self.rated_kw = sum(breaker.kw for breaker in self.breakers.values())
        self.feeders = {feeder.name: feeder for feeder in site.feeders}

    # Time, chance, the book

    def now(self) -> float:
        """Virtual seconds."""
        return self.loop.time()

    def later(self, delay_s: float, work: Callable[[], None]) -> None:
        """The world's own: a crash of the gateway takes nothing of it back."""
        self.loop.call_later(delay_s, work, context=self._context.copy())

    def note(self, kind: str, *what: object) -> None:
        """Something happened."""
        if self.over:
            return
        self.counts[kind] += 1
        line = f"{self.loop.time():.6f} {kind} {' '.join(map(str, what))}"
        self.digest.update(line.encode())
        self.lines.append(line)
        if len(self.lines) > 2 * KEPT_LINES:
            del self.lines[:KEPT_LINES]

    def violated(self, sentence: str) -> None:
        """Something that must never be."""
        self.note("VIOLATION", sentence)
        if len(self.wrong) < WRONG_AT_MOST:
            self.wrong.append(f"at {self.loop.time():.3f} s: {sentence}")

    @property
    def story_hash(self) -> str:
        """Of every event in its order and of every byte of the journal."""
        both = self.digest.hexdigest() + self.disk.digest.hexdigest()
        return hashlib.sha256(both.encode()).hexdigest()

    # The load

    def load_kw(self) -> float:
        """What the transformer carries now."""
        now = self.loop.time()
        kw = 0.0
        for breaker in self.breakers.values():
            if breaker.position is not Position.OPEN:
                kw += breaker.kw
        return kw * self.curve(now)

    def curve(self, now: float) -> float:
        """Load of what is closed over its rated load: a hot afternoon, and a calm night once all is mended."""
        if not self.faults:
            return 0.55
        hour = (now - 1000.0) / 3600
        shape = 0.75 + 0.25 * math.sin(math.pi * min(1.0, hour / self.plan.hours)) + 0.02 * math.sin(now / 97.0)
        return shape * self.plan.peak_pct / 100

    # The power

    def boot(self) -> None:
        """A process starts."""
        if self.process is not None:
            return
        self.boots += 1
        self.named.clear()
        journal = self._journal_of(self.disk, self.chance, self.note, self.plan.commit_fails if self.faults else 0.0)
        gate = self._gate_of("starting: the field has not been read yet")
        process = GatewayProcess(
            self.boots, self.site, journal, self.loop, self.plan.look_s, gate, lambda why: self._ended(process, why)
        )
        self.process = process
        self.note("boot", self.boots)
        process.boot()

    def kill(self, why: str = "kill") -> None:
        """The process is gone, between two steps."""
        process = self.process
        if process is None:
            return
        self.loop.steps_left = -1
        self.trigger = ""
        state = "" if process.ready else " while it starts"
        self.note(f"crash{state}", why)
        self.process = None
        self.loop.kill(process)
        process.journal.crash()
        if process.journal.trouble:
            self.violated(process.journal.trouble)
        for rtu in self.rtus:
            rtu.wires.clear()
        process.gone()

    def _ended(self, process: GatewayProcess, why: str) -> None:
        """A process has ended by itself."""
        if process is not self.process:
            return
        self.note("ended", why)
        expected = not why or why.startswith("the journal failed")
        if not expected:
            self.violated(f"the gateway ended by itself: {why}")
        self.later(0.0, lambda: self.process is process and self.kill("after its end"))  # type: ignore[func-returns-value]
        self.later(self.chance.uniform(1.0, 5.0), self.boot)

    def crash_soon(self, trigger: str) -> None:
        """Kill it at the next frame or commit, or now; a few steps later."""
        self.loop.crash = lambda: self.kill(trigger)
        self.trigger = trigger
        if trigger == "now":
            self._crash_if("now")

    def _crash_if(self, event: str) -> None:
        if self.trigger == event:
            self.trigger = ""
            self.loop.steps_left = self.chance.choice((0, 1, 2, 3, 5, 8, 13, 30, 80, 200))

    def look_at_timers(self) -> None:
        """A durable timer fires when it is due, or soon after the start: it is neither lost nor forgotten."""
        process = self.process
        if process is None or not process.ready or self.now() - process.ready_at < TIMER_LATE_S:
            return
        due_us = min((timer.due_us for timer in self.disk.pending_timers.values()), default=0)
        late_s = (process.clock.now_us() - due_us) / 1e6
        if due_us and late_s > TIMER_LATE_S and process.engine.failure is None:
            self.violated(f"a durable timer is {late_s:.0f} s overdue")

    # Frames

    def sent(self, breaker: SimBreaker, target: Position) -> None:
        """A frame leaves the gateway: had it a cause on disk, and may it leave at all?"""
        self.note("sent", breaker.name, target.value)
        process = PROCESS.get()
        assert isinstance(process, GatewayProcess)
        self._judge_intent(process, breaker, target)
        if process.gate.told_held:
            self.violated(f"a frame to {breaker.name} left while outputs were held")
        if process.field.mode is not Mode.ARMED:
            self.violated(f"a frame to {breaker.name} left in mode monitor")
        if breaker.local and self.now() - breaker.local_since > LOCAL_SEEN_S:
            self.violated(f"a frame to {breaker.name} left {self.now() - breaker.local_since:.1f} s after it was local")
        self._crash_if("frame")

    def _judge_intent(self, process: GatewayProcess, breaker: SimBreaker, target: Position) -> None:
        intents = self.disk.intents.get(breaker.name)
        if not intents:
            self.violated(f"{breaker.name} was operated without an intent on disk")
            return
        intent = intents[-1]
        intent.frames += 1
        if intent.target != target.value:
            self.violated(f"{breaker.name} was told to go {target}, the last intent says {intent.target}")
        if intent.frames > 1:
            self.violated(f"intent {intent.number} of {breaker.name} was executed twice")
        if process.clock.now_us() > intent.deadline_us:
            late_s = (process.clock.now_us() - intent.deadline_us) / 1e6
            self.violated(f"a frame to {breaker.name} left {late_s:.3f} s after its deadline")
        asked = msgspec.json.decode(intent.cause.input)
        if intent.cause.name in ("open", "close") and target is Position.OPEN:
            feeder = self.feeders[breaker.name]
            by_procedure = bool(asked.get("procedure"))
            if feeder.critical or (by_procedure and not feeder.sheddable):
                self.violated(f"the protected feeder {breaker.name} was opened")
        elif intent.cause.name not in ("open", "close"):
            self._judge_repeat(intent.cause.name, asked, breaker)

    def _judge_repeat(self, cause: str, asked: dict[str, Any], breaker: SimBreaker) -> None:
        """Only a settled readback that shows the position of before is proof that nothing moved."""
        read = asked.get("result") or {}
        if cause != "readback_result" or not read.get("settled") or read.get("quality") != "good":
            self.violated(
                f"a command to {breaker.name} was repeated after {cause}, without proof that it had no effect"
            )

    # What the process says

    def logged(self, _: object, method: str, event: dict[str, Any]) -> dict[str, Any]:
        """A processor of structlog: nothing is printed."""
        name = str(event.get("event"))
        if name in _DEFECTS and not str(event.get("error")).startswith("the gateway's journal failed"):
            self.violated(f"the log says {name}: {event.get('error') or event}")
        elif method in ("warning", "error", "critical"):
            self.note("log", name)
        if name in ("breaker_failed", "breaker_unresolved") and "feeder" in event:
            self.named.add(str(event["feeder"]))
        if name == "shed_without_procedure":
            self.named.update(map(str, event["feeders"]))
            if event["number"] > len(event["feeders"]):
                self.named.add(MORE)
        raise structlog.DropEvent

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Time, chance and the wire of the product come from here meanwhile."""
        begin_ns = int(BEGIN.timestamp()) * 1_000_000_000
        chance = random.Random(self.seed ^ 0x5EED)
        clock = types.SimpleNamespace(
            CLOCK_BOOTTIME=7,
            clock_gettime_ns=lambda _: int(self.loop.time() * 1e9),
            time_ns=lambda: begin_ns + int((self.loop.time() + self.wall_step_s) * 1e9),
        )
        by_name = {rtu.name: rtu for rtu in self.rtus}
        hosts = {device.host: by_name[device.name] for device in self.site.devices}
        transport = types.SimpleNamespace(connect=lambda host, *rest: connect(hosts[host], rest[3]))
        before = structlog.get_config()
        structlog.configure(
            processors=[self.logged],
            wrapper_class=structlog.make_filtering_bound_logger(20),
            cache_logger_on_first_use=False,
        )
        try:
            with contextlib.ExitStack() as stack:
                for target, name, value in (
                    ("gateway.clock", "time", clock),
                    ("gateway.supervision", "os", types.SimpleNamespace(getpid=lambda: self.boots)),
                    ("gateway.outputs", "synchronized", lambda: self.synced),
                    ("protocols.modbus.device", "PymodbusTransport", transport),
                    ("protocols.modbus.driver", "SWEEP_S", 20.0),
                    ("gateway.durable.overrun", "watch.limit_s", 1e9),  # it looks at real time
                ):
                    stack.enter_context(mock.patch(f"{target}.{name}", value))
                for module, name, value in _sources_of_chance(chance):
                    stack.enter_context(mock.patch.object(module, name, value))
                yield
        finally:
            structlog.configure(**before)

    async def pause(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)


def _sources_of_chance(chance: random.Random) -> Iterator[tuple[types.ModuleType, str, object]]:
    """Modules of the product that draw from the machine's chance, and what they draw from instead."""

    def draw_uuid() -> uuid.UUID:
        return uuid.UUID(int=chance.getrandbits(128))

    def draw_hex(bytes_number: int) -> str:
        return chance.randbytes(bytes_number).hex()

    seeded: dict[types.ModuleType, object] = {
        uuid: types.SimpleNamespace(**{**vars(uuid), "uuid4": draw_uuid}),
        secrets: types.SimpleNamespace(token_hex=draw_hex),
        random: types.SimpleNamespace(random=chance.random),
    }
    for name, module in sorted(sys.modules.items()):
        if name.startswith(("gateway.", "protocols.")) and name not in _NO_CHANCE:
            for attribute, value in list(vars(module).items()):
                if isinstance(value, types.ModuleType) and value in seeded:
                    yield module, attribute, seeded[value]
