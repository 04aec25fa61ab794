"""Operations that tell what happened and why, from the journal: the timeline of an instance, the reason of a switching.

What must stay true: only what is recorded is told; reading is bounded, and what lies beyond the bound is said to be
missing, not left out in silence. Nothing is changed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.clock import iso
from gateway.control import Code, ControlError
from gateway.decision import Decision, decision_of
from gateway.durable import DurableError
from gateway.durable import history as h
from gateway.durable.codec import Json, Raw, unpack_plain
from gateway.durable.instances import Orchestration
from gateway.durable.preview import preview, preview_raw
from gateway.durable.replay import replay
from gateway.durable.rewound import effective
from gateway.durable.timeline import Row, exact, present_run, timeline
from gateway.durable.waits import wait_in_words
from gateway.moves import BY_ITSELF, Move, moves_of
from gateway.operations.arguments import Arguments, text
from gateway.operations.desk import Desk, Log, Record, older_in
from gateway.shedding.breaker_model import Breaker
from gateway.shedding.entities import breaker_id, substation_id
from gateway.shedding.substation import PROTOCOL
from protocols.base import Position

TURNS_AT_MOST = 5_000
"""Records of one instance that a timeline looks back; what is older is said to be missing."""
AUDIT_LOOK_BACK = 2_000
"""Records before an effect among which the request that caused it is sought."""
AUDIT_LOOK_AHEAD = 50
PREVIEW_WIDTH = 200
FAILURE_WIDTH = 400
REPLAYED_TURNS_AT_MOST = 1_000
"""Turns of an instance on disk that are replayed to tell what it waits for: some tens of milliseconds."""

Turn = tuple[int, int, h.TurnRecord]
"""Number of the record, time in µs, record."""


async def show_timeline(desk: Desk, args: Arguments) -> Json:
    """The rows of one orchestration since its start; exact: with all inputs and results, else with a few words of them."""
    instance = text(args, "instance")
    status = await desk.engine.client.get_status(instance)
    turns = await _turns(instance, await desk.log.latest(instance, TURNS_AT_MOST))
    run, complete = present_run(turns)
    rows = await asyncio.to_thread(timeline, run)
    return {
        "instance": instance,
        "name": status.name,
        "status": status.runtime_status.value,
        "created": status.created_time.isoformat(),
        "updated": status.last_updated_time.isoformat(),
        "replays": status.replays,
        "complete": complete,
        "started_by": await _who_started(desk.log, instance, run[0][0]) if run else None,
        "waits": _waits(desk, instance, run),
        "now": iso(desk.engine.now_us()),
        "now_us": desk.engine.now_us(),
        "rows": [exact(row) if args.get("exact") else _in_words(row) for row in rows],
    }


def _waits(desk: Desk, instance: str, run: Sequence[Turn]) -> str:
    """What a live orchestration does now, as a clause with the line of its code; empty where that can't be told.

    One that is on disk only is replayed for that, if its history is short: nobody else should wait for this.
    """
    live = desk.engine.instances.get(instance)
    if not isinstance(live, Orchestration) or live.terminal:
        return ""
    if live.stuck:
        return f"can't run: {live.stuck}"
    if live.suspended:
        return "stands still until it is resumed"
    if live.execution is not None:
        return wait_in_words(live.execution)
    last = max((n for n, turn in enumerate(run) if _begins(turn)), default=-1)
    turns = [(time_us, record) for _, time_us, record in effective(run[last:])]
    if last < 0 or len(turns) > REPLAYED_TURNS_AT_MOST:
        return ""
    try:
        execution = replay(instance, desk.engine.registry.get_orchestrator(live.name, live.version).function, turns)
    except DurableError as error:
        return f"can't be replayed: {error}"
    words = wait_in_words(execution)
    execution.close()
    return words


def _begins(turn: Turn) -> bool:
    return any(isinstance(event, h.ExecutionStarted) for event in turn[2].events[:1])


def _in_words(row: Row) -> dict[str, Json]:
    """The row with a few words of its payloads; those of a timer are two numbers."""
    told = exact(row)
    if row.kind != "timer":
        told["value"] = _sentence(row.value)
    told["result"] = preview_raw(row.result, PREVIEW_WIDTH)
    told["failure"] = None if row.failure is None else preview(str(row.failure), FAILURE_WIDTH)
    return told


def _sentence(raw: Raw) -> str:
    """A custom status for people carries a sentence; anything else in a few words."""
    value = unpack_plain(raw)
    sentence = value.get("sentence") if isinstance(value, dict) else None
    return preview(sentence if isinstance(sentence, str) else value, PREVIEW_WIDTH)


async def _turns(instance: str, latest: Sequence[Record]) -> list[Turn]:
    """The turns among these records, oldest first; decoded beside the loop, which must not wait for thousands of them."""

    def decode() -> list[Turn]:
        return [(r[0], r[3], h.decode_turn(r[4])) for r in reversed(latest) if r[2] == h.TURN]

    try:
        return await asyncio.to_thread(decode)
    except msgspec.MsgspecError as error:
        raise ControlError(Code.UNAVAILABLE, f"this version can't read the history of {instance}: {error}") from error


async def _who_started(log: Log, instance: str, first_seq: int) -> Json:
    """The audit record of its start by a person, None if nobody is on record."""
    found = await _audit_around(
        log, first_seq, ("instances.start", "instances.restart", "instances.restarted", "shed.started")
    )
    return next((one for one in reversed(found) if one.get("new", one.get("instance")) == instance), None)


async def _audit_around(log: Log, seq: int, ops: Sequence[str]) -> list[dict[str, Json]]:
    """What people asked for shortly before a record, oldest first: audit records of these operations, with their time.

    A record of a request is written with its effect in one batch, in either order: hence a few records after it, too.
    """
    first, last = max(0, seq - AUDIT_LOOK_BACK), seq + AUDIT_LOOK_AHEAD
    records = await log.records(first, AUDIT_LOOK_BACK + AUDIT_LOOK_AHEAD, up_to_seq=last, kinds=("audit",))
    return [told for record in records for told in _of_ops(record, ops)]


def _of_ops(record: Record, ops: Sequence[str]) -> list[dict[str, Json]]:
    told: Json = msgspec.json.decode(record[4])
    return [{"at": iso(record[3]), **told}] if isinstance(told, dict) and told.get("op") in ops else []


# Why a breaker stands where it stands

MOVES_SHOWN = 6
BREAKER_RECORDS_AT_MOST = 4_000
DECISION_PAGES = 4
STATION_RECORDS_AT_MOST = 2_000


@dataclass(slots=True)
class _Past:
    """Turns of one instance that were read for this request, oldest first, and where to go on backwards."""

    turns: list[Turn] = field(default_factory=list)
    before_seq: int | None = None
    pages: int = 0


async def why(desk: Desk, args: Arguments) -> Json:
    """The last moves of one breaker: who commanded them, in which step, on which measurement; and who has to close it."""
    name = desk.feeder(args)
    state = desk.watch.committed(name) or Breaker()
    found = await desk.log.latest(str(breaker_id(name)), BREAKER_RECORDS_AT_MOST)

    def tell() -> list[Move]:
        records = [(r[0], r[3], h.decode_entity_record(r[4])) for r in reversed(found) if r[2] == h.OPERATION]
        return moves_of(records, state.recent)

    try:
        moves = await asyncio.to_thread(tell)
    except msgspec.MsgspecError as error:
        raise ControlError(Code.UNAVAILABLE, f"this version can't read what {name} did: {error}") from error
    known: dict[str, _Past] = {}
    shown = [
        {**msgspec.structs.asdict(move), **await _cause(desk, name, move, known)}
        for move in moves[: -MOVES_SHOWN - 1 : -1]
    ]
    return {
        "feeder": name,
        "position": state.position.value,
        "quality": state.quality.value,
        "observed_us": state.observed_us,
        "now_us": desk.engine.now_us(),
        "moves": shown,
        "complete": len(found) < BREAKER_RECORDS_AT_MOST,
        "closes": who_closes(desk, name, state, moves),
        **older_in(found),
    }


async def _cause(desk: Desk, feeder: str, move: Move, known: dict[str, _Past]) -> dict[str, Json]:
    """Where the command came from: the decision of an orchestration, or the request of a person. known: by instance."""
    operation_id = move.request_id.removesuffix(f"/{feeder}")
    if move.procedure and operation_id != move.request_id:
        decision = await _decision(desk.log, feeder, operation_id, move, known)
        if decision is None:
            return {"decision": None, "stress": None, "started_by": None, "asked": None}
        by = await _who_started(desk.log, decision.instance, decision.first_seq) if decision.first_seq else None
        stress = await _stress(desk, decision.started_us or decision.at_us)
        return {"decision": msgspec.structs.asdict(decision), "stress": stress, "started_by": by, "asked": None}
    asked = None
    if move.request_id:
        found = await _audit_around(desk.log, move.seq, ("breakers.open", "breakers.close"))
        asked = next((one for one in reversed(found) if one.get("request_id") == move.request_id), None)
    return {"decision": None, "stress": None, "started_by": None, "asked": asked}


async def _decision(log: Log, feeder: str, operation_id: str, move: Move, known: dict[str, _Past]) -> Decision | None:
    instance = operation_id.rpartition(":")[0]
    past = known.setdefault(instance, _Past())
    while True:
        # Only the turns up to the move matter: the id may have been used again since.
        run, complete = present_run([turn for turn in past.turns if turn[0] <= move.seq])
        if complete or past.pages == DECISION_PAGES:
            return decision_of(instance, feeder, operation_id, run)
        page = await log.latest(instance, TURNS_AT_MOST, before_seq=past.before_seq)
        past.pages = past.pages + 1 if len(page) == TURNS_AT_MOST else DECISION_PAGES
        past.turns[:0] = await _turns(instance, page)
        past.before_seq = page[-1][0] if page else past.before_seq


async def _stress(desk: Desk, before_us: int) -> Json:
    """The last change to stress that the substation was told of before this time: when, and at which loading."""
    for record in await desk.log.latest(str(substation_id(desk.field.site)), STATION_RECORDS_AT_MOST):
        if record[2] != h.OPERATION or record[3] > before_us:
            continue
        for operation in reversed(h.decode_entity_record(record[4]).operations):
            if operation.name == "stress" and operation.failure is None:
                told = unpack_plain(operation.input)
                return {"on": told["on"], "load_pct": told["load_pct"], "at_us": record[3]}
    return None


def who_closes(desk: Desk, name: str, state: Breaker, moves: Sequence[Move]) -> Json:
    """Who has to close a breaker that is open: the procedure that shed it, or a person; None for one that is not open."""
    if state.position is not Position.OPEN and state.command is None:
        return None
    command = state.command
    if command is not None:
        verb = "open" if command.target is Position.OPEN else "close"
        return {"by": "nobody now", "why": f"a command to {verb} it by {command.actor} is under way"}
    hindered = _hindered(state)
    last = next((move for move in reversed(moves) if move.moved and move.target == Position.OPEN.value), None)
    if state.shed is not None and not (last is not None and last.force):
        procedure = desk.engine.instances.get(state.shed.procedure)
        if isinstance(procedure, Orchestration) and not procedure.terminal:
            stock = procedure.name == PROTOCOL
            words = "closes it when the load permits" if stock else "closes it if its own code says so"
            return {"by": "procedure", "procedure": procedure.id, "why": f"{procedure.id} runs, and {words}{hindered}"}
        why = f"{state.shed.procedure}, which opened it, has ended and will not close it"
    elif last is None:
        why = "it is not known who opened it"
    elif last.outcome == BY_ITSELF:
        why = "no command of this gateway opened it: look for the cause (protection, a hand at the breaker) first"
    else:
        why = f"{last.actor} opened it by hand, so that no procedure closes it"
    return {"by": "person", "why": why + hindered, "command": f"gridlatch breakers close {name} --reason TEXT"}


def _hindered(state: Breaker) -> str:
    """What stands in the way of closing it."""
    hindrances = []
    if state.blocked is not None and state.blocked.close:
        hindrances.append(f"it is blocked by {state.blocked.actor} ({state.blocked.reason}): unblock it first")
    if state.local:
        hindrances.append("its switch stands at local: it can be closed at the breaker only")
    if state.locked_out:
        hindrances.append(f"it is locked out after {state.failed_closes} failed closes")
    return "".join(f"; {one}" for one in hindrances)
