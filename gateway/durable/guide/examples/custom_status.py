"""Custom status: what a procedure is doing, for those who look at it meanwhile.

Any JSON of at most 16 KB. It is on disk with the step that set it, so nobody ever sees a status of something that a crash
took back. Set it before a wait: that is when people look.
"""

from datetime import timedelta

import gateway.durable as df


@df.activity
def close_feeder(feeder):
    """Closes the breaker and reads its position back."""


@df.orchestrator
def restore_in_stages(context: df.DurableOrchestrationContext):
    feeders = context.get_input()
    for closed, feeder in enumerate(feeders):
        until = context.current_utc_datetime + timedelta(minutes=2)
        context.set_custom_status(
            {"closed": closed, "of": len(feeders), "next": feeder, "at": until.isoformat(timespec="minutes")}
        )
        yield context.create_timer(until)  # cold load: each feeder needs its time
        yield context.call_activity(close_feeder, feeder)
    context.set_custom_status({"closed": len(feeders), "of": len(feeders)})
    return "restored"
