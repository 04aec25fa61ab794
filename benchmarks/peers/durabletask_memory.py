"""Microsoft's durabletask on its in-memory backend: nothing is durable.

usage: python -m benchmarks.peers.durabletask_memory
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator
from typing import Any

from durabletask.client import TaskHubGrpcClient
from durabletask.testing import create_test_backend
from durabletask.worker import TaskHubGrpcWorker

from benchmarks.peers.measuring import CITIES, measure

PORT = 25_090


def hello(context: Any, name: str) -> str:
    """The smallest activity."""
    return f"hello {name}"


def three_steps(context: Any, _: Any) -> Generator[Any, Any, list[str]]:
    """Three activities, one after the other."""
    greetings = []
    for city in CITIES:
        greetings.append((yield context.call_activity(hello, input=city)))
    return greetings


def main() -> None:
    """Measure it."""
    create_test_backend(port=PORT)
    address = f"localhost:{PORT}"
    worker = TaskHubGrpcWorker(host_address=address)
    logging.disable(logging.WARNING)
    worker.add_activity(hello)
    worker.add_orchestrator(three_steps)
    worker.start()
    client = TaskHubGrpcClient(host_address=address)

    def start() -> Callable[[], object]:
        instance = client.schedule_new_orchestration(three_steps)

        def wait() -> object:
            state = client.wait_for_orchestration_completion(instance, timeout=60)
            return json.loads(state.serialized_output) if state is not None and state.serialized_output else None

        return wait

    measure(start, "none: in memory")


if __name__ == "__main__":
    main()
