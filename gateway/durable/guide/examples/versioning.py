"""Versions: changing a procedure while instances of it run.

An instance keeps the version that it was started with, over every restart and upgrade of the software. There are two ways
to bring a new version. Small changes: one function that branches by ``context.version``. Large ones: a function for each
version under one name, side by side; a start without a version takes the highest. Take an old one out once no instance of
it runs any more.
"""

import gateway.durable as df


@df.activity
def shed(tier):
    return 200.0


@df.activity
def tell_dispatcher(kw):
    """Sends the dispatcher a message."""


@df.orchestrator(name="relieve", version="1")
def relieve_1(context: df.DurableOrchestrationContext):
    return (yield context.call_activity(shed, "tier1"))


@df.orchestrator(name="relieve", version="2")
def relieve_2(context: df.DurableOrchestrationContext):
    """As version 1, but the dispatcher is told."""
    relieved_kw = yield context.call_activity(shed, "tier1")
    yield context.call_activity(tell_dispatcher, relieved_kw)
    return relieved_kw


@df.orchestrator
def relieve_and_restore(context: df.DurableOrchestrationContext):
    """One function for both: those that were started before the dispatcher was to be told go on without."""
    relieved_kw = yield context.call_activity(shed, "tier1")
    if context.version != "1":
        yield context.call_activity(tell_dispatcher, relieved_kw)
    return {"kw": relieved_kw, "version": context.version}
