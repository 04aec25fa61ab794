"""Retry: a call that fails is tried again by itself, with growing pauses, up to a limit.

The pauses are durable timers: if the box is off meanwhile, the next attempt comes when it is due, or at once after the
start. The first call counts as an attempt. When the last one has failed, the error arrives where the call was yielded.
"""

import gateway.durable as df

OPTIONS = df.RetryOptions(
    first_retry_interval_in_milliseconds=5_000,
    max_number_of_attempts=4,
    backoff_coefficient=2.0,  # 5 s, 10 s, 20 s
    max_retry_interval_in_milliseconds=15_000,  # … so the last pause is 15 s
)


@df.activity
def read_relay(relay):
    return 0.97


@df.activity
def last_known_value(relay):
    return 0.95


@df.orchestrator
def read_power_factor(context: df.DurableOrchestrationContext):
    relay = context.get_input()
    try:
        value = yield context.call_activity_with_retry(read_relay, OPTIONS, relay)
    except df.TaskFailedError as error:
        if not error.details.is_caused_by(OSError):  # a wrong name, say: trying again would not have helped
            raise
        value = yield context.call_activity(last_known_value, relay)
        return {"value": value, "measured": False}
    return {"value": value, "measured": True}
