"""Procedures of the crash tests' site: operate everything in turns, and collect events."""


def OperateAll(context):
    """Open all feeders of the tiers, close them again, so many times; the outcomes that were not ``done``."""
    order = context.get_input()
    odd = []
    for cycle in range(order["cycles"]):
        for activity in ("SendDisconnectCommand", "SendReconnectCommand"):
            for block in order["blocks"]:
                outcomes = yield context.call_activity(activity, {"feeders": block, "deadline_s": 3000})
                odd += [[cycle, activity, name, word] for name, word in outcomes.items() if word != "done"]
                context.set_custom_status({"cycle": cycle, "activity": activity, "odd": len(odd)})
    return odd


def CollectEvents(context):
    """Take events until one says stop; their numbers in the order of arrival."""
    seen = []
    while True:
        event = yield context.wait_for_external_event("Number")
        if event["number"] < 0:
            return seen
        seen.append(event["number"])
