"""Objects as arguments: a class says itself how it is written as JSON, and how it is made again.

Whatever goes in or out of an orchestrator, an activity or an entity is JSON in the journal. A class at the top of a module
that has ``to_json`` and ``from_json`` may be passed as it is: both sides get an object, each its own. What these two
methods give and take must stay readable as long as an instance that was started with it may run.
"""

import gateway.durable as df


class SwitchingOrder:
    """Which feeders to bring into which position, in this order."""

    def __init__(self, target, feeders):
        self.target = target
        self.feeders = list(feeders)

    def without(self, feeder):
        return SwitchingOrder(self.target, [f for f in self.feeders if f != feeder])

    @staticmethod
    def to_json(order):
        return {"target": order.target, "feeders": order.feeders}

    @staticmethod
    def from_json(data):
        return SwitchingOrder(data["target"], data["feeders"])


@df.activity
def strike_out_critical(order):
    """Gets an order and gives one: the hospital is never switched by a procedure."""
    return order.without("hospital")


@df.orchestrator
def plan_switching(context: df.DurableOrchestrationContext):
    order = context.get_input()
    allowed = yield context.call_activity(strike_out_critical, order)
    assert isinstance(allowed, SwitchingOrder)
    return {
        "target": allowed.target,
        "feeders": allowed.feeders,
        "struck_out": len(order.feeders) - len(allowed.feeders),
    }
