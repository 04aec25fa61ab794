"""A procedure that gives load back and gets no further: people are told what it waits for, and which feeder is next.

It waits for headroom as long as it must, for a person may be right behind it; but a feeder whose cold load never fits would
keep the station for ever, and nobody else would be shed. What must stay true: nothing is decided here. After a crash the
time of waiting counts anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from gateway.durable import Engine
from gateway.durable.instances import Orchestration
from gateway.housekeeping_troubles import RESTORATION, CareTrouble
from gateway.operations import committed_station
from gateway.shedding.field import Field

WAITS_S = 3600.0
"""Engine seconds without any breaker closed after which it is told."""
WAITS = 4
"""But not before so many of the site's waits between two stages have passed."""


class Restoration:
    """Looks at the procedure that has the station. Call ``troubles`` now and then."""

    def __init__(self, engine: Engine, field: Field) -> None:
        self._engine = engine
        self._field = field
        self._waiting: tuple[str, int] = ("", 0)
        self._since_us = 0

    def troubles(self) -> Iterator[CareTrouble]:
        """What a person should see to."""
        running = committed_station(self._engine, self._field).running
        instance = None if running is None else self._engine.instances.get(running.instance)
        row = instance.row if isinstance(instance, Orchestration) else None
        told = None if row is None else msgspec.json.decode(row.state).get("custom_status")
        if (
            row is None
            or not isinstance(told, dict)
            or told.get("phase") != "restoring"
            or not told.get("feeders_shed")
        ):
            self._waiting = ("", 0)
            return
        now_us = self._engine.now_us()
        if self._waiting != (row.instance, told["feeders_shed"]):
            self._waiting, self._since_us = (row.instance, told["feeders_shed"]), now_us
        waited_s = (now_us - self._since_us) / 1e6
        if waited_s >= max(WAITS_S, WAITS * self._field.site.restoration.stage_wait_s):
            limit_pct = self._field.site.restoration.limit_pct
            waits_for = told.get("waits_for") or "its next step"
            words = (
                f"{row.instance} has closed no breaker for an hour or more: it waits for {waits_for} "
                f"(limit_pct = {limit_pct:g}). Nothing else is shed meanwhile. Give that feeder back by hand "
                "(gridlatch override force-close --feeder F), keep it open (force-open --feeder F), or end the procedure "
                "(gridlatch override cancel)"
            )
            yield CareTrouble("restoration_waits", RESTORATION, words, row.instance)
