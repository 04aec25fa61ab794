"""Records of the breaker entity: its state, the messages it hears, the commands it gives, the rules of its site.

All are frozen and hold plain data, so no cycle of theirs is worth the garbage collector's time. Times are engine time in
microseconds (``_us``), power in kilowatts. The state is what the journal keeps of a breaker, so every field has a
default: an older record reads as a newer one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import msgspec

from protocols.base import Outcome, Position, Quality

HOUR_US = 3_600_000_000
RECENT_LIMIT = 4
"""Ended requests that are remembered: a request that comes again is answered from here, never carried out again."""
CALLERS_LIMIT = 64
"""Callers that may wait for one command; one more is refused as busy."""
TEXT_LIMIT = 400
"""Characters kept of an actor, a reason, a detail."""


class Phase(enum.StrEnum):
    """Where the one field command of a breaker stands."""

    IDLE = "idle"
    OPERATING = "operating"
    RESOLVING = "resolving"
    UNRESOLVED = "unresolved"


class Result(enum.StrEnum):
    """What a caller is told. All but UNKNOWN are final; UNKNOWN becomes DONE or FAILED once a readback decides.

    NOT_SENT: no frame left (no connection, say), so nothing moved and nothing is known against the breaker.
    """

    DONE = "done"
    REFUSED = "refused"
    NOT_SENT = "not_sent"
    FAILED = "failed"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class Switch(msgspec.Struct, frozen=True, gc=False):
    """Message ``open`` or ``close``.

    request_id: chosen by the caller, stable over its own restarts. deadline_us: 0 takes the site's default. procedure:
    the orchestration that asks, empty for a person's own command. force: a person insists; it lifts the operation cap
    and lets a person open a critical breaker, and outranks no interlock. kw: load of the feeder before it is shed.
    """

    request_id: str
    actor: str = ""
    reason: str = ""
    deadline_us: int = 0
    force: bool = False
    procedure: str = ""
    kw: float = 0.0


class Observation(msgspec.Struct, frozen=True, gc=False):
    """Message ``observe``: what a scan read. quality is that of position and local."""

    position: Position
    quality: Quality
    local: bool | None = None
    op_count: int | None = None


class Note(msgspec.Struct, frozen=True, gc=False):
    """Messages ``block``, ``unblock``, ``reset`` and ``resolve``: who, why; open and close say what a block forbids."""

    actor: str
    reason: str = ""
    open: bool = True
    close: bool = True


class Withdraw(msgspec.Struct, frozen=True, gc=False):
    """Message ``withdraw``: the request is wanted no more; what is on the wire goes on, nothing is repeated."""

    request_id: str


class IntentContext(msgspec.Struct, frozen=True, gc=False):
    """What is handed to an activity and comes back with its result: the number of the intent and of the read."""

    intent: int
    read: int = 0


class ActivityError(msgspec.Struct, frozen=True, gc=False):
    """Why an activity has no result."""

    type: str
    message: str = ""


class OperateAnswer(msgspec.Struct, frozen=True, gc=False):
    """Result of the activity OperateBreaker. expired: the deadline passed before a frame left. op_count: the device's own
    counter, where it was read after the end position."""

    outcome: Outcome
    position: Position
    detail: str
    sent: bool
    expired: bool = False
    op_count: int | None = None


class ReadAnswer(msgspec.Struct, frozen=True, gc=False):
    """Result of the activity ReadBreaker. settled: read later than any travel of the last command can last."""

    position: Position
    quality: Quality
    settled: bool
    local: bool | None = None
    op_count: int | None = None


class CommandResult(msgspec.Struct, frozen=True, gc=False):
    """Message ``command_result``: the activity OperateBreaker ended, or was cut off by a crash."""

    ok: bool
    context: IntentContext
    result: OperateAnswer | None = None
    error: ActivityError | None = None


class ReadbackResult(msgspec.Struct, frozen=True, gc=False):
    """Message ``readback_result``: the activity ReadBreaker ended."""

    ok: bool
    context: IntentContext
    result: ReadAnswer | None = None
    error: ActivityError | None = None


class Command(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The one field command in flight.

    intent: number of the operation, new for each frame that may be sent. start, op_count: what was known before the
    command, so that a readback can prove that nothing moved. tokens: callers who wait. repeats: how often a proven
    miss was sent again.
    """

    request_id: str
    target: Position
    actor: str
    reason: str
    deadline_us: int
    intent: int
    intent_us: int
    procedure: str = ""
    force: bool = False
    kw: float = 0.0
    start: Position = Position.UNKNOWN
    op_count: int | None = None
    tokens: tuple[str, ...] = ()
    repeats: int = 0
    reads: int = 0
    wanted: bool = True


class Ended(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How a request ended. resolved: it was unknown at first and a readback decided.

    procedure, kw, op_count: as in the command, kept where a frame left (or may have left) and the command failed or was
    refused by the device: the breaker may still move, late (see ``late_opening``).
    """

    request_id: str
    target: Position
    result: Result
    detail: str
    actor: str
    at_us: int
    intent: int = 0
    resolved: bool = False
    procedure: str = ""
    kw: float = 0.0
    op_count: int | None = None


class Block(msgspec.Struct, frozen=True, gc=False):
    """A person forbids remote operation (work on the feeder)."""

    actor: str
    reason: str
    at_us: int
    open: bool = True
    close: bool = True


class Shed(msgspec.Struct, frozen=True, gc=False):
    """A procedure opened this breaker. kw: load before."""

    procedure: str
    since_us: int
    kw: float


class Breaker(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """State of one breaker. ``position`` and ``commanded`` are never mixed: the first is read, the second was asked
    for.

    intents: operations ever intended by this gateway; op_count: the device's own counter. operations: times of the
    intents of the last hour. outage_s, last_shed_us: the fairness ledger of its customers.
    """

    phase: Phase = Phase.IDLE
    position: Position = Position.UNKNOWN
    quality: Quality = Quality.BAD
    observed_us: int = 0
    local: bool | None = None
    op_count: int | None = None
    commanded: Position | None = None
    command: Command | None = None
    recent: tuple[Ended, ...] = ()
    blocked: Block | None = None
    failed_closes: int = 0
    locked_out: bool = False
    intents: int = 0
    operations: tuple[int, ...] = ()
    shed: Shed | None = None
    outage_s: float = 0.0
    last_shed_us: int = 0

    @property
    def last(self) -> Ended | None:
        """How the last request ended."""
        return self.recent[-1] if self.recent else None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the site says of one breaker. sheddable: it has a tier and may be shed by a procedure.

    late_move_us: so long after a failed opening a breaker that opens is taken to have obeyed late.
    """

    critical: bool
    sheddable: bool
    max_operations_per_hour: int
    command_deadline_us: int
    max_repeats: int = 1
    lock_out_after: int = 2
    late_move_us: int = 60_000_000


@dataclass(frozen=True, slots=True)
class Operate:
    """Command to the shell: send one frame, at most once (activity OperateBreaker)."""

    target: Position
    intent: int
    deadline_us: int


@dataclass(frozen=True, slots=True)
class Read:
    """Command to the shell: read until the position is good, give up at give_up_us (activity ReadBreaker)."""

    target: Position
    intent: int
    read: int
    give_up_us: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Command to the shell: answer these callers; no token means the caller of this very message."""

    tokens: tuple[str, ...]
    ended: Ended
    position: Position


Effect = Operate | Read | Answer
Message = Switch | Observation | Note | Withdraw | CommandResult | ReadbackResult

MESSAGES: dict[str, type[Message]] = {
    "open": Switch,
    "close": Switch,
    "withdraw": Withdraw,
    "command_result": CommandResult,
    "readback_result": ReadbackResult,
    "observe": Observation,
    "resolve": Note,
    "block": Note,
    "unblock": Note,
    "reset": Note,
}
"""Operation name → what its input must look like."""
