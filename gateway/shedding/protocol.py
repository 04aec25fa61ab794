"""The load-shedding procedure, as an operator would read it from a sheet.

1. Claim the substation; in mode monitor say what would be shed, and end.
2. **Shed** (``shedding_steps.py``). While the load is too high (or the order is not met): of the first tier that has
   anything to give, open what is needed, block by block; replace what failed by the next feeders of the same tier; wait
   the cooldown; measure.
3. **Watch** until the load was normal for long enough. If stress comes back, go to 2.
4. **Restore** (``restoring_steps.py``) in stages, smallest blocks first, each gated on measured headroom; if the load
   comes near the limit after a stage, open that stage again and go to 3.

An order by a person (``target_kw`` or ``tiers``) is kept until they say cancel-and-restore, or until ``max_shed_s``.
After cancel-and-restore this procedure sheds nothing more but a stage that it has just closed, whatever the load.
After ``max_shed_s`` restoration begins without waiting for a stable load, still gated on headroom.

What must stay true: no step relies on a measurement that is not good; every wait says what it waits for; an operator's
word is heard in every step (``conduct.py``). What is shed is known to the breaker entities, not to this orchestration:
if it should be terminated, nothing is forgotten. A crash here: replay; the settings are part of the history, so a
changed configuration does not change a procedure that runs.
"""

from __future__ import annotations

import msgspec

from gateway.durable.codec import Json
from gateway.durable.context import DurableOrchestrationContext
from gateway.durable.errors import TaskFailedError
from gateway.durable.identity import EntityId
from gateway.shedding.conduct import RestoreNow, Step, Stopped
from gateway.shedding.procedure import Order, Procedure, StartOver
from gateway.shedding.restoring_steps import restore
from gateway.shedding.settings import ProcedureSettings
from gateway.shedding.shedding_steps import only_monitor, shed, watch
from gateway.shedding.substation import RESTORED


def LoadSheddingProtocol(context: DurableOrchestrationContext) -> Step[Json]:
    """The orchestrator; see above."""
    order = msgspec.convert(context.get_input() or {}, Order)
    read = context.call_activity("ReadSettings")
    yield read
    settings = msgspec.convert(read.result, ProcedureSettings)
    station = EntityId("substation", settings.station)
    claim = context.call_entity(station, "claim", {"instance": context.instance_id})
    yield claim
    if not claim.result["granted"]:
        return {"status": "refused", "reason": claim.result["reason"]}
    procedure = Procedure(context, order, settings, station)
    try:
        # One that goes on with a new history has breakers to give back, whatever the mode is by now.
        if claim.result["mode"] == "monitor" and order.carried is None:
            result = yield from only_monitor(procedure)
        else:
            result = yield from carry_out(procedure)
    except StartOver:
        context.continue_as_new(msgspec.to_builtins(procedure.start_over()))
        return None
    except TaskFailedError as error:
        yield context.call_entity(station, "finished", procedure.finish("failed", str(error)))
        raise
    yield context.call_entity(station, "finished", {"instance": context.instance_id, "result": result})
    return result


def carry_out(run: Procedure) -> Step[Json]:
    """Shed, watch, restore; the result."""
    try:
        while True:
            try:
                if not run.state.restoring:
                    load = yield from run.measure()
                    load = yield from shed(run, load)
                    yield from watch(run, load)
            except RestoreNow:
                run.state.calm_since_us = 0
                run.state.given_back = True
            run.state.restoring = True
            run.state.tiers_begun = 0
            try:
                if (yield from restore(run)):
                    break
                if run.state.given_back:
                    yield from run.wait_check("restoring", "near the limit; as ordered, no more is shed", "room")
            except RestoreNow:
                run.state.given_back = True
            run.state.restoring = run.state.given_back
    except Stopped as stop:
        return run.summary(stop.status, stop.reason)
    return run.summary("incomplete" if run.not_closed else RESTORED, run.order.reason)
