"""Procedures of the crash tests' site: operate everything, and collect events."""


def OperateAll(context):
    """Open all feeders of the tiers, and close them again; the outcomes that were not ``done``."""
    odd = []
    for activity in ("SendDisconnectCommand", "SendReconnectCommand"):
        for block in context.get_input()["blocks"]:
            outcomes = yield context.call_activity(activity, {"feeders": block, "deadline_s": 3000})
            odd += [[activity, name, word] for name, word in outcomes.items() if word != "done"]
            context.set_custom_status({"activity": activity, "odd": len(odd)})
    return odd


def CollectEvents(context):
    """Take events until one says stop; their numbers in the order of arrival."""
    seen = []
    while True:
        event = yield context.wait_for_external_event("Number")
        if event["number"] < 0:
            return seen
        seen.append(event["number"])
