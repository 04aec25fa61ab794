"""duroxide on its SQLite provider. usage: python -m benchmarks.peers.duroxide_sqlite FOLDER"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Generator
from typing import Any

from duroxide import Client, Runtime, SqliteProvider

from benchmarks.peers.measuring import CITIES, measure


def main(folder: str) -> None:
    """Measure it."""
    provider = SqliteProvider.open(f"sqlite:{folder}/duroxide.db?mode=rwc")
    runtime = Runtime(provider)

    def hello(context: Any, name: str) -> str:
        return f"hello {name}"

    def three_steps(context: Any, _: Any) -> Generator[Any, Any, list[str]]:
        greetings = []
        for city in CITIES:
            greetings.append((yield context.schedule_activity("hello", city)))
        return greetings

    runtime.register_activity("hello", hello)
    runtime.register_orchestration("three_steps", three_steps)
    runtime.start()
    client = Client(provider)

    def start() -> Callable[[], object]:
        instance = uuid.uuid4().hex
        client.start_orchestration(instance, "three_steps", None)
        return lambda: client.wait_for_orchestration(instance, 60_000).output

    measure(start, "SQLite in WAL mode, synchronous=NORMAL: not safe against power loss")


if __name__ == "__main__":
    main(sys.argv[1])
