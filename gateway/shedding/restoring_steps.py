"""The steps that restore: stage after stage, each planned on a fresh measurement and watched while the load settles.

What must stay true: nothing is closed without a good measurement; a stage after which the load comes near the limit is
opened again at once; what can't be closed is left to people, by name. A crash here: replay.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from gateway.shedding.conduct import Step
from gateway.shedding.measuring import TROUBLED_AT_MOST, RestorePlan
from gateway.shedding.procedure import Procedure
from gateway.shedding.status import feeders

MAX_CLOSE_TRIES = 3
"""Attempts at closing one feeder; then a person has to see to it. Two failed closes lock a breaker out anyway."""
MAX_ROUNDS_FOR_UNRESOLVED = 30
"""Checks in a row for which restoration waits for breakers whose position can't be learnt, and nothing else is left."""


def restore(run: Procedure) -> Step[bool]:
    """Close stage by stage; False when the load came near the limit and the last stage was opened again."""
    conductor = run.conductor
    while True:
        run.turn_page()
        run.rounds += 1
        tries = Counter(run.state.unclosed)
        given_up = sorted(name for name, failed in tries.items() if failed >= MAX_CLOSE_TRIES)
        order = {
            "procedure": run.context.instance_id,
            "exclude": sorted({*given_up, *conductor.kept_open}),
        }
        told = yield from conductor.run("PlanRestore", order)
        plan = msgspec.convert(told, RestorePlan)
        if (yield from conductor.settle()):
            continue  # held meanwhile: neither the load nor the headroom is known any more
        if not plan.load.good:
            yield from run.measure()
            continue
        run.figures.load_pct = plan.load.percent
        run.state.left_off = plan.troubled
        if not plan.feeders and not plan.left:
            if len(plan.troubled) < TROUBLED_AT_MOST:  # all that are still off are named: the others have closed late
                run.state.unclosed = [name for name in run.state.unclosed if name in plan.troubled]
            return True
        if not plan.feeders and plan.left == plan.unresolved:
            run.state.unresolved_rounds += 1
            if run.state.unresolved_rounds > MAX_ROUNDS_FOR_UNRESOLVED:
                return True
        else:
            run.state.unresolved_rounds = 0
        if plan.load.percent >= run.settings.abort_pct and not run.overdue:
            run.state.calm_since_us = 0
            return False
        if plan.feeders:
            if not (yield from close_stage(run, plan)):
                return False
        else:
            why = plan.why or f"{plan.unresolved} breakers are not readable"
            yield from run.wait_check("restoring", f"{feeders(plan.left)} still off", why)


def close_stage(run: Procedure, plan: RestorePlan) -> Step[bool]:
    """Close one stage and look at the load while it settles; False when it had to be opened again."""
    conductor, settings = run.conductor, run.settings
    stage = dict(plan.feeders)
    conductor.say(
        "restoring", f"closes {feeders(len(stage))}, about {plan.kw:.0f} kW of {plan.headroom_kw:.0f} kW headroom"
    )
    outcomes = yield from run.command("SendReconnectCommand", list(stage))
    closed = [name for name, outcome in outcomes.items() if outcome == "done"]
    back = set(closed)
    run.state.unclosed = [name for name in run.state.unclosed if name not in back]
    # What could not be sent, or not in time, was no attempt.
    run.state.unclosed += [name for name, word in outcomes.items() if word in ("failed", "refused", "unknown")]
    run.book(0, len(closed), -sum(stage[name] for name in closed))
    yield from conductor.settle()
    end_us = conductor.now_us + int(settings.stage_wait_s * 1e6)
    while conductor.now_us < end_us:
        pause_s = min(settings.check_s, (end_us - conductor.now_us) / 1e6)
        sentence = f"{feeders(len(closed))} closed, {plan.left} still off"
        if (yield from conductor.wait(pause_s, "restoring", sentence, "the load to settle", end_us)):
            return True
        load = yield from run.measure()
        if load.percent >= settings.abort_pct and closed:
            conductor.say("restoring", f"loading is {load.percent:.1f} %: opens the last stage again", "readback")
            outcomes = yield from run.command("SendDisconnectCommand", closed)
            again = [name for name, outcome in outcomes.items() if outcome == "done"]
            run.book(len(again), 0, sum(stage[name] for name in again))
            run.state.calm_since_us = 0
            yield from conductor.settle()
            return False
    return True
