"""What became of a breaker, told from the records that the real entity leaves: commands, readbacks, moves by themselves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.durable import history as h
from gateway.durable.codec import Raw, pack, unpack_plain
from gateway.durable.entity import EntityCore, EntitySnapshot, OperationRequest
from gateway.durable.identity import EntityId
from gateway.moves import BY_ITSELF, UNDER_WAY, Move, moves_of
from gateway.shedding.breaker_model import Breaker, Rules
from gateway.shedding.entities import breaker_entity

RULES = Rules(critical=False, sheddable=True, max_operations_per_hour=9, command_deadline_us=120_000_000)
SECOND = 1_000_000


class Feeder:
    """The breaker entity of F1, asked one operation after the other, one second each; keeps its records."""

    def __init__(self) -> None:
        entity = breaker_entity(lambda name: RULES)
        self._core = EntityCore(EntityId("breaker", "F1"), entity, Breaker, EntitySnapshot())
        self.now_us = 1_000 * SECOND
        self.records: list[tuple[int, int, h.EntityRecord]] = []

    def __call__(self, operation: str, caller: str = "", **message: Any) -> h.OperationRecord:
        self.now_us += SECOND
        request = OperationRequest(operation, pack(message, "it"), caller, 1 if caller else 0)
        record, _ = self._core.step(request, self.now_us)
        written = msgspec.json.encode(h.EntityRecord([record]))
        self.records.append((len(self.records) + 1, self.now_us, h.decode_entity_record(written)))
        return record

    @property
    def state(self) -> Breaker:
        state = self._core.load_state()
        assert isinstance(state, Breaker)
        return state

    def seen(self, position: str) -> None:
        self("observe", position=position, quality="good", local=False)

    def answered(self, intent: int, outcome: str, position: str, sent: bool = True) -> None:
        answer = {"outcome": outcome, "position": position, "detail": f"{outcome} indeed", "sent": sent}
        self("command_result", ok=True, context={"intent": intent}, result=answer)

    def moves(self, remembered: bool = False) -> list[Move]:
        return moves_of(self.records, self.state.recent if remembered else ())


def asks(request: str, **more: Any) -> dict[str, Any]:
    return {"request_id": request, "actor": "jane", "reason": "smoke", **more}


@pytest.fixture
def feeder() -> Feeder:
    feeder = Feeder()
    feeder.seen("closed")
    return feeder


def test_a_command_with_its_readback(feeder: Feeder) -> None:
    feeder("open", "client:1", **asks("op/1", procedure="shed-1", kw=3.5))
    (asked,) = feeder.moves()
    assert (asked.outcome, asked.position, asked.moved) == (UNDER_WAY, "", False)
    feeder.answered(1, "done", "open")
    (move,) = feeder.moves()
    assert (move.target, move.outcome, move.position, move.moved) == ("open", "done", "open", True)
    assert (move.actor, move.reason, move.procedure, move.kw) == ("jane", "smoke", "shed-1", 3.5)
    assert (move.read_us - move.at_us, move.ended_us - move.at_us) == (SECOND, SECOND)
    assert move.seq == 2


def test_the_same_request_again_is_no_second_move(feeder: Feeder) -> None:
    for _ in range(2):
        feeder("open", "client:1", **asks("op/1"))
    feeder.answered(1, "done", "open")
    feeder("open", "client:1", **asks("op/1"))
    assert [move.outcome for move in feeder.moves()] == ["done"]


def test_a_request_that_sends_nothing_is_told_with_the_answer(feeder: Feeder) -> None:
    feeder("close", "client:1", **asks("op/1"))
    feeder("block", actor="bob", reason="earthed")
    feeder("open", "client:1", **asks("op/2"))
    already, refused = feeder.moves()
    assert (already.outcome, already.sent, already.moved) == ("done", False, False)
    assert "already closed" in already.detail
    assert (refused.outcome, refused.moved) == ("refused", False)
    assert "blocked by bob" in refused.detail


def test_one_that_failed_has_the_position_that_was_read(feeder: Feeder) -> None:
    feeder("open", "client:1", **asks("op/1"))
    feeder.answered(1, "failed", "closed")
    (move,) = feeder.moves()
    assert (move.outcome, move.position, move.moved) == ("failed", "closed", False)


def test_nothing_sent_is_no_move(feeder: Feeder) -> None:
    feeder("open", "client:1", **asks("op/1"))
    feeder.answered(1, "not_sent", "unknown", sent=False)
    (move,) = feeder.moves()
    assert (move.outcome, move.moved) == ("not_sent", False)


def test_an_unknown_outcome_that_a_readback_resolves_after_a_crash(feeder: Feeder) -> None:
    feeder("open", "client:1", **asks("op/1"))
    feeder("command_result", ok=False, context={"intent": 1}, error={"type": "ActivityInterrupted"})
    (move,) = feeder.moves()
    assert (move.outcome, move.position) == ("unknown", "")
    assert "ActivityInterrupted" in move.detail
    read = {"position": "open", "quality": "good", "settled": True}
    feeder("readback_result", ok=True, context={"intent": 1, "read": 1}, result=read)
    (move,) = feeder.moves(remembered=True)
    assert (move.outcome, move.position, move.moved) == ("done", "open", True)
    assert "resolved by readback" in move.detail


def test_nobody_waited_any_more_and_the_outcome_is_known_all_the_same(feeder: Feeder) -> None:
    feeder("open", **asks("op/1"))
    feeder.answered(1, "done", "open")
    feeder.seen("closed")
    first, second = feeder.moves()
    assert (first.outcome, first.position) == ("done", "open")
    assert (second.outcome, second.target) == (BY_ITSELF, "closed")


def test_a_move_without_a_command_is_told_as_such(feeder: Feeder) -> None:
    feeder.seen("open")
    (move,) = feeder.moves()
    assert (move.outcome, move.target, move.moved, move.request_id) == (BY_ITSELF, "open", True, "")


def test_what_was_first_seen_or_seen_again_or_seen_badly_is_no_move() -> None:
    feeder = Feeder()
    feeder.seen("open")
    feeder.seen("open")
    feeder("observe", position="closed", quality="bad")
    feeder("observe", position="intermediate", quality="good")
    assert feeder.moves() == []


def test_an_operation_that_was_rolled_back_is_told_with_its_failure() -> None:
    record = h.OperationRecord("open", Raw(msgspec.json.encode(asks("op/1"))), failure=_failure())
    (move,) = moves_of([(1, 5, h.EntityRecord([record]))])
    assert (move.outcome, move.detail) == ("failed", "LookupError: no feeder; rolled back")


def _failure() -> Any:
    return h.FailureDetails("LookupError", "no feeder")


def test_records_of_another_world_are_an_error() -> None:
    record = h.OperationRecord("open", Raw(b'{"request_id": 3}'))
    with pytest.raises(msgspec.MsgspecError):
        moves_of([(1, 5, h.EntityRecord([record]))])
    assert unpack_plain(record.input) == {"request_id": 3}
