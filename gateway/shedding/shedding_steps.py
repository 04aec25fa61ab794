"""The steps that shed: how much, of which tiers, block by block; and the watch over the load until it stays normal.

What must stay true: a tier is begun only once those before it have given all they can; what failed is replaced from the
same tier; a feeder to which nothing could be sent has not failed; after a hold the load is measured before anything more
is opened. A crash here: replay.
"""

from __future__ import annotations

import msgspec

from gateway.durable.codec import Json
from gateway.shedding.conduct import Step
from gateway.shedding.measuring import Load, ShedPlan
from gateway.shedding.override import Decision
from gateway.shedding.procedure import Outdated, Procedure
from gateway.shedding.status import feeders

MAX_REPLACEMENTS = 5
"""Rounds of replacing failed feeders within one step; what is missing then is a shortfall, until the next step."""


def only_monitor(run: Procedure) -> Step[Json]:
    """Say what would be done; nothing is written to the field."""
    load = yield from run.measure()
    needed_kw = amount_kw(run, load)
    would: list[dict[str, object]] = []
    for tier in run.tiers:
        plan = yield from plan_tier(run, tier, needed_kw, set())
        would.append({"tier": tier, "feeders": len(plan.feeders), "kw": round(plan.kw, 1), "skipped": plan.skipped})
        if needed_kw is not None:
            needed_kw = plan.shortfall_kw
            if needed_kw <= 0:
                break
    run.figures.shortfall_kw = needed_kw or 0.0
    run.conductor.say("monitor", "mode monitor: this is what would be shed; nothing was written")
    return {**run.summary("monitored", "mode monitor"), "would_shed": would}


def shed(run: Procedure, load: Load) -> Step[Load]:
    """One tier's worth after the other, a cooldown after each, while there is stress; the load at the end."""
    while True:
        run.turn_page()
        needed_kw = amount_kw(run, load)
        if needed_kw is not None and needed_kw <= 0:
            run.figures.shortfall_kw = 0.0
            return load
        run.outdated = False
        try:
            opened_kw = yield from shed_step(run, needed_kw)
        except Outdated:
            load = yield from run.measure()
            continue
        if opened_kw <= 0:
            run.figures.shortfall_kw = needed_kw or 0.0
            return load
        tier = run.figures.tier
        yield from run.conductor.wait(
            run.settings.cooldown_s, "cooldown", f"{opened_kw:.0f} kW of {tier} shed", "the load to settle"
        )
        load = yield from run.measure()


def shed_step(run: Procedure, needed_kw: float | None) -> Step[float]:
    """What is left of the tiers that were begun, and at most one more tier; the load that was opened.

    Without the leftovers a tier whose loads come and go (chargers, pumps) would be begun again and again, a cooldown
    each time, while the next tier is needed.
    """
    opened_kw = 0.0
    gave = run.figures.tier
    for number, tier in enumerate(run.tiers, start=1):
        missing_kw = None if needed_kw is None else needed_kw - opened_kw
        if missing_kw is not None and missing_kw <= 0:
            break
        got_kw = yield from shed_tier(run, tier, missing_kw)
        opened_kw += got_kw
        gave = tier if got_kw > 0 else gave
        if got_kw > 0 and number > run.state.tiers_begun:
            run.state.tiers_begun = number
            break
    run.figures.tier = gave
    return opened_kw


def shed_tier(run: Procedure, tier: str, needed_kw: float | None) -> Step[float]:
    """Open what is needed of one tier, and replace what failed from the same tier; the load that was opened."""
    run.figures.tier = tier
    run.figures.target_kw = run.figures.shed_kw + (needed_kw or 0.0)
    opened_kw = 0.0
    missing_kw = needed_kw
    left_out: set[str] = set()
    for _ in range(1 + MAX_REPLACEMENTS):
        plan = yield from plan_tier(run, tier, missing_kw, left_out)
        if run.outdated and plan.feeders:
            raise Outdated
        failed_kw = 0.0
        for begin in range(0, len(plan.feeders), run.settings.block_size):
            if run.outdated:
                raise Outdated
            block = dict(plan.feeders[begin : begin + run.settings.block_size])
            run.conductor.say(
                "shedding", f"opens {begin + len(block)} of {feeders(len(plan.feeders))} of {tier}", "readback"
            )
            opened = yield from open_block(run, block, left_out)
            opened_kw += opened
            failed_kw += sum(block.values()) - opened
        run.figures.shortfall_kw = plan.shortfall_kw + failed_kw
        if failed_kw <= 0 or needed_kw is None:
            break
        missing_kw = failed_kw
    return opened_kw


def open_block(run: Procedure, block: dict[str, float], left_out: set[str]) -> Step[float]:
    """Open these feeders (kW each); what did not open is left out of this step, and what failed of all others.

    A feeder to which nothing could be sent has not failed: the next step may take it.
    """
    outcomes = yield from run.command("SendDisconnectCommand", list(block))
    opened = [name for name, outcome in outcomes.items() if outcome == "done"]
    left_out.update(name for name in outcomes if name not in opened)
    run.state.tried.extend(name for name, outcome in outcomes.items() if outcome in ("failed", "unknown"))
    kw = sum(block[name] for name in opened)
    run.book(len(opened), 0, kw)
    run.outdated = yield from run.conductor.settle()
    return kw


def watch(run: Procedure, load: Load) -> Step[None]:
    """Wait until the load was normal for long enough, or for the end of an order; shed again on new stress."""
    while not run.overdue:
        run.turn_page()
        if stable(run, load) or (yield from wait_and_watch(run, load)):
            return
        load = yield from run.measure()
        if not run.order.by_person and load.percent >= run.settings.arm_pct:
            run.state.calm_since_us = 0
            load = yield from shed(run, load)


def stable(run: Procedure, load: Load) -> bool:
    """Keep the time since when the load is normal; True once that was long enough. An order is never just over."""
    if load.percent > run.settings.clear_pct:
        run.state.calm_since_us = 0
    elif not run.state.calm_since_us:
        run.state.calm_since_us = run.conductor.now_us
    calm_since_us = run.state.calm_since_us
    return not run.order.by_person and calm_since_us > 0 and run.conductor.now_us >= run.calm_until_us


def wait_and_watch(run: Procedure, load: Load) -> Step[bool]:
    """Wait for the next look and say what for; True when an operator ended the watch by a skip."""
    loading = f"loading is {load.percent:.1f} %"
    if run.order.by_person:
        return (
            yield from run.wait_check(
                "ordered", "the ordered load is off", Decision.CANCEL_AND_RESTORE.value, run.latest_us
            )
        )
    if load.percent >= run.settings.arm_pct:
        return (yield from run.wait_check("stressed", f"{loading}; all that may be shed is shed", "it to fall"))
    if run.state.calm_since_us:
        return (yield from run.wait_check("stable", loading, "it to stay normal", run.calm_until_us))
    return (yield from run.wait_check("watching", loading, f"it to fall to {run.settings.clear_pct:g} %"))


def amount_kw(run: Procedure, load: Load) -> float | None:
    """What is to be shed now; None means: whole tiers, whatever the load."""
    if run.order.target_kw is not None:
        return run.order.target_kw - run.figures.shed_kw
    if run.order.tiers is not None:
        return None
    if load.percent <= run.settings.clear_pct:
        return 0.0
    return load.kw - load.capacity_kw * run.settings.target_pct / 100


def plan_tier(run: Procedure, tier: str, needed_kw: float | None, left_out: set[str]) -> Step[ShedPlan]:
    """What to open of this tier."""
    order = {
        "tier": tier,
        "target_kw": needed_kw,
        "exclude": sorted({*run.state.tried, *run.conductor.excluded, *left_out}),
        "last_resort": run.order.last_resort,
    }
    told = yield from run.conductor.run("PlanShed", order)
    run.outdated = (yield from run.conductor.settle()) or run.outdated
    return msgspec.convert(told, ShedPlan)
