"""Saga: steps that undo what came before them when a later one fails.

A busbar is fed from the other transformer. Each step that succeeded puts its opposite on a list; if one fails, the list is
worked off backwards, with retries, since half a switching is worse than none. Only then does the procedure say what went
wrong. Each undo must bear being run twice, like every activity.
"""

import gateway.durable as df

AGAIN = df.RetryOptions(first_retry_interval_in_milliseconds=1_000, max_number_of_attempts=5)


@df.activity
def close_coupler(busbar):
    """Closes the breaker between the two halves of the busbar."""


@df.activity
def open_coupler(busbar): ...


@df.activity
def open_incomer(busbar):
    """Opens the breaker of the transformer that is to be relieved."""


@df.activity
def close_incomer(busbar): ...


@df.activity
def set_relay_group(order): ...


@df.orchestrator
def feed_from_other_side(context: df.DurableOrchestrationContext):
    busbar = context.get_input()
    steps = [
        (close_coupler, open_coupler, busbar, busbar),
        (open_incomer, close_incomer, busbar, busbar),
        (set_relay_group, set_relay_group, [busbar, "coupled"], [busbar, "normal"]),
    ]
    undo = []
    for do, opposite, given, given_back in steps:
        try:
            yield context.call_activity(do, given)
        except df.TaskFailedError as error:
            for activity, argument in reversed(undo):
                yield context.call_activity_with_retry(activity, AGAIN, argument)
            return {"status": "as before", "why": error.details.message}
        undo.append((opposite, given_back))
    return {"status": "fed from the other side"}
