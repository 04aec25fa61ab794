"""Client of the control channel, for tests and demonstrations.

async with SimulatorClient(path) as simulator:
    state = await simulator.state()
    await simulator.fault("stuck", "F001-007")
    counters = await simulator.counters()        # {"F001-007": Counters(open_commands=1, ...), ...}
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from simulators.control import COLUMNS, REPLY_LIMIT, ControlError

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Counters:
    """What a breaker itself counted, and its true position (open, closed, intermediate)."""

    open_commands: int
    close_commands: int
    refused: int
    operations: int
    op_count: int
    position: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command as a breaker received it. wall_s: Unix seconds; command: open or close; verdict: what became of it."""

    number: int
    wall_s: float
    sim_time: str
    feeder: str
    command: str
    verdict: str


class SimulatorClient:
    """One connection. Requests may be made from several tasks; they wait for one another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> SimulatorClient:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self, timeout_s: float = 40.0) -> None:
        """Connect; waits up to timeout_s for a simulator that is still starting. Raises ControlError."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            try:
                self._reader, self._writer = await asyncio.open_unix_connection(self._path, limit=REPLY_LIMIT)
                return
            except OSError as error:
                if asyncio.get_running_loop().time() >= deadline:
                    raise ControlError(f"no simulator at {self._path}: {error.strerror}") from error
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
            self._reader = self._writer = None

    async def request(self, op: str, **arguments: object) -> Json:
        """One request; its answer without ``ok``. Raises ControlError if it was refused or the simulator went away."""
        async with self._lock:
            if self._reader is None or self._writer is None:
                raise ControlError("not connected")
            try:
                self._writer.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
                await self._writer.drain()
                line = await self._reader.readline()
            except OSError as error:
                raise ControlError(f"the simulator went away: {error}") from error
        if not line:
            raise ControlError("the simulator closed the control channel")
        reply = json.loads(line)
        if not reply.pop("ok"):
            raise ControlError(str(reply["error"]))
        return dict(reply)

    async def state(self) -> Json:
        """Simulated time, load_kw, capacity_kw, load_pct, ambient_c, open, closed, moving, connections, ..."""
        return await self.request("state")

    async def links(self) -> dict[str, Json]:
        """Each device's connections, requests and faults."""
        reply = await self.request("links")
        links = reply["links"]
        assert isinstance(links, dict)
        return links

    async def counters(self, *, active: bool = False) -> dict[str, Counters]:
        """The counters of all breakers; active: only of those that were commanded or moved."""
        return _counters(await self.request("counters", active=active))

    async def counters_of(self, feeder: str) -> Counters:
        """The counters of one breaker."""
        return _counters(await self.request("counters", feeder=feeder))[feeder]

    async def commands(self, since: int = 0) -> list[Command]:
        """All commands from record ``since`` on that the log still has."""
        found: list[Command] = []
        while True:
            reply = await self.request("commands", since=since)
            rows, since = reply["commands"], int(str(reply["next"]))
            assert isinstance(rows, list)
            if not rows:
                return found
            found += [Command(*row) for row in rows]

    async def fault(
        self, kind: str, target: str, *, value: float | None = None, how: str | None = None, for_s: float | None = None
    ) -> None:
        """Put a fault on a feeder or device."""
        await self.request("fault", kind=kind, target=target, value=value, how=how, for_s=for_s)

    async def clear(self, target: str | None = None, kind: str | None = None) -> None:
        """Take faults off."""
        await self.request("clear", target=target, kind=kind)

    async def trip(self, feeder: str) -> bool:
        """Open a breaker without a command; False if it was not closed."""
        return bool((await self.request("trip", feeder=feeder))["moved"])

    async def reset(self) -> None:
        """Everything closed, no faults, counters 0, log empty."""
        await self.request("reset")


def _counters(reply: Json) -> dict[str, Counters]:
    rows = reply["counters"]
    assert isinstance(rows, dict)
    assert reply["columns"] == list(COLUMNS)
    return {name: Counters(*values) for name, values in rows.items()}
