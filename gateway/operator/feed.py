"""Carries what is committed to the operators' server, as values of its objects.

Theory of operation. The engine says which instances have just been committed; their names are collected here, and as soon
as there is time a slice of them is decoded, compared with what was told before, and told where it differs: however often
a breaker changes in between, it is told as it is now. What only the process image knows (a load, the age of a reading) is
looked at in turn, all breakers each ``SWEEP_S``. Station, procedure, orchestrations and timers are told in rounds.

What must stay true: only committed state is told, save where the description of a variable says otherwise; no slice keeps
the loop much longer than ``SLICE_S``, and all slices together take at most a share 1 / (1 + ``REST``) of it, so that the
operators' view never holds up a shed: it lags behind it, by what that share can't carry, and no value is left out in the
end. What a person has called is told ahead of its turn, so that who was answered reads what the answer said. On a crash
nothing is lost: everything is told again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from config.models import Feeder
from gateway.durable import Engine, EngineStoppedError
from gateway.durable.instances import EntityInstance, Instance, Orchestration
from gateway.operations.desk import Desk
from gateway.operator import names, station_values
from gateway.operator.breaker_values import (
    Told,
    age_step,
    changes,
    committed,
    grade_of,
    moved,
    of_site,
    sample,
)
from gateway.operator.listings import Orchestrations, Timers
from gateway.operator.station_values import Values
from gateway.shedding.entities import BREAKER, substation_id, transformer_id
from protocols.opcua.surface import Change, Doing, Grade, Sample, Server

FLUSH_S = 0.1
"""The station is told at most so often, save for answers; and somebody looks whether there is anything to tell at least so
often."""
GAP_S = 0.005
"""Between two slices, at least: what is committed on a quiet day is told at once."""
SLICE_S = 0.01
REST = 3.0
"""After a slice that left something, so many times its length is left to others."""
SWEEP_S = 5.0
ROUND_S = 1.0
PORTION = 20
"""Breakers between two looks at the clock."""


class Breakers:
    """Tells of breakers: of those that were committed, of what the site's files say, and of all of them in turn."""

    def __init__(self, desk: Desk, server: Server) -> None:
        self._desk = desk
        self._server = server
        self._told: dict[str, Told] = {}
        self._image: dict[str, tuple[float | None, Grade, float | None]] = {}
        self._dirty: dict[str, None] = {}
        self._untold: dict[str, None] = {}
        self._sweep: Iterator[str] = iter(())
        self._swept_at = -SWEEP_S
        self._loop = asyncio.get_running_loop()

    @property
    def behind(self) -> bool:
        """True while there is more to tell than one slice took."""
        return bool(self._dirty or self._untold)

    def forget(self) -> None:
        """Nothing is known of what was told: tell all of it, a slice at a time."""
        self._told.clear()
        self._image.clear()
        self.site_changed()

    def committed(self, feeder: str) -> None:
        """This breaker has a new committed state."""
        self._dirty[feeder] = None

    def now(self, feeder: str) -> None:
        """Tell the committed state of this breaker ahead of all others. When that fails, its turn comes as ever."""
        try:
            self._tell((feeder,), lambda one, _: self._state(one))
        except BaseException:
            self._told.pop(feeder, None)
            self._dirty[feeder] = None
            raise

    def site_changed(self) -> None:
        """The site's files were read again: tell what they say, a slice at a time."""
        self._untold = dict.fromkeys(self._desk.field.feeders)

    def slice(self, budget_s: float) -> None:
        """Tell of as many as there is time for, each in turn: commits, files, sweep."""
        until = self._loop.time() + budget_s
        while self._commits() | self._files() | self._some_of_all():
            if self._loop.time() > until:
                return

    def _commits(self) -> bool:
        return self._take(self._dirty, lambda feeder, _: self._state(feeder))

    def _files(self) -> bool:
        def all_of_it(feeder: str, configured: Feeder) -> Iterator[Change]:
            yield from of_site(names.feeder_key(feeder), configured)
            yield from self._state(feeder)
            yield from self._of_image(feeder, configured)

        return self._take(self._untold, all_of_it)

    def _take(self, queue: dict[str, None], differences: Callable[[str, Feeder], Iterable[Change]]) -> bool:
        """A portion of these; they are out of the queue only once the server has taken them. False: there was none."""
        portion = list(islice(queue, PORTION))
        self._tell(portion, differences)
        for feeder in portion:
            queue.pop(feeder, None)
        return bool(portion)

    def _some_of_all(self) -> bool:
        portion = list(islice(self._sweep, PORTION))
        if not portion and self._loop.time() >= self._swept_at + SWEEP_S:
            self._swept_at = self._loop.time()
            self._sweep = iter(list(self._image))
            portion = list(islice(self._sweep, PORTION))
        self._tell(portion, self._of_image)
        return bool(portion)

    def _tell(self, portion: Iterable[str], differences: Callable[[str, Feeder], Iterable[Change]]) -> None:
        feeders = self._desk.field.feeders  # an entity may have outlived its feeder
        found = [change for one in portion if one in feeders for change in differences(one, feeders[one])]
        if found:
            self._server.change(found)

    def _state(self, feeder: str) -> Iterator[Change]:
        """What differs in the committed state, or in how good it is."""
        grade = grade_of(self._desk.field.driver.breaker(feeder).quality.value)
        told, now = self._told.get(feeder), committed(self._desk.watch.committed(feeder), grade)
        if told != now:
            self._told[feeder] = now
            yield from changes(names.feeder_key(feeder), told, now)

    def _of_image(self, feeder: str, configured: Feeder) -> Iterator[Change]:
        """What differs in the process image: load, age, and whether the position is still good."""
        reading = self._desk.field.driver.breaker(feeder)
        grade = grade_of(reading.quality.value)
        age_s = age_step(self._loop.time() - reading.read_at if reading.read_at else None, grade)
        known = self._image.get(feeder)
        kw, known_grade, known_age_s = known or (None, None, None)
        worth = known_grade is not grade or moved(kw, reading.power_kw, configured.rated_kw)
        if known is not None and not worth and known_age_s == age_s:
            return
        key = names.feeder_key(feeder)
        if worth:
            kw = reading.power_kw
            yield Change(key, "MW", sample(None) if kw is None else Sample(round(kw / 1000, 6), grade))
        if known is None or known_age_s != age_s:
            yield Change(key, "Age", sample(age_s))
        if known_grade is not grade:
            yield from self._state(feeder)
        self._image[feeder] = (kw, grade, age_s)


class Feed:
    """Tells one server what is. expires_us: when its certificate expires. counts: deeds at the door since the start."""

    def __init__(self, desk: Desk, server: Server, expires_us: Callable[[], int], counts: Counter[Doing]) -> None:
        self._desk = desk
        self._server = server
        self._expires_us = expires_us
        self._counts = counts
        self._breakers = Breakers(desk, server)
        self._orchestrations = Orchestrations(desk.engine)
        self._timers = Timers(desk.engine)
        self._told: dict[str, Values] = {}
        self._station_at = -ROUND_S
        self._station_changed = True
        self._procedure = ""
        self._begun = False
        self._awake = asyncio.Event()
        self._own = (str(substation_id(desk.field.site)), str(transformer_id(desk.field.site)))

    def site_changed(self) -> None:
        """The site's files were read again."""
        self._breakers.site_changed()
        self._station_changed = True

    def tell_now(self, key: str) -> None:
        """Tell the committed state of this object at once: a call on it is about to be answered."""
        if names.is_breaker(key):
            self._breakers.now(names.feeder_of(key))
        else:
            self.tell_station()

    async def fill(self) -> None:
        """Tell everything; nothing else of this process is delayed by more than a slice."""
        self._begin()
        while self._breakers.behind:
            self._breakers.slice(SLICE_S)
            await asyncio.sleep(0)
        self.tell_station()

    async def run(self) -> None:
        """Tell what changes, until cancelled or until the engine has stopped; everything, where that was not told yet."""
        if not self._begun:
            self._begin()
        self._begun = False  # who comes here again does so after a failure: nobody knows what was told
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_values())
            tasks.create_task(self._tell_lists())

    def close(self) -> None:
        """Hear of no more commits."""
        listeners = self._desk.engine.on_commit
        if self._committed in listeners:
            listeners.remove(self._committed)

    def _begin(self) -> None:
        listeners = self._desk.engine.on_commit
        if self._committed not in listeners:
            listeners.append(self._committed)
        self._told.clear()
        self._breakers.forget()
        self._orchestrations.forget(self._server)
        self._timers.forget(self._server)
        self._begun = True

    def _committed(self, instance: Instance) -> None:
        """See Engine.on_commit."""
        self._awake.set()
        if isinstance(instance, EntityInstance):
            if instance.name == BREAKER:
                self._breakers.committed(instance.core.id.key)
            elif instance.id in self._own:
                self._station_changed = True
        elif isinstance(instance, Orchestration):
            self._orchestrations.mark((instance,))
            self._station_changed |= instance.id == self._procedure

    async def _tell_values(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._awake.clear()
            began = loop.time()
            self._breakers.slice(SLICE_S)
            if began >= self._station_at + (FLUSH_S if self._station_changed else ROUND_S):
                self.tell_station()
            await asyncio.sleep(max(GAP_S, (loop.time() - began) * REST))
            if not self._breakers.behind:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FLUSH_S):
                        await self._awake.wait()

    def tell_station(self) -> None:
        """Tell of the gateway, the stress, the procedure and the door."""
        self._station_at = asyncio.get_running_loop().time()
        self._station_changed = False
        desk = self._desk
        station = desk.station()
        self._procedure = "" if station.running is None else station.running.instance
        self._show(names.SHEDDING, station_values.shedding(desk, station))
        self._show(names.STRESS, station_values.stress(desk, station_values.committed_transformer(desk)))
        self._show(names.GATEWAY, station_values.gateway(desk, station))
        self._show(names.SECURITY, station_values.security(self._server.sessions(), self._expires_us(), self._counts))

    async def _tell_lists(self) -> None:
        engine: Engine = self._desk.engine
        while True:
            self._show(names.ORCHESTRATIONS, self._orchestrations.round(self._server))
            following = self._timers.next()
            try:
                await engine.on_disk()  # a timer runs as soon as it is decided; it is shown once that is committed
            except EngineStoppedError:
                return
            self._show(names.TIMERS, self._timers.round(self._server, following))
            await asyncio.sleep(ROUND_S)

    def _show(self, key: str, values: Values) -> None:
        told = self._told.setdefault(key, {})
        found = [Change(key, name, one) for name, one in values.items() if told.get(name) != one]
        if found:
            self._server.change(found)
            told.update(values)
