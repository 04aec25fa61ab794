"""What became of one breaker, told from its journaled operations: each command, and each move that nobody commanded.

Pure: (records of the breaker entity) → moves. What must stay true: a move is told with the position that was read back,
never with the one that was asked for; a command whose end is not in the records is told as open.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.durable import history as h
from gateway.durable.codec import Json, unpack_plain
from gateway.shedding.breaker_model import (
    CommandResult,
    Ended,
    Observation,
    ReadbackResult,
    Switch,
)
from protocols.base import Position, Quality

UNDER_WAY = "under way"
BY_ITSELF = "by itself"


class Move(msgspec.Struct):
    """One command, or one change of position without any.

    at_us: when it was asked for, or seen. seq: record in which it stands. target: open or closed. outcome: as the caller
    was told; UNDER_WAY while it has none; BY_ITSELF for a move that this gateway did not command. position, read_us: what
    was read back, and when. sent: a command left (or may have left) for it.
    """

    at_us: int
    seq: int
    target: str
    outcome: str = UNDER_WAY
    detail: str = ""
    actor: str = ""
    reason: str = ""
    procedure: str = ""
    force: bool = False
    kw: float = 0.0
    request_id: str = ""
    position: str = ""
    read_us: int = 0
    ended_us: int = 0
    sent: bool = False

    @property
    def moved(self) -> bool:
        """True if the breaker was in the target position afterwards and had to move for it."""
        return self.outcome == BY_ITSELF or (self.sent and self.position == self.target)


_SETTLED = (Position.OPEN.value, Position.CLOSED.value)
_switch = msgspec.json.Decoder(Switch).decode
_observation = msgspec.json.Decoder(Observation).decode
_command_result = msgspec.json.Decoder(CommandResult).decode
_readback_result = msgspec.json.Decoder(ReadbackResult).decode


class _Teller:
    def __init__(self) -> None:
        self.moves: list[Move] = []
        self.position = ""
        self.open: Move | None = None
        """The one command that has no end yet."""

    def operation(self, seq: int, at_us: int, operation: h.OperationRecord) -> None:
        """One operation of the entity, in order."""
        match operation.name:
            case "open" | "close":
                self._asked(seq, at_us, operation)
            case "command_result":
                answer = _command_result(operation.input)
                if answer.result is None:
                    why = f"{answer.error.type} {answer.error.message}".strip() if answer.error else ""
                    self._note(f"no outcome is known: {why}")
                else:
                    self._read(at_us, answer.result.position.value)
                    self._end(at_us, answer.result.outcome.value, answer.result.detail)
            case "readback_result":
                read = _readback_result(operation.input)
                if read.result is not None and read.result.quality is Quality.GOOD:
                    self._read(at_us, read.result.position.value)
            case "observe":
                self._seen(seq, at_us, _observation(operation.input))
            case _:
                pass
        for action in operation.actions:
            if isinstance(action, h.EntityReply):
                self._answered(unpack_plain(action.result))

    def _asked(self, seq: int, at_us: int, operation: h.OperationRecord) -> None:
        asked = _switch(operation.input)
        if any(move.request_id == asked.request_id for move in self.moves):
            return  # the same request again: joined, or answered from memory
        move = Move(
            at_us,
            seq,
            Position.OPEN.value if operation.name == "open" else Position.CLOSED.value,
            actor=asked.actor,
            reason=asked.reason,
            procedure=asked.procedure,
            force=asked.force,
            kw=asked.kw,
            request_id=asked.request_id,
        )
        self.moves.append(move)
        if operation.failure is not None:
            move.outcome, move.detail, move.ended_us = "failed", f"{operation.failure}; rolled back", at_us
        elif any(isinstance(action, h.EntityActivity) for action in operation.actions):
            move.sent = True
            self.open = move
        else:
            self._answered(unpack_plain(operation.result))

    def _answered(self, told: Json) -> None:
        """What the caller of a command is told; the last word counts (first unknown, later resolved)."""
        if not isinstance(told, dict):
            return
        move = next((one for one in self.moves if one.request_id and one.request_id == told.get("request_id")), None)
        if move is None:
            return
        move.outcome = str(told.get("outcome", ""))
        move.detail = str(told.get("detail", ""))
        move.ended_us = int(told.get("at_us", 0))
        if move is self.open:
            self.open = self.open if move.outcome == "unknown" else None
        elif not move.read_us:
            move.position = str(told.get("position", ""))

    def _end(self, at_us: int, outcome: str, detail: str) -> None:
        """The device's word, which counts where nobody waited for the answer (the process had ended meanwhile)."""
        move = self.open
        if move is None:
            return
        if outcome == "unknown":
            self._note(detail)
            return
        move.outcome, move.detail, move.ended_us = outcome, detail, at_us
        move.sent = outcome != "not_sent"
        self.open = None

    def _note(self, detail: str) -> None:
        if self.open is not None:
            self.open.outcome, self.open.detail = "unknown", detail

    def _read(self, at_us: int, position: str) -> None:
        """A position was read: the command in flight has its readback."""
        if position not in _SETTLED:
            return
        self.position = position
        if self.open is not None:
            self.open.position, self.open.read_us = position, at_us
            if position == self.open.target and self.open.outcome in (UNDER_WAY, "unknown"):
                self.open.outcome, self.open.ended_us = "done", at_us
                self.open = None

    def _seen(self, seq: int, at_us: int, seen: Observation) -> None:
        position = seen.position.value
        if seen.quality is not Quality.GOOD or position not in _SETTLED:
            return
        before, waits = self.position, self.open is not None and self.open.outcome in (UNDER_WAY, "unknown")
        self._read(at_us, position)
        if before and before != position and not waits:
            self.moves.append(Move(at_us, seq, position, BY_ITSELF, position=position, read_us=at_us, ended_us=at_us))


def moves_of(records: Iterable[tuple[int, int, h.EntityRecord]], recent: Iterable[Ended] = ()) -> list[Move]:
    """The moves in these records (seq, time, record), oldest first.

    recent: ended requests that the breaker remembers; they have the last word on an outcome.
    Raises msgspec.MsgspecError for an operation that this version can't read.
    """
    teller = _Teller()
    for seq, time_us, record in records:
        for operation in record.operations:
            teller.operation(seq, time_us, operation)
    known = {ended.request_id: ended for ended in recent}
    for move in teller.moves:
        ended = known.get(move.request_id)
        if ended is not None and move.sent:
            move.outcome, move.detail, move.ended_us = ended.result.value, ended.detail, ended.at_us
    return teller.moves
