"""What happens to the gateway: faults of the field, losses of power, and people who order whatever they like at any moment.

All of it is drawn from the seed. Who orders waits for the answer before the next order, and keeps a book: an order that was
answered is acknowledged, whatever happens to the process afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from crash.simulation.rtu import Rtu, SimBreaker
from crash.simulation.world import World

from gateway.control import ControlError
from gateway.durable import DurableError
from protocols.base import Position

COLLECTOR = "collector"
ORDERS = {
    "number": 30,
    "open": 8,
    "close": 8,
    "block": 3,
    "unblock": 5,
    "hold": 4,
    "resume": 7,
    "skip": 5,
    "skip feeder": 2,
    "cancel": 1,
    "cancel-and-restore": 2,
    "force-open": 2,
    "force-close": 2,
    "monitor": 1,
    "armed": 4,
    "release": 6,
    "start": 9,
    "suspend": 1,
    "go on": 4,
    "terminate": 1,
    "rewind": 1,
    "look": 4,
}
FAULTS = {
    "silent": 5,
    "down": 5,
    "slow": 4,
    "cut": 5,
    "restart": 3,
    "field down": 1,
    "local": 4,
    "by hand": 4,
    "contacts": 2,
    "wall clock": 3,
    "unsynchronised": 1,
}


PAUSES_S = (0.5, 2.0, 60.0, 900.0, 5400.0)
"""So long nothing runs after a crash: mostly as long as the service manager takes."""


class Mishaps:
    """Faults and crashes until the world is mended."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def faults(self) -> None:
        """One after the other."""
        world, chance = self.world, self.world.chance
        while world.faults:
            await world.pause(chance.expovariate(1 / world.plan.fault_every_s))
            if not world.faults:
                return
            kind = chance.choices(list(FAULTS), list(FAULTS.values()))[0]
            world.note(f"fault: {kind}")
            self._begin(kind, chance.choice(world.rtus), chance.choice(list(world.breakers.values())))

    def _begin(self, kind: str, rtu: Rtu, breaker: SimBreaker) -> None:
        world, chance = self.world, self.world.chance
        lasts_s = chance.choice((1.0, 5.0, 30.0, 120.0, 600.0)) * chance.uniform(0.5, 2.0)
        match kind:
            case "silent" | "down":
                self._fail(rtu, kind, lasts_s)
            case "field down":
                for one in world.rtus:
                    self._fail(one, "down", lasts_s)
            case "slow":
                rtu.slow_s = rtu.timeout_s * chance.uniform(0.1, 0.8)
                world.later(lasts_s, lambda: setattr(rtu, "slow_s", 0.0))
            case "cut":
                rtu.cut("reset by peer")
            case "restart":
                rtu.restart()
                self._fail(rtu, "down", min(lasts_s, 60.0))
            case "local":
                breaker.local, breaker.local_since = True, world.now()
                world.later(lasts_s * 3, lambda: setattr(breaker, "local", False))
            case "by hand":
                target = Position.CLOSED if breaker.position is Position.OPEN else Position.OPEN
                self._rtu_of(breaker).obey(breaker, target, 0.1, "hand")
            case "contacts":
                self._contacts(breaker, lasts_s)
            case "wall clock":
                world.wall_step_s += chance.choice((-7200.0, -30.0, 2.0, 600.0, 86400.0))
            case "unsynchronised":
                world.synced = False
                world.later(lasts_s, lambda: setattr(world, "synced", True))

    def _rtu_of(self, breaker: SimBreaker) -> Rtu:
        return next(rtu for rtu in self.world.rtus if breaker in rtu.breakers)

    def _fail(self, rtu: Rtu, state: str, lasts_s: float) -> None:
        rtu.state = state
        if state == "down":
            rtu.cut("connection reset")
        self.world.later(lasts_s, lambda: setattr(rtu, "state", "up"))

    def _contacts(self, breaker: SimBreaker, lasts_s: float) -> None:
        """Both contacts made, or none, until somebody repairs them."""
        if breaker.position not in (Position.OPEN, Position.CLOSED):
            return
        before = breaker.position
        breaker.position = self.world.chance.choice((Position.BAD, Position.INTERMEDIATE))
        broken = breaker.pending

        def repair() -> None:
            if breaker.pending == broken and breaker.position in (Position.BAD, Position.INTERMEDIATE):
                breaker.position = before

        self.world.later(lasts_s, repair)

    async def crashes(self) -> None:
        """The power fails, the process is killed or stopped, and comes back: after seconds, or much later."""
        world, chance = self.world, self.world.chance
        while world.faults:
            await world.pause(chance.expovariate(1 / world.plan.crash_every_s))
            if not world.faults:
                return
            if world.process is None:
                continue
            if chance.random() < 0.1 and world.process.ready:
                world.note("stopped in an orderly way")
                world.process.supervision.stop.set()
                continue
            world.crash_soon(chance.choice(("now", "frame", "commit")))

    async def power(self) -> None:
        """Whoever is down comes back; now and then it is killed again while it recovers."""
        world, chance = self.world, self.world.chance
        while True:
            if world.process is None:
                pause_s = chance.choices(PAUSES_S, (30, 40, 20, 6, 1))[0] if world.faults else 2.0
                await world.pause(pause_s)
                world.boot()
                if world.faults and chance.random() < 0.25:
                    again = chance.choice(("now", "commit"))
                    world.later(
                        chance.choice((0.0, 0.001, 0.01, 0.1, 1.0, 10.0)), lambda how=again: world.crash_soon(how)
                    )  # type: ignore[misc]
            await world.pause(1.0 if world.process is None else 15.0)
            world.look_at_timers()


class Operator:
    """One person. given, acknowledged: the numbered events. Their places in line are their order."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.given: list[tuple[str, int]] = []
        self.acknowledged: list[tuple[str, int]] = []

    async def work(self) -> None:
        """Order what comes to mind until the world is mended."""
        world, chance = self.world, self.world.chance
        while world.faults:
            await world.pause(chance.expovariate(1 / world.plan.order_every_s))
            if not world.faults:
                return
            await self.order(chance.choices(list(ORDERS), list(ORDERS.values()))[0])

    async def order(self, kind: str, **more: Any) -> Any:
        """One order and its answer; None when there was none."""
        world = self.world
        process = world.process
        if process is None or not process.handlers:
            world.note("nobody answers", kind)
            return None
        work = self._work(kind, more)
        if work is None:
            return None
        try:
            answer = await process.ask(work)
        except ControlError as error:
            world.note(f"order refused: {kind}", error.code.value)
        except ConnectionError:
            world.note(f"order unanswered: {kind}")
        except DurableError as error:
            world.note(f"order refused: {kind}", type(error).__name__)
        else:
            world.note(f"order: {kind}")
            if kind == "number":
                self.acknowledged.append(self.given[-1])
            return answer
        return None

    def _work(self, kind: str, more: dict[str, Any]) -> Callable[[], Awaitable[Any]] | None:
        world, chance = self.world, self.world.chance
        process = world.process
        assert process is not None
        feeder = str(more.get("feeder") or chance.choice(list(world.breakers)))
        said: dict[str, Any] = {"actor": self.name, "reason": kind}

        def ask(operation: str, **args: Any) -> Callable[[], Awaitable[Any]]:
            return lambda: process.handlers[operation]({**said, **args})

        match kind:
            case "number":
                self.given.append((self.name, len(self.given) + 1))
                data = {"sender": self.name, "number": self.given[-1][1]}
                return lambda: process.engine.client.raise_event(COLLECTOR, "Number", data, raised_by=self.name)
            case "open" | "close":
                force: dict[str, Any] = {"force": True} if kind == "close" and chance.random() < 0.2 else {}
                return ask(f"breakers.{kind}", feeder=feeder, wait_s=chance.choice((1.0, 30.0, 300.0)), **force)
            case "block" | "unblock":
                return ask(f"breakers.{kind}", feeder=feeder)
            case "force-open" | "force-close" | "skip feeder":
                return ask("override", decision=kind.split()[0], feeder=feeder)
            case "hold":
                expires = {"expires_s": chance.uniform(10.0, 3000.0)} if chance.random() < 0.5 else {}
                return ask("override", decision=kind, **expires)
            case "resume" | "skip" | "cancel" | "cancel-and-restore":
                return ask("override", decision=kind)
            case "monitor" | "armed":
                return ask("mode", mode=kind)
            case "release":
                return ask("release")
            case "start":
                if chance.random() < 0.5:
                    return ask("shed.start", target_kw=round(world.rated_kw * chance.uniform(0.02, 0.3), 1))
                return ask("shed.start", tiers=[chance.choice(("Tier1", "Tier2", "Tier3"))])
            case "suspend" | "go on" | "terminate" | "rewind":
                running = process.desk.station().running
                instance = running.instance if running is not None else process.desk.station().last_ended
                operation = "resume" if kind == "go on" else kind
                return ask(f"instances.{operation}", instance=instance) if instance else None
            case _:
                return ask("status") if chance.random() < 0.0 else ask("breakers.show", feeder=feeder)
