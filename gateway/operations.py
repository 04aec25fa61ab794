"""What people and programs may ask of the running daemon, behind the control socket.

Each operation takes a JSON object and gives one back, in the shapes that ``gateway/cli`` shows. What must stay true:
queries show committed state; an action is answered only once it is on disk, and its record names who asked for it: the
user of the connection (from the kernel) and the name that this person gave.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from config.models import Mode
from gateway import __version__
from gateway.clock import SystemClock, from_us, iso
from gateway.control import Code, ControlError, Handler, JsonValue
from gateway.durable import (
    AlreadyExistsError,
    DurableOrchestrationStatus,
    Engine,
    EngineStoppedError,
    EntityOperationError,
    GoneError,
    LimitExceededError,
    NotFoundError,
    NotSerializableError,
    OrchestrationRuntimeStatus,
)
from gateway.durable.codec import Json
from gateway.durable.instances import Orchestration
from gateway.shedding.activities import load_mode
from gateway.shedding.breaker_model import Breaker, Phase
from gateway.shedding.conduct import EVENT
from gateway.shedding.entities import breaker_id, substation_id
from gateway.shedding.field import Field
from gateway.shedding.measuring import read_load
from gateway.shedding.override import OverrideError, check
from gateway.shedding.report import Proof
from gateway.shedding.substation import Substation
from gateway.story_feeders import parse_proofs
from gateway.watch import Watch
from protocols.base import LinkState

PAGE_AT_MOST = 20_000
TEXT_AT_MOST = 400
"""Characters of a reason, an actor, a name."""
WAIT_AT_MOST_S = 300.0
EXPIRY_AT_MOST_S = 7 * 86_400.0


@dataclass(slots=True)
class Health:
    """What the daemon knows of itself. The callables ask the journal and the machine."""

    started_us: int
    journal_path: str
    head: Callable[[], tuple[int, int, str]]
    records: Callable[[], int]
    synchronized: Callable[[], bool | None]
    verify: Callable[[], Awaitable[dict[str, Json]]]
    report: Callable[[list[Proof]], Awaitable[str]]
    why_not_released: Callable[[], str]
    release: Callable[[str], str]
    warnings: Callable[[], list[str]]


class Operations:
    """The operations, bound to a running gateway."""

    def __init__(self, engine: Engine, field: Field, watch: Watch, clock: SystemClock, health: Health) -> None:
        self._engine = engine
        self._client = engine.client
        self._field = field
        self._watch = watch
        self._clock = clock
        self._health = health

    def handlers(self) -> Mapping[str, Handler]:
        """Name → operation, for the control server."""
        plain: dict[str, Callable[[dict[str, Json]], Awaitable[Json]]] = {
            "status": self.status,
            "timers": self.timers,
            "instances.list": self.instances_list,
            "instances.show": self.instances_show,
            "instances.start": self.instances_start,
            "instances.raise": self.instances_raise,
            "instances.terminate": self.instances_terminate,
            "breakers.list": self.breakers_list,
            "breakers.show": self.breakers_show,
            "breakers.open": self._switch("open"),
            "breakers.close": self._switch("close"),
            "breakers.block": self._note("block"),
            "breakers.unblock": self._note("unblock"),
            "override": self.override,
            "mode": self.mode,
            "release": self.release,
            "report": self.report,
            "audit.verify": self.audit_verify,
        }
        return {name: _guarded(operation) for name, operation in plain.items()}

    # Queries

    async def status(self, _: dict[str, Json]) -> Json:
        """All at one glance."""
        site = self._field.site
        load = read_load(self._field)
        station = self._station()
        seq, batch, head = self._health.head()
        due = self._engine.timers.next_due()
        now_us = self._engine.now_us()
        return {
            "site": site.name,
            "version": __version__,
            "mode": (station.mode or site.shedding.mode).value,
            "held": self._held(station),
            "journal": {
                "seq": seq,
                "batch": batch,
                "hash": head,
                "records": self._health.records(),
                "path": self._health.journal_path,
            },
            "transformer": {
                "name": site.transformer.name,
                "load_kw": round(load.kw, 1) if load.good else None,
                "capacity_kw": load.capacity_kw,
                "percent": round(load.percent, 2) if load.good else None,
                "quality": "good" if load.good else "bad",
                "zone": self._watch.load.state.zone.value,
            },
            "procedure": self._procedure(station),
            "breakers": self._watch.picture.counts,
            "shed_kw": round(self._watch.picture.shed_kw, 1),
            "links": self._links(),
            "next_timer": None if due is None else _timer(due[1], due[2], due[0], now_us),
            "engine": {
                "instances": len(self._engine.instances),
                "turns": self._engine.counters.turns,
                "queued": self._engine.activities.queued,
                "replays": self._engine.counters.replays,
                "pending_activities": self._engine.activities.running + self._engine.activities.queued,
            },
            "clock": {
                "now": iso(now_us),
                "rate": self._clock.rate,
                "wall_step_s": round(self._clock.wall_step_s(), 3),
                "synchronized": self._health.synchronized(),
            },
            "note": station.last_note,
            "overrides": list(station.consumed),
            "last_result": station.last_result,
            "started": iso(self._health.started_us),
            "pid": os.getpid(),
            "config_sha256": site.sha256,
            "warnings": [*site.warnings, *self._health.warnings()],
        }

    def _station(self) -> Substation:
        return committed_station(self._engine, self._field)

    def _held(self, station: Substation) -> dict[str, Json]:
        gate = self._field.gate
        why = getattr(gate, "reason", "") if gate.held else station.held
        return {"held": gate.held or bool(station.held), "why": why}

    def _procedure(self, station: Substation) -> Json:
        """The procedure that has the station, with its committed custom status."""
        if station.running is None:
            return None
        instance = self._engine.instances.get(station.running.instance)
        if not isinstance(instance, Orchestration) or instance.row is None:
            return None
        status = self._decoded_custom_status(instance)
        known = status if isinstance(status, dict) else {}
        return {"instance": instance.id, "name": instance.name, "status": instance.row.status, **known}

    def _decoded_custom_status(self, instance: Orchestration) -> Json:
        if instance.row is None:
            return None
        state = msgspec.json.decode(instance.row.state)
        return state.get("custom_status")

    def _links(self) -> dict[str, Json]:
        links = self._field.driver.links()
        count = {state: sum(1 for link in links if link.state is state) for state in LinkState}
        troubled = [
            {"device": link.device, "state": link.state.value, "detail": link.detail}
            for link in links
            if link.state is not LinkState.UP
        ]
        return {"total": len(links), **{s.value: n for s, n in count.items()}, "troubled": troubled[:50]}

    async def timers(self, args: dict[str, Json]) -> Json:
        """Pending durable timers, the next first."""
        now_us = self._engine.now_us()
        pending = sorted((due_us, instance, task_id) for instance, task_id, due_us in self._engine.timers.pending())
        limit = _limit(args, 100)
        return {
            "timers": [_timer(instance, task_id, due_us, now_us) for due_us, instance, task_id in pending[:limit]],
            "total": len(pending),
        }

    async def instances_list(self, args: dict[str, Json]) -> Json:
        """A page of orchestrations."""
        limit = _limit(args, 100)
        wanted = args.get("status")
        try:
            statuses = None if wanted is None else [OrchestrationRuntimeStatus(str(wanted))]
        except ValueError:
            known = ", ".join(OrchestrationRuntimeStatus)
            raise ControlError(Code.BAD_REQUEST, f"unknown status {wanted!r}; write one of {known}") from None
        found = await self._client.get_status_by(
            runtime_status=statuses,
            name=_optional(args, "name"),
            prefix=_optional(args, "prefix"),
            limit=limit,
            after=_optional(args, "after"),
        )
        return {
            "instances": [_instance(one) for one in found],
            "next": found[-1].instance_id if len(found) == limit else None,
        }

    async def instances_show(self, args: dict[str, Json]) -> Json:
        """One orchestration."""
        one = await self._client.get_status(
            _text(args, "instance"), show_history=bool(args.get("history")), show_input=True
        )
        shown = {**_instance(one), "input": one.input_, "output": one.output}
        if one.failure is not None:
            shown["failure"] = msgspec.to_builtins(one.failure)
        if one.history is not None:
            shown["history"] = one.history
        return shown

    # Actions on orchestrations

    async def instances_start(self, args: dict[str, Json]) -> Json:
        """Start an orchestration."""
        name, wanted = _text(args, "name"), _optional(args, "instance")
        instance = uuid.uuid4().hex if wanted is None else wanted
        async with self._audited(args, "instances.start", instance=instance, name=name):
            await self._client.start_new(name, instance, args.get("input"))
        return {"instance": instance}

    async def instances_raise(self, args: dict[str, Json]) -> Json:
        """Raise an event."""
        instance, event = _text(args, "instance"), _text(args, "event")
        async with self._audited(args, "instances.raise", instance=instance, event=event):
            await self._client.raise_event(instance, event, args.get("data"), raised_by=_who(args))
        return {"accepted": True}

    async def instances_terminate(self, args: dict[str, Json]) -> Json:
        """End an orchestration from outside; the substation is told when it had the station."""
        instance, reason = _text(args, "instance"), _text(args, "reason")
        async with self._audited(args, "instances.terminate", instance=instance, reason=reason):
            await self._client.terminate(instance, reason, raised_by=_who(args))
        ended = {"instance": instance, "result": {"status": "terminated", "reason": reason}}
        await self._client.signal_entity(substation_id(self._field.site), "finished", ended)
        return {"accepted": True}

    async def override(self, args: dict[str, Json]) -> Json:
        """Tell the running procedure what an operator decides."""
        station = self._station()
        instance = _optional(args, "instance") or (station.running.instance if station.running else None)
        if instance is None:
            raise ControlError(Code.REFUSED, "no procedure runs, so there is nothing to override")
        data: dict[str, Json] = {
            "decision": _text(args, "decision"),
            "actor": _who(args),
            "reason": _text(args, "reason"),
        }
        if args.get("feeder"):
            data["feeders"] = [self._feeder(args)]
        now_us = self._engine.now_us()
        if args.get("expires_s") is not None:
            expires_s = _number(args, "expires_s", 0.0, 0.0, EXPIRY_AT_MOST_S)
            data["expires"] = (from_us(now_us) + timedelta(seconds=expires_s)).isoformat()
        try:
            check(data, now_us)
        except OverrideError as error:
            raise ControlError(Code.BAD_REQUEST, str(error)) from None
        async with self._audited(args, "override", instance=instance, **data):
            await self._client.raise_event(instance, EVENT, data, raised_by=_who(args))
        detail = f"{data['decision']} was given to {instance}; its status tells which step takes it"
        return {"accepted": True, "instance": instance, "detail": detail}

    async def mode(self, args: dict[str, Json]) -> Json:
        """Monitor or armed."""
        wanted, reason = _text(args, "mode"), _text(args, "reason")
        if wanted not in tuple(Mode):
            raise ControlError(Code.BAD_REQUEST, f"unknown mode {wanted[:60]!r}; write one of {', '.join(Mode)}")
        told = {"mode": wanted, "actor": _who(args), "reason": reason}
        async with self._audited(args, "mode", mode=wanted, reason=reason):
            await self._client.call_entity(substation_id(self._field.site), "set_mode", told, operator=True)
            # Who is told "monitor" relies on it: from here on no write leaves.
            mode = await load_mode(self._field, self._client)
        return {"mode": mode.value, "detail": f"mode is {mode.value}"}

    async def release(self, args: dict[str, Json]) -> Json:
        """Let outputs go after a hold."""
        reason = _text(args, "reason")
        if why := self._health.why_not_released():
            raise ControlError(Code.REFUSED, why)
        told = {"actor": _who(args), "reason": reason}
        async with self._audited(args, "release", reason=reason):
            await self._client.call_entity(substation_id(self._field.site), "release", told, operator=True)
        return {"detail": self._health.release(_who(args))}

    # Breakers

    async def breakers_list(self, args: dict[str, Json]) -> Json:
        """A page of breakers, in the order of the point list."""
        limit = _limit(args, 100)
        after, prefix = _optional(args, "after"), _optional(args, "prefix") or ""
        wanted = {key: _optional(args, key) for key in ("position", "tier", "outcome")}
        if after is not None and after not in self._field.feeders:
            raise ControlError(Code.NOT_FOUND, f"this site has no feeder {after!r}")
        if wanted["tier"] is not None and wanted["tier"] not in self._field.tiers:
            known = ", ".join(sorted(self._field.tiers))
            raise ControlError(Code.NOT_FOUND, f"this site has no tier {wanted['tier']!r}; it has {known}")
        passed = after is None
        found: list[dict[str, Json]] = []
        for name in self._field.feeders:
            if not passed:
                passed = name == after
                continue
            if not name.startswith(prefix):
                continue
            shown = self._breaker(name)
            if all(word in (None, shown[key]) for key, word in wanted.items()):
                found.append(shown)
                if len(found) == limit:
                    break
        return {"breakers": found, "next": found[-1]["feeder"] if len(found) == limit else None}

    async def breakers_show(self, args: dict[str, Json]) -> Json:
        """One breaker, with all that is known."""
        name = self._feeder(args)
        feeder = self._field.feeders[name]
        state = self._breaker_state(name)
        return {
            **self._breaker(name),
            "critical": feeder.critical,
            "sheddable": feeder.sheddable,
            "ufls_stage": feeder.ufls_stage,
            "group": feeder.group,
            "customers": feeder.customers,
            "rated_kw": feeder.rated_kw,
            "link": self._field.driver.link_of(name).state.value,
            "state": msgspec.to_builtins(state),
        }

    def _feeder(self, args: dict[str, Json]) -> str:
        name = _text(args, "feeder")
        if name not in self._field.feeders:
            raise ControlError(Code.NOT_FOUND, f"this site has no feeder {name!r}")
        return name

    def _breaker_state(self, name: str) -> Breaker:
        return self._watch.committed(name) or Breaker()

    def _breaker(self, name: str) -> dict[str, Json]:
        reading = self._field.driver.breaker(name)
        feeder = self._field.feeders[name]
        state = self._breaker_state(name)
        outcome = "unknown" if state.phase is not Phase.IDLE else None
        if state.phase is Phase.OPERATING:
            outcome = "operating"
        elif outcome is None and state.recent:
            outcome = state.recent[-1].result.value
        age_s = asyncio.get_running_loop().time() - reading.read_at if reading.read_at else None
        return {
            "feeder": name,
            "tier": feeder.tier,
            "position": reading.position.value,
            "commanded": None if state.commanded is None else state.commanded.value,
            "quality": reading.quality.value,
            "age_s": None if age_s is None else round(age_s, 2),
            "local": reading.local,
            "blocked": state.blocked is not None,
            "outcome": outcome,
            "power_kw": None if reading.power_kw is None else round(reading.power_kw, 3),
            "op_count": reading.op_count,
            "device": feeder.device,
            "intents": state.intents,
        }

    def _switch(self, operation: str) -> Callable[[dict[str, Json]], Awaitable[Json]]:
        async def switch(args: dict[str, Json]) -> Json:
            name, reason = self._feeder(args), _text(args, "reason")
            wait_s = _number(args, "wait_s", 30.0, 0.1, WAIT_AT_MOST_S)
            request = f"operator/{uuid.uuid4().hex}"  # stands in the audit record and in the breaker's state
            message = {"request_id": request, "actor": _who(args), "reason": reason, "force": bool(args.get("force"))}
            asked = self._audited(args, f"breakers.{operation}", feeder=name, reason=reason, request_id=request)
            try:
                async with asked, asyncio.timeout(wait_s):
                    told = await self._client.call_entity(breaker_id(name), operation, message, operator=True)
            except TimeoutError:
                detail = f"no outcome within {wait_s:g} s; the breaker's status tells how it ends"
                return {"feeder": name, "outcome": "unknown", "position": "unknown", "detail": detail}
            keys = ("outcome", "position", "detail")
            return {"feeder": name, **{key: told[key] for key in keys}}

        return switch

    def _note(self, operation: str) -> Callable[[dict[str, Json]], Awaitable[Json]]:
        async def note(args: dict[str, Json]) -> Json:
            name, reason = self._feeder(args), _text(args, "reason")
            told = {"actor": _who(args), "reason": reason}
            async with self._audited(args, f"breakers.{operation}", feeder=name, reason=reason):
                await self._client.call_entity(breaker_id(name), operation, told, operator=True)
            blocked = operation == "block"
            words = "blocked: nobody can operate it remotely" if blocked else "not blocked any more"
            return {"feeder": name, "blocked": blocked, "detail": f"{name} is {words}"}

        return note

    # Evidence

    async def report(self, args: dict[str, Json]) -> Json:
        """The event report as one HTML page; ``proofs`` are rows of evidence that the asker adds."""
        return {"html": await self._health.report(parse_proofs(args.get("proofs")))}

    async def audit_verify(self, _: dict[str, Json]) -> Json:
        """Check the whole hash chain of the journal."""
        return await self._health.verify()

    @contextlib.asynccontextmanager
    async def _audited(self, args: dict[str, Json], op: str, **what: Json) -> AsyncIterator[None]:
        """Record who asks for what ahead of it, and the reason where it is refused; on disk before the answer."""
        record = {"op": op, "actor": _who(args), "peer": args.get("_peer") or {}, **what}
        asked = self._engine.record("", "audit", record)
        try:
            yield
        except _REFUSALS as error:
            self._engine.record("", "audit_refused", {**record, "refused": str(error)[:TEXT_AT_MOST]})
            raise
        finally:
            await asyncio.wait([asked])
            lost = asked.exception()
        if lost is not None:
            raise lost


def committed_station(engine: Engine, field: Field) -> Substation:
    """The committed state of the substation."""
    raw = engine.client.read_entity_raw(substation_id(field.site))
    return Substation() if raw is None else msgspec.json.decode(raw, type=Substation)


_CODES: tuple[tuple[type[Exception], Code], ...] = (
    (NotFoundError, Code.NOT_FOUND),
    (GoneError, Code.GONE),
    (AlreadyExistsError, Code.EXISTS),
    (LimitExceededError, Code.TOO_LARGE),
    (NotSerializableError, Code.BAD_REQUEST),
    (EngineStoppedError, Code.UNAVAILABLE),
    (EntityOperationError, Code.REFUSED),
)


_REFUSALS: tuple[type[Exception], ...] = (ControlError, *(kind for kind, _ in _CODES), ValueError)


def _guarded(operation: Callable[[dict[str, Json]], Awaitable[Json]]) -> Handler:
    """Turn the engine's errors into the control socket's codes."""

    async def run(args: dict[str, JsonValue]) -> JsonValue:
        try:
            result: JsonValue = await operation(dict(args))
        except ControlError:
            raise
        except tuple(kind for kind, _ in _CODES) as error:
            code = next(code for kind, code in _CODES if isinstance(error, kind))
            raise ControlError(code, str(error)) from error
        except ValueError as error:
            raise ControlError(Code.BAD_REQUEST, str(error)) from error
        return result

    return run


def _text(args: dict[str, Json], key: str) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ControlError(Code.BAD_REQUEST, f"{key} is missing: give a text that is not empty")
    if len(value) > TEXT_AT_MOST:
        raise ControlError(Code.BAD_REQUEST, f"{key} has {len(value)} characters; {TEXT_AT_MOST} is the limit")
    return value


def _optional(args: dict[str, Json], key: str) -> str | None:
    return None if args.get(key) is None else _text(args, key)


def _number(args: dict[str, Json], key: str, default: float, least: float, most: float) -> float:
    value = args.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ControlError(Code.BAD_REQUEST, f"{key} must be a number of seconds from {least:g} to {most:g}")
    return float(value)


def _limit(args: dict[str, Json], default: int) -> int:
    value = args.get("limit", default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= PAGE_AT_MOST:
        raise ControlError(Code.BAD_REQUEST, f"limit must be a whole number from 1 to {PAGE_AT_MOST}")
    return value


def _who(args: dict[str, Json]) -> str:
    """Who acts: the name that was given, and the user of the connection where that is another one."""
    peer = args.get("_peer")
    user = peer.get("user", "") if isinstance(peer, dict) else ""
    actor = _optional(args, "actor")
    if actor is None:
        return str(user) or "unknown"
    return actor if not user or actor == user else f"{actor} ({user})"


def _timer(instance: str, task_id: int, due_us: int, now_us: int) -> dict[str, Json]:
    remaining_s = max(0.0, (due_us - now_us) / 1e6)
    return {"instance": instance, "task_id": task_id, "due": iso(due_us), "remaining_s": round(remaining_s, 1)}


def _instance(one: DurableOrchestrationStatus) -> dict[str, Json]:
    return {
        "instance": one.instance_id,
        "name": one.name,
        "status": one.runtime_status.value,
        "created": one.created_time.isoformat(),
        "updated": one.last_updated_time.isoformat(),
        "custom_status": one.custom_status,
    }
