"""What is played: size, speed, settings of the site, and the moment at which the story begins.

The load of 16 January 2014 rises over the limit in the early afternoon and falls below it in the evening. The peak is set
so that this takes about two and a half hours, and the story begins a little before the curve crosses the limit: at ×72
that is under three minutes.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timedelta

from simulators.generate import Plan, host
from simulators.weather import LOCAL, REFERENCE_PEAK, Weather, read_weather

ARM_PCT = 98.0
FIRST_HOST = "127.0.41.1"
FIRST_PORT = 15_020
PORTS_TRIED = 200


@dataclass(frozen=True, slots=True)
class Scenario:
    """rate: grid seconds per second. peak_pct: undisturbed peak load, percent of capacity. lead_s: grid seconds before
    the curve crosses the limit at which the story begins. dark_s: real seconds without power.

    deadline_s, hold_s, silent_s are real seconds too: a command, an operator and a deaf RTU don't hurry with the clock.
    silent_while: the phase of the procedure in which an RTU falls silent. opcua_rtus: so many of the RTUs, the last ones,
    speak OPC UA.
    """

    rtus: int = 120
    breakers: int = 100
    opcua_rtus: int = 4
    rate: float = 72.0
    peak_pct: float = 98.7
    lead_s: float = 1500.0
    cooldown_s: float = 1600.0
    stable_for_s: float = 1200.0
    stage_wait_s: float = 300.0
    poll_fast_s: float = 1.0
    poll_slow_s: float = 2.0
    deadline_s: float = 10.0
    dark_s: float = 2.5
    hold_s: float = 3.0
    silent_s: float = 6.0
    silent_while: str = "stable"
    seed: int = 1

    @property
    def feeders(self) -> int:
        """Breakers in all."""
        return self.rtus * self.breakers

    @property
    def last_on_opcua(self) -> str:
        """The last RTU that speaks OPC UA; empty if none does."""
        return f"RTU{self.rtus:03d}" if self.opcua_rtus else ""


FAST = Scenario(
    rtus=4,
    breakers=10,
    opcua_rtus=1,
    rate=240.0,
    peak_pct=99.2,
    lead_s=2000.0,
    cooldown_s=4000.0,
    poll_fast_s=0.25,
    poll_slow_s=0.5,
    deadline_s=8.0,
    dark_s=0.5,
    hold_s=1.0,
    silent_s=0.0,
)
"""A small one, for tests."""


def crossing(peak_pct: float, weather: Weather) -> datetime:
    """When the demand curve first reaches ARM_PCT of capacity on the day of the peak; ValueError if it never does."""
    peak_gw = weather.demand_at(REFERENCE_PEAK.timestamp())
    moment = REFERENCE_PEAK.replace(hour=6)
    while moment <= REFERENCE_PEAK:
        if peak_pct * weather.demand_at(moment.timestamp()) / peak_gw >= ARM_PCT:
            return moment
        moment += timedelta(minutes=1)
    raise ValueError(f"a peak of {peak_pct:g} % never reaches {ARM_PCT:g} %")


def plan(scenario: Scenario, port: int) -> Plan:
    """The site for a scenario."""
    return Plan(
        rtus=scenario.rtus,
        breakers=scenario.breakers,
        opcua_rtus=min(scenario.opcua_rtus, scenario.rtus),
        operators=(operators_host(scenario.rtus), port),
        port=port,
        first_host=FIRST_HOST,
        rate=scenario.rate,
        origin=crossing(scenario.peak_pct, read_weather()).astimezone(LOCAL) - timedelta(seconds=scenario.lead_s),
        seed=scenario.seed,
        peak_pct=scenario.peak_pct,
        name="Brunswick",
        cooldown_s=scenario.cooldown_s,
        command_deadline_s=scenario.deadline_s * scenario.rate,
        stable_for_s=scenario.stable_for_s,
        stage_wait_s=scenario.stage_wait_s,
        poll_fast_s=scenario.poll_fast_s,
        poll_slow_s=scenario.poll_slow_s,
    )


def operators_host(rtus: int) -> str:
    """Where the gateway listens for operators: the address after the last device's."""
    return host(FIRST_HOST, rtus + 1)


def free_port(devices: int) -> int:
    """A port that nobody has on the first and last of the addresses, and so hardly on those between. Raises OSError."""
    for tried in range(PORTS_TRIED):
        # Where to begin depends on the process, so that two that start at once don't choose the same one.
        port = FIRST_PORT + (os.getpid() + tried) % PORTS_TRIED
        if all(_is_free(host(FIRST_HOST, index), port) for index in (0, devices, devices + 1)):
            return port
    raise OSError(f"no port from {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1} is free on {FIRST_HOST}")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
