"""Faults on demand: of single breakers, of whole devices, scripted or at once, for a time or until cleared.

A scenario file (TOML) is a list of faults; every random pick in it comes from its seed:

    seed = 7
    [[fault]]
    kind = "stuck"           # a BreakerFault, "trip", or a DeviceFault
    feeder = "F003-017"      # or pick = 5 (random feeders), optionally only of tier = "Tier1"
    at_s = 30                # real seconds after the start; left out: at the start
    for_s = 20               # real seconds; left out: until cleared
    value = 4                # see BreakerFault; seconds for "delay"
    [[fault]]
    kind = "silent"
    device = "RTU007"        # or pick = 3 (random devices)
    at_s = 45
    [[fault]]
    kind = "malformed"
    device = "RTU008"
    how = "wrong_function"   # one of HOWS

What must stay true: the same kind on the same target replaces what was there, with its time. Times are real seconds.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simulators.breakers import BreakerFault
from simulators.field import HOWS, MOMENTS, DeviceFault, FieldDevice, Later
from simulators.plant import Plant

MOST_PLANNED = 10_000


class FaultError(Exception):
    """A fault that can't be: unknown kind, target or value. The text says which."""


TRIP = "trip"
DEVICE_KINDS = frozenset(DeviceFault)
BREAKER_KINDS = frozenset(BreakerFault)
NEED_SECONDS = frozenset({BreakerFault.SLOW.value, DeviceFault.DELAY.value})


@dataclass(frozen=True, slots=True)
class FaultRequest:
    """One fault: its kind, its target (feeder or device), and how. for_s None: until cleared."""

    kind: str
    target: str
    value: float | None = None
    how: str | None = None
    for_s: float | None = None


class FaultDesk:
    """Puts faults on a running plant and takes them off."""

    def __init__(self, plant: Plant, field: Mapping[str, FieldDevice]) -> None:
        self._plant = plant
        self._field = field
        self._ends: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._planned: list[asyncio.TimerHandle] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def check(self, request: FaultRequest) -> None:
        """Raise FaultError for a request that can't be carried out."""
        if request.kind in DEVICE_KINDS:
            self._check_device(DeviceFault(request.kind), request)
        elif request.kind == TRIP or request.kind in BREAKER_KINDS:
            if request.target not in self._plant.switchgear.by_name:
                raise FaultError(f"no feeder is named {request.target!r}")
            if request.kind == BreakerFault.BAD_STATUS and not self._plant.has_quality(request.target):
                raise FaultError(f"{request.kind} needs a feeder on OPC UA: registers have no status")
        else:
            kinds = ", ".join((*BreakerFault, TRIP, *DeviceFault))
            raise FaultError(f"{request.kind!r} is no fault; there are {kinds}")
        if request.kind in NEED_SECONDS and not (request.value or 0) > 0:
            raise FaultError(f"{request.kind} needs value (seconds) above 0")
        if request.for_s is not None and not request.for_s > 0:
            raise FaultError("for_s must be above 0")

    def _check_device(self, kind: DeviceFault, request: FaultRequest) -> None:
        device = self._field.get(request.target)
        if device is None:
            raise FaultError(f"no device is named {request.target!r}")
        if kind not in device.possible:
            raise FaultError(f"{device.name} can't have {kind}; there are {', '.join(sorted(device.possible))}")
        hows = HOWS.get(kind, frozenset())
        if request.how is not None and request.how not in hows:
            raise FaultError(f"how = {request.how!r} is not one of {', '.join(sorted(hows)) or 'none'}")
        if kind in MOMENTS and request.for_s is not None:
            raise FaultError(f"{kind} happens once: no for_s")

    def apply(self, request: FaultRequest) -> None:
        """Put one fault on, now. Raises FaultError."""
        self.check(request)
        key = (request.kind, request.target)
        self._forget_end(key)
        if request.kind == TRIP:
            self._plant.trip(request.target)
            return
        if request.kind in DEVICE_KINDS:
            kind = DeviceFault(request.kind)
            self._run(request.target, self._field[request.target].put(kind, request.value, request.how))
        else:
            breaker = self._plant.switchgear.by_name[request.target]
            self._plant.switchgear.set_fault(breaker, BreakerFault(request.kind), request.value)
        if request.for_s is not None:
            self._ends[key] = asyncio.get_running_loop().call_later(request.for_s, self._take_off, key)

    def clear(self, target: str | None = None, kind: str | None = None) -> None:
        """Take faults off: of one target or of all, of one kind or of all kinds. Raises FaultError."""
        known = [*self._field, *self._plant.switchgear.by_name]
        if target is not None and target not in known:
            raise FaultError(f"no feeder or device is named {target!r}")
        if kind is not None and kind not in (*BreakerFault, *DeviceFault):
            raise FaultError(f"{kind!r} is no fault that can be cleared")
        for name in [target] if target is not None else known:
            breaker = self._plant.switchgear.by_name.get(name)
            kinds = self._field[name].possible - MOMENTS if breaker is None else list(breaker.faults)
            for each in kinds:
                if kind in (None, each):
                    self._take_off((each, name))

    def plan(self, at_s: float, requests: list[FaultRequest]) -> None:
        """Put faults on in at_s real seconds. Raises FaultError, then none is planned."""
        for request in requests:
            self.check(request)
        if len(self._planned) >= MOST_PLANNED:
            raise FaultError(f"more than {MOST_PLANNED} planned faults")
        loop = asyncio.get_running_loop()
        self._planned.append(loop.call_later(at_s, self._apply_all, requests))

    def _apply_all(self, requests: list[FaultRequest]) -> None:
        for request in requests:
            self.apply(request)

    async def stop(self) -> None:
        """Forget all that is planned."""
        for timer in (*self._planned, *self._ends.values()):
            timer.cancel()
        self._planned.clear()
        self._ends.clear()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _forget_end(self, key: tuple[str, str]) -> None:
        timer = self._ends.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _take_off(self, key: tuple[str, str]) -> None:
        self._forget_end(key)
        kind, target = key
        if kind in DEVICE_KINDS:
            self._run(target, self._field[target].lift(DeviceFault(kind)))
            return
        breaker = self._plant.switchgear.by_name[target]
        if kind in breaker.faults:
            self._plant.switchgear.clear_fault(breaker, BreakerFault(kind))

    def _run(self, name: str, later: Later | None) -> None:
        if later is None:
            return
        task = asyncio.get_running_loop().create_task(self._carry_out(self._field[name], later))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _carry_out(device: FieldDevice, later: Later) -> None:
        try:
            await later
        except OSError as error:
            # The device stays unreachable, which ``links`` shows; the rest of the plant goes on.
            print(f"simulators: {device.host}:{device.port} can't be opened again: {error}", file=sys.stderr)


def read_scenario(path: Path, plant: Plant) -> list[tuple[float, list[FaultRequest]]]:
    """The faults of a scenario file with their times (real seconds after the start). Raises FaultError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FaultError(f"{path}: {error}") from error
    rng = random.Random(f"{data.get('seed', 1)}:scenario")
    entries = data.get("fault", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FaultError(f"{path}: faults are written as [[fault]]")
    planned = []
    for number, entry in enumerate(entries, 1):
        try:
            planned.append((float(entry.get("at_s", 0.0)), _requests(entry, plant, rng)))
        except (KeyError, TypeError, ValueError, FaultError) as error:
            raise FaultError(f"{path}: fault {number}: {error}") from error
    return planned


def _requests(entry: dict[str, object], plant: Plant, rng: random.Random) -> list[FaultRequest]:
    allowed = {"kind", "feeder", "device", "pick", "tier", "at_s", "for_s", "value", "how"}
    if unknown := set(entry) - allowed:
        raise FaultError(f"unknown key {', '.join(sorted(unknown))}; there are {', '.join(sorted(allowed))}")
    kind = str(entry["kind"])
    if "pick" in entry:
        if kind in DEVICE_KINDS:
            names = [device.name for device in plant.site.devices]
        else:
            tier = entry.get("tier")
            names = [feeder.name for feeder in plant.site.feeders if tier in (None, feeder.tier)]
        targets = rng.sample(names, min(len(names), int(str(entry["pick"]))))
    else:
        targets = [str(entry["device" if kind in DEVICE_KINDS else "feeder"])]
    value, for_s, how = entry.get("value"), entry.get("for_s"), entry.get("how")
    return [
        FaultRequest(
            kind,
            target,
            None if value is None else float(str(value)),
            None if how is None else str(how),
            None if for_s is None else float(str(for_s)),
        )
        for target in targets
    ]
