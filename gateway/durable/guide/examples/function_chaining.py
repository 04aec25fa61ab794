"""Function chaining: steps one after the other, each with the result of the one before.

A feeder is made safe for people to work on. No step may be left out, and none may begin before the one before it has ended:
an orchestrator that yields them one by one says just that.
"""

import gateway.durable as df


@df.activity
def open_breaker(feeder):
    return {"feeder": feeder, "position": "open"}


@df.activity
def prove_dead(found):
    """Measures that no voltage is left; refuses for a feeder that is not open."""
    if found["position"] != "open":
        raise ValueError(f"{found['feeder']} is not open")
    return {**found, "volts": 0}


@df.activity
def close_earthing_switch(found):
    return {**found, "earthed": True}


@df.activity
def hang_tag(found):
    return f"{found['feeder']}: open, {found['volts']} V, earthed"


@df.orchestrator
def isolate_feeder(context: df.DurableOrchestrationContext):
    opened = yield context.call_activity(open_breaker, context.get_input())
    dead = yield context.call_activity(prove_dead, opened)
    earthed = yield context.call_activity(close_earthing_switch, dead)
    return (yield context.call_activity(hang_tag, earthed))
