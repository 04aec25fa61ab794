"""Monitor: look, wait, look again.

``watch_until_cool`` has an end, and looks a few dozen times at most: a ``while`` with a timer says it plainly, and all of
it stays in one history. ``watch_for_ever`` has none: it starts over with ``continue_as_new`` after each round, so that its
history stays short, and hands what it must remember to the next round as input. Events that nobody had asked for yet are
kept over that.
"""

from datetime import datetime, timedelta

import gateway.durable as df

EVERY = timedelta(minutes=10)


@df.activity
def read_oil_temperature(transformer):
    return 61.0


@df.activity
def raise_alarm(text):
    """Writes the alarm on the operators' screen."""


@df.orchestrator
def watch_until_cool(context: df.DurableOrchestrationContext):
    order = context.get_input()  # {"transformer", "below_c", "until": a time}
    until = datetime.fromisoformat(order["until"])
    while context.current_utc_datetime < until:
        temperature = yield context.call_activity(read_oil_temperature, order["transformer"])
        if temperature < order["below_c"]:
            return {"cool": True, "at": context.current_utc_datetime.isoformat()}
        yield context.create_timer(context.current_utc_datetime + EVERY)
    yield context.call_activity(raise_alarm, f"{order['transformer']} is still too hot")
    return {"cool": False}


@df.orchestrator
def watch_for_ever(context: df.DurableOrchestrationContext):
    seen = context.get_input()  # {"transformer", "alarm_c", "rounds", "highest_c"}
    temperature = yield context.call_activity(read_oil_temperature, seen["transformer"])
    if temperature >= seen["alarm_c"]:
        yield context.call_activity(raise_alarm, f"{seen['transformer']}: oil at {temperature} °C")
    highest = max(temperature, seen["highest_c"])
    context.set_custom_status({"rounds": seen["rounds"] + 1, "highest_c": highest})
    stop = context.wait_for_external_event("Stop", timeout=EVERY)
    yield stop
    if not stop.timed_out:
        return {"rounds": seen["rounds"] + 1, "highest_c": highest}
    context.continue_as_new({**seen, "rounds": seen["rounds"] + 1, "highest_c": highest})
