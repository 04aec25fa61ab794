"""A site's own procedure, as somebody who knows durable functions writes it on the first day."""

from datetime import timedelta


def GridEmergencyProtocol(context):
    grid = context.get_input()  # noqa: F841 - as such procedures are found
    yield context.call_activity("SendDisconnectCommand", "Tier1")
    yield context.create_timer(context.current_utc_datetime + timedelta(minutes=5))
    override = yield context.wait_for_external_event("OperatorOverride", timeout=300)
    if override and override.get("cancel"):
        return {"status": "aborted"}
    yield context.call_activity("SendReconnectCommand", "Tier1")
    return {"status": "recovered"}
