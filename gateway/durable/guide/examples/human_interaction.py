"""Human interaction: several people must say yes, and one clock runs over all of them.

A switching order needs the dispatcher's word, then the crew's on site. They have one hour together, not one hour each: so
one timer is made before the first wait, and races with each of them. Whoever wins, the timer is cancelled at the end: an
orchestration with a timer that nobody wants would only be longer in memory.
"""

from datetime import timedelta

import gateway.durable as df

PEOPLE = ("DispatcherAgrees", "CrewAgrees")


@df.activity
def ask_for_word(who):
    """Sends a message to whoever has to say something."""


@df.activity
def operate(order):
    return f"{order['feeder']} {order['target']}"


@df.orchestrator
def approve_switching(context: df.DurableOrchestrationContext):
    order = context.get_input()
    deadline = context.create_timer(context.current_utc_datetime + timedelta(hours=1))
    names = []
    for person in PEOPLE:
        yield context.call_activity(ask_for_word, person)
        word = context.wait_for_external_event(person)
        winner = yield context.task_any([word, deadline])
        if winner is deadline:
            return {"status": "lapsed", "agreed": names, "missing": person}
        if not word.result["agrees"]:
            deadline.cancel()
            return {"status": "refused", "by": word.result["name"]}
        names.append(word.result["name"])
    deadline.cancel()
    outcome = yield context.call_activity(operate, order)
    return {"status": "done", "outcome": outcome, "agreed": names}
