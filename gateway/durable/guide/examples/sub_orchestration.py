"""Sub-orchestrations: a procedure made of procedures.

Each busbar is relieved by an orchestration of its own: with a history, a status and an id of its own (that of its parent, a
colon and the number of the step), which can be looked at by itself. To the parent it is a task like any other; if it fails,
the parent sees the reason.
"""

import gateway.durable as df


@df.activity
def open_feeder(feeder):
    return {"B1-1": 120.0, "B1-2": 80.0, "B2-1": 60.0}[feeder]


@df.orchestrator
def relieve_busbar(context: df.DurableOrchestrationContext):
    order = context.get_input()  # {"feeders", "kw"}
    relieved_kw = 0.0
    for feeder in order["feeders"]:
        if relieved_kw >= order["kw"]:
            break
        relieved_kw += yield context.call_activity(open_feeder, feeder)
    if relieved_kw < order["kw"]:
        raise RuntimeError(f"only {relieved_kw} of {order['kw']} kW")
    return relieved_kw


@df.orchestrator
def relieve_station(context: df.DurableOrchestrationContext):
    tasks = {
        busbar: context.call_sub_orchestrator(relieve_busbar, order)
        for busbar, order in sorted(context.get_input().items())
    }
    outcome = {}
    for busbar, task in tasks.items():
        try:
            outcome[busbar] = yield task
        except df.TaskFailedError as error:
            outcome[busbar] = error.details.message
    return outcome
