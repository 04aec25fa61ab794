"""What every operation works with: the running gateway, the audit record of an action, and the codes of refusals.

What must stay true: an action is on disk, with who asked for it, before it is answered; a refused one leaves the reason
there, too. A crash between the record and the action leaves a record of something asked that was not done, never the
other way round.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from gateway.clock import SystemClock
from gateway.control import Code, ControlError, Handler, JsonValue
from gateway.durable import (
    AlreadyExistsError,
    Engine,
    EngineStoppedError,
    EntityOperationError,
    GoneError,
    LimitExceededError,
    NotFoundError,
    NotSerializableError,
    WrongStatusError,
)
from gateway.durable.codec import Json
from gateway.operations.arguments import TEXT_AT_MOST, Arguments, text, who
from gateway.shedding.entities import substation_id
from gateway.shedding.field import Field
from gateway.shedding.report import Proof
from gateway.shedding.substation import Substation
from gateway.watch import Watch

if TYPE_CHECKING:
    from gateway.housekeeping import Housekeeping

_CODES: tuple[tuple[type[Exception], Code], ...] = (
    (NotFoundError, Code.NOT_FOUND),
    (GoneError, Code.GONE),
    (AlreadyExistsError, Code.EXISTS),
    (LimitExceededError, Code.TOO_LARGE),
    (NotSerializableError, Code.BAD_REQUEST),
    (EngineStoppedError, Code.UNAVAILABLE),
    (EntityOperationError, Code.REFUSED),
    (WrongStatusError, Code.REFUSED),
    (ValueError, Code.BAD_REQUEST),
)
"""The first that fits decides."""
_KINDS: tuple[type[Exception], ...] = tuple(kind for kind, _ in _CODES)
_REFUSALS: tuple[type[Exception], ...] = (ControlError, *_KINDS)


@dataclass(slots=True)
class Health:
    """What the daemon knows of itself. The callables ask the journal and the machine.

    head: sequence number, batch and hash of the journal's last record. why_not_released: why nobody can let outputs go
    now, empty if somebody can. release: let them go in this person's name; what became of it, in words. operators: the OPC
    UA server and who is there, None for a site without one. care: who looks after the journal, None if nobody does.
    """

    started_us: int
    journal_path: str
    head: Callable[[], tuple[int, int, str]]
    synchronized: Callable[[], bool | None]
    verify: Callable[[], Awaitable[dict[str, Json]]]
    report: Callable[[list[Proof]], Awaitable[str]]
    why_not_released: Callable[[], str]
    release: Callable[[str], str]
    warnings: Callable[[], list[str]]
    operators: Callable[[], Json] = lambda: None
    care: Housekeeping | None = None


Record = tuple[int, str, str, int, bytes]
"""seq, instance, kind, time_us, payload"""


class Log(Protocol):
    """The journal's records, read only."""

    async def records(
        self, after_seq: int, limit: int = 1_000, *, up_to_seq: int | None = None, kinds: Sequence[str] | None = None
    ) -> Sequence[Record]:
        """Records after a sequence number, oldest first, none after up_to_seq; fewer than limit: the end was reached."""

    async def latest(self, instance: str, limit: int = 1_000, *, before_seq: int | None = None) -> Sequence[Record]:
        """The last records of one instance, newest first; before_seq: those before this record of it."""


@dataclass(frozen=True, slots=True)
class Desk:
    """The running gateway, as operations see it."""

    engine: Engine
    field: Field
    watch: Watch
    clock: SystemClock
    health: Health
    log: Log

    def station(self) -> Substation:
        """The committed state of the substation."""
        return committed_station(self.engine, self.field)

    def feeder(self, args: Arguments) -> str:
        """The feeder that a request names. Errors: ControlError (``not_found``)."""
        name = text(args, "feeder")
        if name not in self.field.feeders:
            raise unknown_feeder(name)
        return name

    @contextlib.asynccontextmanager
    async def audited(self, args: Arguments, op: str, **what: Json) -> AsyncIterator[None]:
        """Record who asks for what ahead of it, and the reason where it is refused; on disk before the answer."""
        record = {"op": op, "actor": who(args), "peer": args.get("_peer") or {}, **what}
        asked = self.engine.record("", "audit", record)
        try:
            yield
        except _REFUSALS as error:
            self.engine.record("", "audit_refused", {**record, "refused": str(error)[:TEXT_AT_MOST]})
            raise
        finally:
            await asyncio.wait([asked])
            lost = asked.exception()
        if lost is not None:
            raise lost


Operation = Callable[[Desk, Arguments], Awaitable[Json]]
"""Carries out one request; raises ControlError, or an error of the engine, to refuse it."""


def committed_station(engine: Engine, field: Field) -> Substation:
    """The committed state of the substation."""
    raw = engine.client.read_entity_raw(substation_id(field.site))
    return Substation() if raw is None else msgspec.json.decode(raw, type=Substation)


def older_in(records: Sequence[Record]) -> dict[str, Json]:
    """Where the records before these are, if they were archived: the name of the file."""
    archive = getattr(records, "archived_in", "")
    return {"archived_in": archive} if archive else {}


def unknown_feeder(name: str) -> ControlError:
    """The refusal of a name that no feeder has."""
    return ControlError(Code.NOT_FOUND, f"this site has no feeder {name!r}")


def handler(desk: Desk, operation: Operation) -> Handler:
    """The operation as the control socket calls it: with the engine's errors turned into the socket's codes."""

    async def run(args: dict[str, JsonValue]) -> JsonValue:
        try:
            result: JsonValue = await operation(desk, dict(args))
        except _KINDS as error:
            code = next(code for kind, code in _CODES if isinstance(error, kind))
            raise ControlError(code, str(error)) from error
        return result

    return run
