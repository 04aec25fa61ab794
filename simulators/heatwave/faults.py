"""What is broken on purpose in the story, and where: chosen by what the feeders carry, so that it matters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from simulators.client import SimulatorClient
from simulators.heatwave.view import number

Rows = Mapping[str, Mapping[str, object]]
SLOW_S = 1.6
WORDS = {"stuck": "stuck closed", "refuse": "refuses commands", "slow": "slow"}


@dataclass(slots=True)
class FaultPlay:
    """Feeder → words for what was done to it; and the RTU that was silent for a while, with its feeders."""

    simulator: SimulatorClient
    done: dict[str, str] = field(default_factory=dict)
    silent_rtu: str = ""
    silenced: frozenset[str] = frozenset()

    async def before_the_shed(self, tier: Rows) -> list[str]:
        """One breaker stuck, one that refuses, one slow, among those of a tier that carry load. Raises ControlError."""
        loaded = [name for name, row in sorted(tier.items()) if number(row["power_kw"] or 0.0) > 0.5]
        kinds = list(WORDS)[: max(0, len(loaded) - 1)]
        for place, kind in enumerate(kinds):
            feeder = loaded[(2 * place + 1) * len(loaded) // (2 * len(kinds))]
            await self.simulator.fault(kind, feeder, value=SLOW_S if kind == "slow" else None)
            self.done[feeder] = WORDS[kind]
        return [f"{feeder} {what}" for feeder, what in self.done.items()]

    async def before_the_return(self, opened: Rows, silent_s: float, restarted: str = "") -> list[str]:
        """One open breaker gets stuck; another RTU, that with most open breakers, falls silent; one on OPC UA restarts.

        Raises ControlError.
        """
        told = []
        free = sorted((name for name in opened if name not in self.done), key=lambda n: (str(opened[n]["tier"]), n))
        by_device = Counter(str(opened[name]["device"]) for name in free)
        if free:
            feeder = free[-1]  # of the last tier, whose large blocks come back last
            await self.simulator.fault("stuck", feeder)
            self.done[feeder] = "stuck open"
            by_device.pop(str(opened[feeder]["device"]), None)
            told.append(f"{feeder} stuck open")
        if restarted:
            by_device.pop(restarted, None)
            await self.simulator.fault("restart", restarted)
            told.append(f"{restarted} restarts, and numbers its OPC UA namespaces anew")
        if by_device and silent_s > 0:
            self.silent_rtu, count = by_device.most_common(1)[0]
            self.silenced = frozenset(n for n in opened if opened[n]["device"] == self.silent_rtu)
            await self.simulator.fault("silent", self.silent_rtu, for_s=silent_s)
            told.append(f"{self.silent_rtu} with {count} open breakers answers nothing for {silent_s:g} s")
        return told
