"""What the activities stand on: the driver, the site as configured now, the clock, the output gate, the mode.

One object, made by the daemon and shared by all activities and entities. ``use`` replaces the site at a reload. The
mode kept here is the last gate before the wire: in MONITOR no write leaves, whatever was asked for. It mirrors the
substation entity (activity ApplyMode tells it of each change, after the change is on disk); after a restart the daemon
reads it once (``load_mode``) before it releases the gate. Until then it is MONITOR.
"""

from __future__ import annotations

from config.device_models import Device
from config.models import Feeder, Mode, Site
from gateway.clock import Clock
from gateway.shedding.breaker_model import Rules
from gateway.shedding.gate import Gate
from protocols.base import Driver, Quality

HELD_LOOK_S = 60.0


class Field:
    """The field as the application sees it."""

    def __init__(self, driver: Driver, site: Site, clock: Clock, gate: Gate, mode: Mode = Mode.MONITOR) -> None:
        self.driver = driver
        self.clock = clock
        self.gate = gate
        self.mode = mode
        self.use(site)

    @property
    def mode(self) -> Mode:
        """MONITOR: no write leaves; the driver is told, too."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        self.driver.set_writes_enabled(mode is Mode.ARMED)

    def use(self, site: Site) -> None:
        """Work with this site from now on."""
        shedding = site.shedding
        deadline_us = int(shedding.command_deadline_s * 1e6)
        self.site = site
        self.feeders: dict[str, Feeder] = {feeder.name: feeder for feeder in site.feeders}
        self.devices: dict[str, Device] = {device.name: device for device in site.devices}
        self.tiers = {tier.name for tier in site.tiers}
        shared: dict[tuple[bool, bool], Rules] = {}
        self._rules: dict[str, Rules] = {}
        for feeder in site.feeders:
            key = (feeder.critical, feeder.sheddable and feeder.tier is not None)
            if key not in shared:
                shared[key] = Rules(
                    *key,
                    shedding.max_operations_per_hour,
                    deadline_us,
                    late_move_us=int(shedding.late_move_s * 1e6),
                )
            self._rules[feeder.name] = shared[key]

    async def released(self) -> None:
        """Wait, however long, while outputs are held: what would be measured or planned now could not be acted on.

        After a restart this is also what keeps a plan from being made of breakers that nobody has read yet.
        """
        while self.gate.held:
            await self.gate.wait_released(HELD_LOOK_S)

    def rules(self, feeder: str) -> Rules | None:
        """The site's rules for this feeder's breaker, None for an unknown feeder."""
        return self._rules.get(feeder)

    def in_tier(self, tier: str) -> list[Feeder]:
        """The feeders of a tier that may be shed."""
        return [f for f in self.site.feeders if f.tier == tier and f.sheddable and not f.critical]

    def load_kw(self, feeder: str) -> float:
        """Load of one feeder: measured where it is, else rated."""
        reading = self.driver.breaker(feeder)
        if reading.power_kw is not None and reading.quality is not Quality.BAD:
            return max(0.0, reading.power_kw)
        return self.feeders[feeder].rated_kw
