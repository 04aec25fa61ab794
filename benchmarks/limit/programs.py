"""The least that runs generators durably over a ``Log``: no versions, retries, checks, mailboxes, limits or queries.

A program yields what it wants (see the functions below) and is sent the outcome only once that is on disk. This is the
ceiling for orchestrations: correct while nothing goes wrong, and no more than that.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import msgspec

from benchmarks.limit.log import Log

encode = msgspec.json.Encoder().encode
Wish = tuple[Any, ...]
Program = Callable[[Any], Generator[Wish, Any, Any]]


def call(function: Callable[[Any], Any], given: object) -> Wish:
    """Call a function, once the wish is on its way."""
    return ("call", function, given)


def call_all(function: Callable[[Any], Any], given: list[Any]) -> Wish:
    """Call it for each of these, and wait for all."""
    return ("all", function, given)


def sleep_until(due_s: float) -> Wish:
    """Wait until ``time.time()`` is due_s."""
    return ("sleep", due_s)


def event() -> Wish:
    """Wait for the next event."""
    return ("event",)


@dataclass(slots=True)
class Running:
    """One live program. rows: how many it has in the log."""

    generator: Generator[Wish, Any, Any]
    ended: Callable[[Any], None]
    rows: int = 0


class Runner:
    """Runs programs. running: by their key; waiting: the keys of those that wait for an event."""

    def __init__(self, log: Log) -> None:
        self.running: dict[str, Running] = {}
        self.waiting: set[str] = set()
        self._log = log
        self._due: list[tuple[float, str]] = []
        self._alarm: asyncio.TimerHandle | None = None

    def start(self, key: str, program: Program, given: object, ended: Callable[[Any], None]) -> None:
        """Start a program; ``ended`` is called with what it returns, once that is on disk."""
        self.running[key] = Running(program(given), ended)
        self._note(
            key, {"type": "started", "program": program.__name__, "input": given}, lambda: self._go_on(key, None)
        )

    def tell(self, key: str, value: object) -> None:
        """An event for a program."""

        def told() -> None:
            self.waiting.discard(key)
            self._go_on(key, value)

        self._note(key, {"type": "event", "value": value}, told)

    def replay(self, key: str, program: Program, given: object, rows: int, ended: Callable[[Any], None]) -> None:
        """A program that waited for an event when the process before this one ended."""
        self.running[key] = Running(program(given), ended, rows)
        if next(self.running[key].generator)[0] == "event":
            self.waiting.add(key)

    def _note(self, key: str, what: dict[str, Any], told: Callable[[], None] | None) -> None:
        running = self.running[key]
        self._log.append(key, running.rows, encode(what), told)
        running.rows += 1

    def _go_on(self, key: str, value: object) -> None:
        try:
            wish = self.running[key].generator.send(value)
        except StopIteration as stop:
            result = stop.value
            self._note(key, {"type": "completed", "result": result}, lambda: self.running.pop(key).ended(result))
            return
        match wish[0]:
            case "call":
                self._call(key, wish[1], wish[2], lambda found: self._go_on(key, found))
            case "all":
                self._call_all(key, wish[1], wish[2])
            case "sleep":
                due_s = wish[1]
                self._note(key, {"type": "timer", "due": due_s}, lambda: self._set(due_s, key))
            case _:
                self._note(key, {"type": "waits"}, lambda: self.waiting.add(key))

    def _call(self, key: str, function: Callable[[Any], Any], given: object, done: Callable[[Any], None]) -> None:
        number = self.running[key].rows
        self._note(key, {"type": "scheduled", "id": number, "name": function.__name__, "input": given}, None)
        found = function(given)
        self._note(key, {"type": "done", "id": number, "result": found}, lambda: done(found))

    def _call_all(self, key: str, function: Callable[[Any], Any], given: list[Any]) -> None:
        results: list[Any] = [None] * len(given)
        left = len(given)

        def one(at: int, found: object) -> None:
            nonlocal left
            results[at] = found
            left -= 1
            if not left:
                self._go_on(key, results)

        for at, value in enumerate(given):
            self._call(key, function, value, lambda found, at=at: one(at, found))  # type: ignore[misc]

    def _set(self, due_s: float, key: str) -> None:
        heapq.heappush(self._due, (due_s, key))
        if self._due[0][1] == key:
            self._arm()

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        wait_s = max(0.0, self._due[0][0] - time.time())
        self._alarm = asyncio.get_running_loop().call_later(wait_s, self._on_time)

    def _on_time(self) -> None:
        now = time.time()
        while self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            self._note(key, {"type": "fired"}, lambda key=key: self._go_on(key, None))  # type: ignore[misc]
        if self._due:
            self._arm()
