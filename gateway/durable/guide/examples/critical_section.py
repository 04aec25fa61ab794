"""Critical section: several entities belong to one procedure for a while.

Load is moved from one feeder to another. From asking the second how much it can take until both are told, nobody else may
change them: so both are locked, and stay so while the switch between them moves. Locks are taken in the order of the ids,
whoever asks, so that no two procedures can wait for each other; they are given back at the end of the block, or when the
procedure ends, however it ends. What others ask of a locked entity waits, in order.
"""

import gateway.durable as df


@df.entity
def feeder(context: df.DurableEntityContext):
    state = context.get_state(lambda: {"kw": 0.0, "limit_kw": 100.0})
    match context.operation_name:
        case "room":
            context.set_result(state["limit_kw"] - state["kw"])
        case "add":
            state["kw"] += context.get_input()
            if not 0.0 <= state["kw"] <= state["limit_kw"]:
                raise ValueError(f"{context.entity_key} would carry {state['kw']} kW")
            context.set_state(state)
            context.set_result(state["kw"])
        case "get":
            context.set_result(state["kw"])


@df.activity
def operate_tie_switch(order):
    """Closes the switch between the two, and opens the one behind the part that moves over."""


@df.orchestrator
def transfer_load(context: df.DurableOrchestrationContext):
    order = context.get_input()  # {"from", "to", "kw"}
    source, target = df.EntityId("feeder", order["from"]), df.EntityId("feeder", order["to"])
    with (yield context.lock_entities([source, target])):
        room_kw = yield context.call_entity(target, "room")
        moved_kw = min(order["kw"], room_kw)
        yield context.call_activity(operate_tie_switch, {**order, "kw": moved_kw})
        yield context.call_entity(source, "add", -moved_kw)
        yield context.call_entity(target, "add", moved_kw)
    return moved_kw
