"""What the world says to a procedure, and transcripts that go on from well-known places."""

from __future__ import annotations

from typing import Any

from gateway.durable.testing import Playbook
from gateway.durable.testing.words import START_US, activity, done, entity_call, event, later, output, status, timer
from gateway.shedding.protocol import LoadSheddingProtocol

STATION = "@substation@Northgate"
SETTINGS = {
    "station": "Northgate",
    "tiers": ["Tier1", "Tier2"],
    "cooldown_s": 600.0,
    "target_pct": 95.0,
    "arm_pct": 98.0,
    "clear_pct": 95.0,
    "check_s": 60.0,
    "block_size": 2,
    "command_deadline_s": 120.0,
    "max_shed_s": 14400.0,
    "stable_for_s": 120.0,
    "stage_wait_s": 60.0,
    "abort_pct": 98.0,
    "bad_measurement": "hold",
    "config_sha256": "00",
}
NOTHING_LEFT = {"feeders": [], "kw": 0.0, "left": 0}


def load(percent: float | None) -> done:
    """What ReadLoad says: percent of 1,000 kW."""
    value = percent or 0.0
    return done({"good": percent is not None, "kw": value * 10, "percent": value, "capacity_kw": 1000.0})


def plan(*feeders: tuple[str, float], shortfall: float = 0.0, exhausted: bool = False) -> done:
    """What PlanShed says."""
    kw = sum(kw for _, kw in feeders)
    told = {"tier": "", "feeders": feeders, "kw": kw, "shortfall_kw": shortfall, "skipped": {}, "exhausted": exhausted}
    return done(told)


def stage(*feeders: tuple[str, float], left: int = 0, percent: float | None = 80.0, **more: Any) -> done:
    """What PlanRestore says."""
    value = percent or 0.0
    measured = {"good": percent is not None, "kw": value * 10, "percent": value, "capacity_kw": 1000.0}
    told = {
        "feeders": feeders,
        "kw": 2 * sum(kw for _, kw in feeders),
        "headroom_kw": 150.0,
        "left": left,
        "unresolved": 0,
        "stuck": 0,
        "wait_us": 0,
        "why": "",
        "load": measured,
    }
    return done(told | more)


def outcomes(**words: str) -> done:
    """What a mass command says."""
    return done(words)


def override(decision: str, **more: Any) -> event:
    """An operator's word."""
    return event("OperatorOverride", {"decision": decision, "actor": "m.meier", "role": "OPERATOR", **more})


def started(input_: dict[str, Any] | None = None, mode: str = "armed", **settings: Any) -> Playbook:
    """A procedure that has the station."""
    return (
        Playbook(LoadSheddingProtocol, input_ or {"reason": "loading 99.0 %"})
        << activity("ReadSettings")
        >> done(SETTINGS | settings)
        << entity_call(STATION, "claim", instance="proc-1")
        >> done({"granted": True, "reason": "", "mode": mode})
        << activity("ReadLoad")
    )


def in_cooldown(**settings: Any) -> Playbook:
    """Tier 1 is shed, the cooldown runs."""
    return (
        started(**settings)
        >> load(99.0)
        << activity("PlanShed", tier="Tier1", target_kw=40.0, exclude=[])
        >> plan(("A", 25.0), ("B", 20.0))
        << status(phase="shedding", tier="Tier1", waits_for="readback")
        << activity("SendDisconnectCommand", feeders=["A", "B"], procedure="proc-1", deadline_us=START_US + 120_000_000)
        >> outcomes(A="done", B="done")
        << status(
            phase="cooldown",
            shed_kw=45.0,
            until="2026-01-14T08:10:00.000Z",
            sentence="45 kW of Tier1 shed; waits for the load to settle until 2026-01-14T08:10:00.000Z",
        )
        << timer(600)
    )


def watching(**settings: Any) -> Playbook:
    """Tier 1 was enough; the procedure watches the load."""
    return in_cooldown(**settings) >> later(600) << activity("ReadLoad")


def restoring() -> Playbook:
    """The load was stable; the first stage is to be planned."""
    return (
        watching()
        >> load(94.0)
        << status(phase="stable", waits_for="it to stay normal", until="2026-01-14T08:12:00.000Z")
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(94.0)
        << timer(60)
        >> later(60)
        << activity("ReadLoad")
        >> load(90.0)
        << activity("PlanRestore", procedure="proc-1", exclude=[])
    )


def finish(book: Playbook, **result: Any) -> Playbook:
    """The station is told, and the output is the same."""
    return book << entity_call(STATION, "finished", instance="proc-1", result=result) >> done() << output(**result)
