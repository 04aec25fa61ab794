"""The breaker entity, told as transcripts: what each row of its table means to those who ask."""

from __future__ import annotations

import pytest

from gateway.durable.testing import EntityBook
from gateway.durable.testing.words import (
    START_US,
    activity,
    answer,
    breaks,
    call,
    ends,
    error,
    later,
    nothing,
    signal,
    state,
)
from gateway.shedding.breaker import TABLE, transition
from gateway.shedding.breaker_events import Event, classify
from gateway.shedding.breaker_model import MESSAGES, Breaker, Ended, Observation, Phase, Result, Rules
from gateway.shedding.entities import breaker_entity
from protocols.base import Position, Quality

ORDINARY = Rules(critical=False, sheddable=True, max_operations_per_hour=6, command_deadline_us=120_000_000)
HOSPITAL = Rules(critical=True, sheddable=False, max_operations_per_hour=6, command_deadline_us=120_000_000)
STREET_LIGHT = Rules(critical=False, sheddable=False, max_operations_per_hour=6, command_deadline_us=120_000_000)

CLOSED = {"position": "closed", "quality": "good", "local": False, "op_count": 7}
OPEN = CLOSED | {"position": "open", "op_count": 8}


def book(rules: Rules | None = ORDINARY, seen: dict[str, object] | None = None) -> EntityBook:
    """A breaker that was seen closed."""
    return EntityBook(breaker_entity(lambda _: rules), "breaker", "F1", Breaker) >> signal("observe", seen or CLOSED)


def ask(number: int = 1, **more: object) -> dict[str, object]:
    """A request of a procedure."""
    return {"request_id": f"r{number}", "actor": "proc-1", "procedure": "proc-1", "kw": 80.0, **more}


def outcome(word: str, position: str, sent: bool = True, **more: object) -> dict[str, object]:
    """What OperateBreaker says."""
    return {"outcome": word, "position": position, "detail": f"the driver says {word}", "sent": sent, **more}


def readback(position: str, quality: str = "good", settled: bool = True, op_count: int | None = 7) -> dict[str, object]:
    """What ReadBreaker says."""
    return {"position": position, "quality": quality, "settled": settled, "local": False, "op_count": op_count}


def by_hand(rules: Rules = ORDINARY) -> dict[str, object]:
    """A request of a person."""
    return {"request_id": "h1", "actor": "m.meier"}


# --- a command that goes well -----------------------------------------------------------------------------------------


def test_open_is_answered_when_the_end_position_was_read():
    (
        book()
        >> call("open", ask())
        << activity("OperateBreaker", feeder="F1", target="open", intent=1, deadline_us=START_US + 120_000_000)
        << state(phase="operating", commanded="open", position="closed", intents=1)
        >> ends(outcome("done", "open"))
        << answer(outcome="done", position="open", intent=1, resolved=False)
        << state(phase=None, position="open", shed={"procedure": "proc-1", "since_us": START_US, "kw": 80.0})
    )


def test_the_outcome_brings_the_counter_and_an_outcome_without_one_leaves_it():
    counted = book() >> call("open", ask()) << activity("OperateBreaker")
    counted >> ends(outcome("done", "open", op_count=8)) << answer(outcome="done") << state(op_count=8)
    counted >> call("close", ask(2)) << activity("OperateBreaker")
    counted >> ends(outcome("done", "closed")) << answer(outcome="done") << state(op_count=8)


def test_a_command_lost_right_after_another_is_proven_unsent_by_the_counter_that_the_first_one_brought():
    first = book() >> call("open", ask()) << activity("OperateBreaker")
    (
        first
        >> ends(outcome("done", "open", op_count=8))
        << answer(outcome="done")
        >> call("close", ask(2))
        << activity("OperateBreaker")
        >> ends(outcome("unknown", "unknown"))
        << activity("ReadBreaker")
        >> ends(readback("open", op_count=8))
        << activity("OperateBreaker", target="closed", intent=3)
    )


def test_a_breaker_that_is_there_already_is_not_operated():
    transcript = book(seen=OPEN) >> call("open", ask()) << answer(outcome="done") << nothing()
    transcript << state(intents=None, shed=None)


def test_the_same_request_joins_and_everyone_gets_the_one_outcome():
    (
        book()
        >> call("open", ask(), by="ann")
        << activity("OperateBreaker")
        >> call("open", ask(), by="bob")
        << nothing()
        >> ends(outcome("done", "open"))
        << answer("ann", outcome="done", intent=1)
        << answer("bob", outcome="done", intent=1)
        << nothing()
    )


def test_the_same_request_again_is_answered_not_executed():
    (
        book()
        >> call("open", ask())
        << activity("OperateBreaker")
        >> ends(outcome("failed", "closed"))
        << answer(outcome="failed")
        >> call("open", ask())
        << answer(outcome="failed", intent=1)
        << nothing()
    )


def test_a_request_id_means_one_command():
    (
        book()
        >> call("open", ask())
        << activity("OperateBreaker")
        >> call("close", ask(), by="other")
        << answer("other", outcome="refused", detail=lambda text: "was used to open" in text)
    )


def test_another_request_is_refused_while_a_command_is_under_way():
    (
        book()
        >> call("open", ask(1))
        << activity("OperateBreaker")
        >> call("close", ask(2), by="other")
        << answer("other", outcome="refused", detail=lambda text: "under way" in text)
        << nothing()
    )


def test_closing_ends_the_shed_and_counts_the_outage():
    (
        book()
        >> call("open", ask(1))
        << activity("OperateBreaker")
        >> ends(outcome("done", "open"))
        << answer(outcome="done")
        >> later(1800)
        >> call("close", ask(2))
        << activity("OperateBreaker", target="closed", intent=2)
        >> ends(outcome("done", "closed"))
        << answer(outcome="done")
        << state(shed=None, outage_s=1800.0, last_shed_us=START_US)
    )


def test_whoever_closes_a_shed_breaker_ends_its_shed():
    (
        book()
        >> call("open", ask(1))
        << activity("OperateBreaker")
        >> ends(outcome("done", "open"))
        << answer(outcome="done")
        >> later(60)
        >> signal("observe", CLOSED)
        << state(shed=None, outage_s=60.0)
    )


# --- commands that end otherwise --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told", "words"),
    [
        (outcome("refused", "closed", sent=False), "refused", "driver says"),
        (outcome("failed", "intermediate"), "failed", "driver says"),
        (outcome("not_sent", "unknown", sent=False), "not_sent", "nothing was sent"),
        (outcome("not_sent", "unknown", sent=False, expired=True), "expired", "driver says"),
    ],
)
def test_known_outcomes_end_the_command_at_once(said, told, words):
    transcript = book() >> call("open", ask()) << activity("OperateBreaker") >> ends(said)
    transcript << answer(outcome=told, detail=lambda text: words in text) << nothing() << state(command=None, shed=None)


def test_a_frame_that_never_left_wears_nothing():
    transcript = book() >> call("open", ask()) << activity("OperateBreaker")
    transcript << state(operations=[START_US])
    (
        transcript
        >> ends(outcome("not_sent", "unknown", sent=False))
        << answer(outcome="not_sent")
        << state(operations=None)
    )


def test_a_command_past_its_deadline_is_expired_and_never_sent():
    transcript = book() >> later(10) >> call("open", ask(deadline_us=START_US + 1)) << answer(outcome="expired")
    transcript << nothing() << state(intents=None)


# --- unknown: read, don't repeat --------------------------------------------------------------------------------------


def lost(transcript: EntityBook) -> EntityBook:
    """A command whose outcome nobody knows."""
    return (
        transcript
        >> call("open", ask())
        << activity("OperateBreaker", intent=1)
        >> ends(outcome("unknown", "unknown"))
        << activity("ReadBreaker", feeder="F1", target="open", give_up_us=START_US + 120_000_000)
        << nothing()
        << state(phase="resolving")
    )


def test_unknown_is_resolved_by_readback():
    transcript = lost(book()) >> ends(readback("open", op_count=8))
    transcript << answer(outcome="done", resolved=True, detail="resolved by readback") << state(phase=None, intents=1)


def test_a_crash_between_intent_and_outcome_is_resolved_by_readback():
    (
        book()
        >> call("open", ask())
        << activity("OperateBreaker")
        >> breaks("ActivityInterrupted", "the process died")
        << activity("ReadBreaker")
        >> ends(readback("open", op_count=8))
        << answer(outcome="done", resolved=True)
        << state(intents=1)
    )


def test_a_proven_miss_is_sent_once_more_and_only_once():
    (
        lost(book())
        >> ends(readback("closed"))
        << activity("OperateBreaker", intent=2, deadline_us=START_US + 120_000_000)
        >> ends(outcome("unknown", "unknown"))
        << activity("ReadBreaker", intent=2)
        >> ends(readback("closed"))
        << answer(outcome="failed", detail=lambda text: "not executed" in text)
        << nothing()
        << state(intents=2)
    )


@pytest.mark.parametrize(
    ("meanwhile", "said"),
    [
        (later(121), readback("closed")),
        (signal("withdraw", {"request_id": "r1"}), readback("closed")),
        (signal("block", {"actor": "crew", "reason": "at work"}), readback("closed")),
        (later(0), readback("closed") | {"local": True}),
        (later(0), readback("closed", op_count=9)),
        (later(0), readback("closed", op_count=None)),
        (later(0), readback("intermediate")),
        (later(0), readback("bad")),
    ],
    ids=["deadline", "withdrawn", "blocked", "local", "it operated", "counter lost", "stuck between", "contacts"],
)
def test_without_proof_or_permission_nothing_is_sent_again(meanwhile, said):
    transcript = lost(book()) >> meanwhile >> ends(said) << answer(outcome="failed", resolved=True)
    transcript << nothing() << state(intents=1, phase=None)


def test_a_position_that_was_never_read_proves_nothing():
    transcript = EntityBook(breaker_entity(lambda _: ORDINARY), "breaker", "F1", Breaker)
    lost(transcript) >> ends(readback("closed")) << answer(outcome="failed") << nothing()


def test_an_unreadable_breaker_tells_unknown_and_resolves_when_it_is_seen():
    (
        lost(book())
        >> ends(readback("closed", quality="bad"))
        << answer(outcome="unknown", resolved=False)
        << state(phase="unresolved")
        >> later(3600)
        >> signal("observe", OPEN)
        << nothing()
        << state(phase=None, command=None, position="open", shed=lambda shed: shed["procedure"] == "proc-1")
    )


def test_seen_in_the_old_position_after_an_outage_asks_for_a_settled_readback():
    (
        lost(book())
        >> breaks("TimeoutError")
        << answer(outcome="unknown")
        >> signal("observe", CLOSED)
        << activity("ReadBreaker", intent=1)
        >> later(600)
        >> ends(readback("closed"))
        << nothing()
        << state(phase=None, recent=lambda ended: ended[-1]["result"] == "failed" and ended[-1]["resolved"])
    )


def test_an_unresolved_breaker_takes_no_new_command_but_is_read():
    (
        lost(book())
        >> ends(readback("closed", quality="bad"))
        << answer(outcome="unknown")
        >> call("close", ask(2), by="other")
        << activity("ReadBreaker", intent=1)
        << answer("other", outcome="refused", detail=lambda text: "not known yet" in text)
    )


def test_who_asks_again_for_an_unresolved_request_gets_its_resolution():
    (
        lost(book())
        >> ends(readback("closed", quality="bad"))
        << answer(outcome="unknown")
        >> call("open", ask(), by="again")
        << activity("ReadBreaker", intent=1)
        >> ends(readback("open", op_count=8))
        << answer("again", outcome="done", resolved=True)
    )


def test_a_person_can_ask_to_resolve():
    transcript = lost(book()) >> ends(readback("closed", quality="bad")) << answer(outcome="unknown")
    transcript >> signal("resolve", {"actor": "m.meier"}) << activity("ReadBreaker", intent=1)


def test_a_late_result_of_an_older_read_is_ignored():
    transcript = lost(book()) >> signal("observe", OPEN) << answer(outcome="done")
    transcript >> ends(readback("closed")) << nothing() << state(phase=None, position="open")


# --- what forbids -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("before", "words"),
    [
        (signal("block", {"actor": "crew", "reason": "at work"}), "blocked by crew"),
        (signal("observe", CLOSED | {"local": True}), "local"),
        (signal("observe", CLOSED | {"position": "bad"}), "position is bad"),
        (signal("observe", CLOSED | {"position": "intermediate"}), "position is intermediate"),
    ],
)
def test_interlocks_outrank_force(before, words, force):
    transcript = book() >> before >> call("open", ask(force=force))
    transcript << answer(outcome="refused", detail=lambda text: words in text) << nothing()


def test_a_block_may_forbid_one_direction_and_ends():
    only_close = {"actor": "crew", "open": False, "close": True}
    transcript = book() >> signal("block", only_close) >> call("open", ask()) << activity("OperateBreaker")
    transcript >> ends(outcome("done", "open")) << answer(outcome="done")
    transcript >> call("close", ask(2)) << answer(outcome="refused")
    transcript >> signal("unblock", {"actor": "crew"}) >> call("close", ask(2)) << activity("OperateBreaker")


def test_a_critical_feeder_is_never_shed():
    for force in (False, True):
        transcript = book(HOSPITAL) >> call("open", ask(force=force))
        transcript << answer(outcome="refused", detail="a critical feeder is never shed") << nothing()


def test_a_person_opens_a_critical_feeder_only_with_force():
    transcript = book(HOSPITAL) >> call("open", by_hand()) << answer(outcome="refused")
    transcript >> call("open", by_hand() | {"force": True}) << activity("OperateBreaker")


def test_a_feeder_without_a_tier_is_not_shed_but_a_person_may_open_it():
    transcript = book(STREET_LIGHT) >> call("open", ask()) << answer(outcome="refused")
    transcript >> call("open", by_hand()) << activity("OperateBreaker") >> ends(outcome("done", "open"))
    transcript << answer(outcome="done") << state(shed=None)


def test_the_hourly_cap_and_how_force_lifts_it():
    transcript = book()
    for number in range(3):
        transcript >> call("open", ask(10 + number)) << activity("OperateBreaker") >> ends(outcome("done", "open"))
        transcript << answer(outcome="done")
        transcript >> call("close", ask(20 + number)) << activity("OperateBreaker") >> ends(outcome("done", "closed"))
        transcript << answer(outcome="done")
    transcript >> call("open", ask(30)) << answer(outcome="refused", detail=lambda text: "cap" in text)
    transcript >> call("open", ask(31, force=True)) << activity("OperateBreaker") >> ends(outcome("done", "open"))
    transcript << answer(outcome="done")
    transcript >> later(3601) >> call("close", ask(32)) << activity("OperateBreaker")


def test_two_failed_closes_lock_out_until_someone_resets():
    transcript = book(seen=OPEN)
    for number in (1, 2):
        transcript >> call("close", ask(number)) << activity("OperateBreaker") >> ends(outcome("failed", "open"))
        transcript << answer(outcome="failed")
    transcript >> call("close", ask(3, force=True)) << answer(outcome="refused", detail=lambda t: "locked out" in t)
    transcript >> signal("reset", {"actor": "m.meier"}) >> call("close", ask(3)) << activity("OperateBreaker")


def test_an_unreachable_device_locks_nothing_out():
    transcript = book(seen=OPEN)
    for number in (1, 2, 3):
        transcript >> call("close", ask(number)) << activity("OperateBreaker")
        transcript >> ends(outcome("not_sent", "unknown", sent=False)) << answer(outcome="not_sent")


def test_commanded_is_not_measured():
    transcript = book() >> call("open", ask()) << activity("OperateBreaker")
    transcript << state(commanded="open", position="closed")
    transcript >> signal("observe", OPEN | {"quality": "uncertain"}) << state(quality="uncertain") << nothing()


def test_bad_messages_are_errors_and_change_nothing():
    transcript = book() >> call("open", {"actor": "x"}) << error("request_id")
    transcript >> call("explode") << error("no operation 'explode'")
    transcript << state(intents=None, phase=None)
    book_of_unknown = EntityBook(breaker_entity(lambda _: None), "breaker", "F9", Breaker)
    book_of_unknown >> call("open", ask()) << error("no feeder 'F9'")


# --- the table itself -------------------------------------------------------------------------------------------------

EXPECTED_ROWS = """
idle       START OPERATING | ALREADY_THERE IDLE | TOO_LATE IDLE | READ_AGAIN IDLE
operating  JOIN OPERATING | BUSY OPERATING | DONE IDLE | DECLINED IDLE | FAILED IDLE | NOT_SENT IDLE | OUTLIVED IDLE
operating  LOST RESOLVING | READ_AGAIN OPERATING | WITHDRAWN OPERATING
resolving  JOIN RESOLVING | BUSY RESOLVING | AT_TARGET IDLE | UNMOVED_SEND_AGAIN OPERATING | NOT_EXECUTED IDLE
resolving  ASTRAY IDLE | UNREADABLE UNRESOLVED | READ_AGAIN RESOLVING | WITHDRAWN RESOLVING
unresolved JOIN RESOLVING | BUSY RESOLVING | AT_TARGET IDLE | READ_AGAIN RESOLVING | WITHDRAWN UNRESOLVED
"""
EVERYWHERE = ("AGAIN", "REFUSED", "STALE", "SEEN", "BLOCKED", "UNBLOCKED", "RESET")


def test_the_table_is_this_one_and_no_other():
    rows = {(phase, Event[name], phase) for phase in Phase for name in EVERYWHERE}
    for line in EXPECTED_ROWS.strip().splitlines():
        phase, cells = line.split(maxsplit=1)
        for cell in cells.split(" | "):
            event, after = cell.split()
            rows.add((Phase(phase), Event[event], Phase[after]))
    assert rows == {(phase, event, row[0]) for phase, table in TABLE.items() for event, row in table.items()}


def test_every_event_has_a_place():
    assert {event for table in TABLE.values() for event in table} == set(Event)


def test_every_message_is_understood_in_every_phase():
    transcripts = {
        Phase.IDLE: book(),
        Phase.OPERATING: book() >> call("open", ask()),
        Phase.RESOLVING: lost(book()),
        Phase.UNRESOLVED: lost(book()) >> ends(readback("closed", quality="bad")),
    }
    inputs: dict[str, dict[str, object]] = {
        "open": ask(9),
        "close": ask(9),
        "withdraw": {"request_id": "r1"},
        "command_result": {"ok": True, "result": outcome("done", "open"), "context": {"intent": 1}},
        "readback_result": {"ok": True, "result": readback("open"), "context": {"intent": 1, "read": 1}},
        "observe": OPEN,
        "resolve": {"actor": "x"},
        "block": {"actor": "x"},
        "unblock": {"actor": "x"},
        "reset": {"actor": "x"},
    }
    assert set(inputs) == set(MESSAGES)
    for phase, transcript in transcripts.items():
        assert transcript.state.phase is phase
        for operation, input_ in inputs.items():
            before = transcript.snapshot
            transcript.said.clear()
            transcript >> signal(operation, input_)
            transcript.snapshot = before


# --- a breaker that obeys late ---


def _failed_opening(op_count: int = 7, procedure: str = "p") -> Breaker:
    detail = "accepted, but after 3 s it is closed"
    ended = Ended(
        "r", Position.OPEN, Result.FAILED, detail, "p", 1_000_000, 1, procedure=procedure, kw=12.5, op_count=op_count
    )
    return Breaker(position=Position.CLOSED, quality=Quality.GOOD, local=False, op_count=op_count, recent=(ended,))


def _then_seen(state: Breaker, after_s: float, **seen: object) -> Breaker:
    message = Observation(**({"position": Position.OPEN, "quality": Quality.GOOD, "op_count": 8} | seen))  # type: ignore[arg-type]
    now_us = 1_000_000 + int(after_s * 1e6)
    after, effects = transition(state, ORDINARY, message, classify(state, ORDINARY, "observe", message, now_us), now_us)
    assert effects == []
    return after


def test_a_breaker_that_opens_right_after_its_opening_failed_belongs_to_the_procedure():
    shed = _then_seen(_failed_opening(), 5.0).shed
    assert shed is not None
    assert (shed.procedure, shed.kw) == ("p", 12.5)


@pytest.mark.parametrize(
    ("state", "after_s", "seen"),
    [
        (_failed_opening(), 61.0, {}),
        (_failed_opening(), 5.0, {"local": True}),
        (_failed_opening(), 5.0, {"op_count": 9}),
        (_failed_opening(), 5.0, {"op_count": 7}),
        (_failed_opening(procedure=""), 5.0, {}),
        (Breaker(position=Position.CLOSED, quality=Quality.GOOD), 5.0, {}),
    ],
    ids=["too late", "by hand at the device", "two operations", "none counted", "a person's own command", "no command"],
)
def test_what_somebody_else_has_opened_belongs_to_no_procedure(state, after_s, seen):
    assert _then_seen(state, after_s, **seen).shed is None


@pytest.mark.parametrize("full", [255, 65_535, 4_294_967_295])
def test_a_counter_that_goes_on_with_0_after_its_last_number_has_counted_one(full):
    shed = _then_seen(_failed_opening(op_count=full), 5.0, op_count=0).shed
    assert shed is not None
    assert shed.procedure == "p"
    assert _then_seen(_failed_opening(op_count=full - 1), 5.0, op_count=0).shed is None
