"""The ready queue: operators first, then results, then the rest in order; nobody is served twice or forgotten."""

from __future__ import annotations

from gateway.durable.mailbox import Lane, Mailbox, ReadyQueue


def test_better_lanes_first_and_each_instance_once():
    queue = ReadyQueue()
    boxes = {name: Mailbox() for name in "abcd"}
    for name, lane in (("a", Lane.OTHER), ("b", Lane.OTHER), ("c", Lane.RESULT), ("d", Lane.OPERATOR)):
        queue.add(boxes[name], name, lane)
    queue.add(boxes["b"], "b", Lane.OPERATOR)
    queue.add(boxes["c"], "c", Lane.OTHER)
    served = []
    while (name := queue.pop()) is not None:
        served.append(name)
    assert served == ["d", "b", "c", "a"]
    queue.add(boxes["b"], "b", Lane.OTHER)
    assert queue.pop() == "b"
    assert queue.pop() is None
