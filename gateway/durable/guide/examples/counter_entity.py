"""Entities: a counter of breaker operations, once as a function and once as a class.

An entity is addressed by name and key (``@operations@7B``), handles one operation at a time, and keeps its state between
them. As a function it looks at ``operation_name`` itself; as a class it has a method for each operation, and its attributes
are its state. An operation that raises changes nothing, and its caller gets the error.
"""

import gateway.durable as df

LIMIT = 3


@df.entity
def operations(context: df.DurableEntityContext):
    count = context.get_state(lambda: 0)
    match context.operation_name:
        case "add":
            count += context.get_input()
            context.set_state(count)
        case "reset":
            count = 0
            context.set_state(count)
        case "get":
            pass
        case unknown:
            raise ValueError(f"a counter can't {unknown}")
    context.set_result(count)


@df.entity
class Wear:
    """As above, and refuses more operations than the breaker may make before somebody looks at it."""

    def __init__(self):
        self.count = 0
        self.inspected_by = None

    def add(self, number):
        if self.count + number > LIMIT:
            raise RuntimeError(f"more than {LIMIT} operations since the last inspection")
        self.count += number
        return self.count

    def inspected(self, name):
        self.count = 0
        self.inspected_by = name

    def get(self):
        return {"count": self.count, "inspected_by": self.inspected_by}


@df.orchestrator
def count_operations(context: df.DurableOrchestrationContext):
    """Tells both of them, and asks what they say."""
    feeder = context.get_input()
    total = df.EntityId("operations", feeder)
    wear = df.EntityId("Wear", feeder)
    refused = 0
    for _ in range(LIMIT + 1):
        context.signal_entity(total, "add", 1)  # told; nobody waits for an answer
        try:
            yield context.call_entity(wear, "add", 1)  # asked; may say no
        except df.TaskFailedError:
            refused += 1
    return {
        "total": (yield context.call_entity(total, "get")),
        "since_inspection": (yield context.call_entity(wear, "get")),
        "refused": refused,
    }
