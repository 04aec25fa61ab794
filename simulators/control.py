"""The control channel: a Unix socket on which tests and demonstrations look behind the scenes.

One JSON object a line in, one a line out, answered in order: ``{"op": "state"}`` → ``{"ok": true, ...}``, or
``{"ok": false, "error": "..."}`` for a request that can't be served; the connection goes on either way. Only the user who
runs the simulator can connect (mode 0600).

==========  =======================================  ================================================================
op          arguments                                answer
==========  =======================================  ================================================================
state       —                                        simulated time, load, capacity, ambient, breakers by position, ...
links       —                                        connections, requests and faults of each device
counters    feeder (left out: all), active (true:    ``columns`` and ``counters`` (name → values in that order)
            only those that were commanded or moved)
commands    since (0), limit (10,000)                log records with number ≥ since, oldest first, and ``next``
breaker     feeder                                   true position, contacts, faults, load of one feeder
fault       kind, target, value, how, for_s          see ``faults``
clear       target, kind (left out: all)             —
trip        feeder                                   ``moved``: whether it was closed
reset       —                                        everything closed, no faults, counters 0, log empty
==========  =======================================  ================================================================
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from simulators.breakers import Breaker
from simulators.clock import iso
from simulators.faults import FaultError, FaultRequest

if TYPE_CHECKING:
    from simulators.simulation import Simulation

REQUEST_LIMIT = 64 * 1024
REPLY_LIMIT = 64 * 1024 * 1024
MOST_RECORDS = 10_000
LONGEST_SOCKET_PATH = 107
COLUMNS = ("open_commands", "close_commands", "refused", "operations", "op_count", "position")

Json = dict[str, object]


class ControlError(Exception):
    """The simulator refused a control request, or is not there; the text says why."""


class ControlServer:
    """Serves the control channel of one simulation."""

    def __init__(self, simulation: Simulation, path: Path) -> None:
        self._simulation = simulation
        self.path = path
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen. A socket file that nobody serves any more is replaced. Raises OSError."""
        if len(str(self.path)) > LONGEST_SOCKET_PATH:
            raise OSError(f"the path of the control socket is longer than {LONGEST_SOCKET_PATH} bytes: {self.path}")
        if self.path.is_socket():
            self.path.unlink()
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=REQUEST_LIMIT)
        self.path.chmod(0o600)

    async def stop(self) -> None:
        """Close the socket and its connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)
        for writer in tuple(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self._answer(line), ensure_ascii=False).encode() + b"\n")
                await writer.drain()
        except ValueError:
            writer.write(b'{"ok": false, "error": "the request is too long"}\n')
        except ConnectionError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, line: bytes) -> Json:
        try:
            request = json.loads(line)
        except ValueError as error:
            return {"ok": False, "error": f"no JSON: {error}"}
        if not isinstance(request, dict):
            return {"ok": False, "error": "a request is a JSON object"}
        try:
            return {"ok": True, **answer(self._simulation, request)}
        except (ControlError, FaultError) as error:
            return {"ok": False, "error": str(error)}


def answer(simulation: Simulation, request: Mapping[str, object]) -> Json:
    """Carry out one request. Raises ControlError or FaultError."""
    switchgear = simulation.plant.switchgear
    match request.get("op"):
        case "state":
            return _state(simulation)
        case "links":
            return {"links": _links(simulation)}
        case "counters":
            return _counters(simulation, request)
        case "commands":
            since, limit = _whole(request, "since", 0), min(MOST_RECORDS, _whole(request, "limit", MOST_RECORDS))
            records = switchgear.records_since(since, limit)
            rows = [[r.number, r.wall_s, iso(r.sim_us), r.feeder, r.command, r.verdict] for r in records]
            columns = ["number", "wall_s", "sim_time", "feeder", "command", "verdict"]
            return {"columns": columns, "commands": rows, "next": records[-1].number + 1 if records else since}
        case "breaker":
            return _breaker(simulation, _feeder(simulation, request))
        case "fault":
            simulation.faults.apply(
                FaultRequest(
                    _text(request, "kind") or "",
                    _text(request, "target") or "",
                    _number(request, "value"),
                    _text(request, "how"),
                    _number(request, "for_s"),
                )
            )
            return {}
        case "clear":
            simulation.faults.clear(_text(request, "target"), _text(request, "kind"))
            return {}
        case "trip":
            return {"moved": simulation.plant.trip(_feeder(simulation, request).name)}
        case "reset":
            simulation.reset()
            return {}
        case other:
            raise ControlError(f"unknown op {other!r}")


def _state(simulation: Simulation) -> Json:
    breakers = simulation.plant.switchgear.breakers
    positions = [breaker.position() for breaker in breakers]
    loads = simulation.loads
    load_kw = loads.total_kw()
    return {
        "sim_time": iso(simulation.time.now_us()),
        "rate": simulation.time.rate,
        "load_kw": round(load_kw, 1),
        "capacity_kw": simulation.site.capacity_kw,
        "load_pct": round(100.0 * load_kw / simulation.site.capacity_kw, 2),
        "curve_kw": round(loads.curve_kw(loads.time_s), 1),
        "ambient_c": round(loads.ambient_c(), 1),
        "oil_c": round(simulation.transformer.oil_c, 1),
        "hotspot_c": round(simulation.transformer.hot_spot_c, 1),
        "feeders": len(breakers),
        "open": positions.count("open"),
        "closed": positions.count("closed"),
        "moving": positions.count("intermediate"),
        "commands": switchgear_total(breakers),
        "operations": sum(breaker.operations for breaker in breakers),
        "log_next": simulation.plant.switchgear.commands_seen,
        "connections": sum(device.connections for device in simulation.field.values()),
        "requests": sum(device.requests for device in simulation.field.values()),
    }


def switchgear_total(breakers: list[Breaker]) -> int:
    """All commands that breakers took."""
    return sum(breaker.open_commands + breaker.close_commands for breaker in breakers)


def _links(simulation: Simulation) -> Json:
    return {
        name: {
            "host": device.host,
            "port": device.port,
            "listening": device.is_open,
            "connections": device.connections,
            "requests": device.requests,
            "writes": device.writes,
            **device.present(),
        }
        for name, device in simulation.field.items()
    }


def _counters(simulation: Simulation, request: Mapping[str, object]) -> Json:
    breakers = simulation.plant.switchgear.breakers
    if "feeder" in request:
        breakers = [_feeder(simulation, request)]
    elif request.get("active"):
        breakers = [b for b in breakers if b.open_commands or b.close_commands or b.operations or b.refused]
    rows = {b.name: [*b.counters().values(), b.position()] for b in breakers}
    return {"columns": list(COLUMNS), "counters": rows}


def _breaker(simulation: Simulation, breaker: Breaker) -> Json:
    return {
        "feeder": breaker.name,
        "position": breaker.position(),
        "contacts": list(breaker.contacts()),
        "local": breaker.local,
        "faults": {str(fault): value for fault, value in breaker.faults.items()},
        "power_kw": round(float(simulation.loads.power_kw[breaker.index]), 2),
        **breaker.counters(),
    }


def _feeder(simulation: Simulation, request: Mapping[str, object]) -> Breaker:
    name = request.get("feeder")
    breaker = simulation.plant.switchgear.by_name.get(name) if isinstance(name, str) else None
    if breaker is None:
        raise ControlError(f"no feeder is named {name!r}")
    return breaker


def _text(request: Mapping[str, object], key: str) -> str | None:
    value = request.get(key)
    if value is not None and not isinstance(value, str):
        raise ControlError(f"{key} must be a text")
    return value


def _number(request: Mapping[str, object], key: str) -> float | None:
    value = request.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ControlError(f"{key} must be a number")
    return float(value)


def _whole(request: Mapping[str, object], key: str, default: int) -> int:
    value = request.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ControlError(f"{key} must be a whole number, 0 or more")
    return value
