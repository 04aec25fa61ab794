"""Aggregator: an entity that takes readings from everywhere, and makes something of them at fixed times.

Each feeder's demand is the mean of its readings over a quarter of an hour. Whoever measures signals ``reading``, and
forgets about it. The first reading of a window makes the entity signal itself, for the window's end; then it closes the
window, keeps the last few, and starts a procedure when the mean was too high. It never ends, and its state stays small.
"""

from datetime import timedelta

import gateway.durable as df

WINDOW = timedelta(minutes=15)
KEPT = 4


@df.entity
def demand(context: df.DurableEntityContext):
    state = context.get_state(lambda: {"limit_kw": None, "readings": 0, "sum_kw": 0.0, "means_kw": []})
    match context.operation_name:
        case "limit":
            state["limit_kw"] = context.get_input()
        case "reading":
            if not state["readings"]:
                end = context.current_utc_datetime + WINDOW
                context.signal_entity(context.entity_id, "close", signal_time=end)
            state["readings"] += 1
            state["sum_kw"] += context.get_input()
        case "close":
            mean_kw = state["sum_kw"] / state["readings"]
            state.update(readings=0, sum_kw=0.0, means_kw=[*state["means_kw"], mean_kw][-KEPT:])
            if state["limit_kw"] is not None and mean_kw > state["limit_kw"]:
                context.start_new("relieve_feeder", {"feeder": context.entity_key, "mean_kw": mean_kw})
        case "get":
            context.set_result(state["means_kw"])
    context.set_state(state)


@df.activity
def shed_part(order):
    return order["feeder"]


@df.orchestrator
def relieve_feeder(context: df.DurableOrchestrationContext):
    return (yield context.call_activity(shed_part, context.get_input()))
