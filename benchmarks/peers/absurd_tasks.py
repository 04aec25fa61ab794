"""absurd on PostgreSQL, and unhinged, which is the same engine on SQLite: one client, a worker that polls.

PostgreSQL is Debian's: a cluster of its own in the folder, with its defaults (``fsync``, ``synchronous_commit`` on), on a
Unix socket alone, as a user who is not root. The client polls for the result each 2 ms, so that its own wait is not what is
measured. Neither has entities nor a fan-out.

usage: python -m benchmarks.peers.absurd_tasks FOLDER [CASE ...]  (ABSURD=unhinged: that on SQLite)
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers.measuring import (
    AHEAD_S,
    CITIES,
    EVENTS,
    HUNDRED,
    IN_SEQUENCE,
    PATIENCE_S,
    THOUSAND,
    TIMERS,
    Done,
    leave,
    measure,
    running,
    windowed,
)

QUEUE = "bench"
POLL_S = 0.01
"""Of the worker (absurd's default is 250 ms, unhinged's examples take 10 ms)."""
ASK_S = 0.002
CONCURRENCY = 8


def three_steps(params: Any, context: Any) -> list[str]:
    """Three steps, one after the other."""
    return [context.step(city, lambda name=city: f"hello {name}") for city in CITIES]


def sleeps(params: Any, context: Any) -> float:
    """Wait until a time; how late it is."""
    context.sleep_until("due", params)
    return time.time() - float(params)


def waits(params: Any, context: Any) -> float:
    """Wait for an event; when it came."""
    context.await_event(params)
    return time.time()


class Load:
    """The cases, as a client asks for them. A connection of its own: the worker's threads have others."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def start(self, name: str = "three_steps", value: object = None) -> Callable[[], Any]:
        """Begin a task; what waits for its output."""
        task = self._client.spawn(name, value, queue=QUEUE)["task_id"]

        def wait() -> Any:
            until = time.monotonic() + PATIENCE_S
            while (found := self._client.fetch_task_result(task, QUEUE)) is None or found.state != "completed":
                assert time.monotonic() < until, f"a task was not done in {PATIENCE_S:g} s"
                time.sleep(ASK_S)
            return found.result

        return wait

    def events(self) -> Done:
        """One at a time, until the task goes on."""
        latencies = []
        for _ in range(EVENTS):
            name = uuid.uuid4().hex
            wait = self.start("waits", name)
            time.sleep(0.1)  # until it waits: nobody tells
            asked_s = time.time()
            self._client.emit_event(name, 1, QUEUE)
            latencies.append(wait() - asked_s)
        return Done(EVENTS, latencies)

    def timers(self) -> Done:
        """All due at one instant."""
        due_s = time.time() + AHEAD_S
        waiting = [self.start("sleeps", due_s) for _ in range(TIMERS)]
        assert time.time() < due_s, "the timers were not set in time"
        return Done(TIMERS, [wait() for wait in waiting])


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own; the address of its database. Raises SystemExit with what is missing."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    tool = found[-1] if found else Path(shutil.which("initdb") or "")
    if not tool.is_file():
        raise SystemExit("no PostgreSQL here (Debian: apt install postgresql)")
    user = next((one.pw_name for one in pwd.getpwall() if one.pw_name in ("postgres", "nobody")), "nobody")
    apart: str | None = user if os.geteuid() == 0 else None  # it refuses to run as root
    place = folder / "postgresql"
    place.mkdir()
    if apart is not None:
        folder.chmod(0o711)
        shutil.chown(place, apart)
    owner = user if apart else pwd.getpwuid(os.geteuid()).pw_name
    making = [str(tool), "-D", str(place / "data"), "--auth=trust", "--locale=C", "--encoding=UTF8", "-U", owner]
    subprocess.run(making, user=apart, cwd=place, stdout=subprocess.DEVNULL, check=True)
    command = [str(tool.with_name("postgres")), "-D", str(place / "data"), "-k", str(place), "-c", "listen_addresses="]
    with running(command, user=apart, stop=signal.SIGINT):  # which ends it without waiting for its clients
        address = f"postgresql:///postgres?host={place}&user={owner}"
        ask = [str(tool.with_name("psql")), "-q", address, "-c", "SELECT 1"]
        for _ in range(150):
            if subprocess.run(ask, capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.2)
        else:
            raise SystemExit("PostgreSQL was not ready after 30 s")
        yield address


def absurd(address: str) -> Callable[[], Any]:
    """What makes clients of absurd, once its schema is there."""
    from absurd_sdk import Absurd

    tool = Path(sys.executable).with_name("absurdctl")
    subprocess.run([str(tool), "init", "-d", address], stdout=subprocess.DEVNULL, check=True)
    return lambda: Absurd(address, queue_name=QUEUE)


def unhinged(folder: Path) -> Callable[[], Any]:
    """What makes clients of unhinged."""
    from unhinged import Unhinged

    return lambda: Unhinged(str(folder / "unhinged.db"), queue_name=QUEUE)


async def run(client: Callable[[], Any], folder: Path, number: str, durability: str) -> None:
    """Measure it."""
    worker = client()
    worker.create_queue(QUEUE)
    for handler in (three_steps, sleeps, waits):
        worker.register_task(handler.__name__)(handler)
    options = {"concurrency": CONCURRENCY, "poll_interval": POLL_S}
    threading.Thread(target=worker.start_worker, kwargs=options, daemon=True).start()
    load = Load(client())
    windowed(load.start, 3, 1)  # not counted
    cases: dict[str, Any] = {
        "in_sequence": lambda: windowed(load.start, IN_SEQUENCE, 1),
        "hundred": lambda: windowed(load.start, HUNDRED, 100),
        "thousand": lambda: windowed(load.start, THOUSAND, 1_000),
        "events": load.events,
        "timers": load.timers,
    }
    await measure(cases, folder, number, durability)
    worker.stop_worker()


async def main(folder: Path) -> None:
    """The one or the other."""
    if os.environ.get("ABSURD") == "unhinged":
        await run(unhinged(folder), folder, version("unhinged"), "SQLite, WAL, synchronous=FULL")
        return
    with cluster(folder) as address:
        number = f"{version('absurd-sdk')}, PostgreSQL"
        await run(absurd(address), folder, number, "PostgreSQL, fsync and synchronous_commit on")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
    leave()
