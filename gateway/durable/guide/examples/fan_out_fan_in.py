"""Fan-out and fan-in: many steps side by side, then one that needs all their results.

Calls run from when they are made; ``task_all`` waits for all of them and gives their results in the order of the calls,
whichever ended first. If one fails, it raises once all have ended, so that no reading is still under way.
"""

import gateway.durable as df


@df.activity
def list_feeders(busbar):
    return [f"{busbar}-{number}" for number in (1, 2, 3)]


@df.activity
def read_load_kw(feeder):
    return {"B1-1": 120.0, "B1-2": 80.5, "B1-3": 40.0}[feeder]


@df.orchestrator
def survey_busbar(context: df.DurableOrchestrationContext):
    feeders = yield context.call_activity(list_feeders, context.get_input())
    readings = yield context.task_all([context.call_activity(read_load_kw, feeder) for feeder in feeders])
    loads = dict(zip(feeders, readings, strict=True))
    return {"total_kw": sum(readings), "heaviest": max(loads, key=loads.get)}
