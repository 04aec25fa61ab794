"""Why a breaker stands where it stands, in sentences: commanded by a procedure, by a person, or by nobody."""

from __future__ import annotations

from typing import Any

from gateway.cli.fields import Fields
from gateway.cli.why import why_lines

AT = 1_768_435_199_000_000
NOBODY = {"decision": None, "stress": None, "started_by": None, "asked": None}


def move(**more: Any) -> dict[str, Any]:
    told = {
        "at_us": AT,
        "target": "open",
        "outcome": "done",
        "sent": True,
        "position": "open",
        "detail": "read back open",
    }
    told |= {"read_us": AT + 9_400_000, "ended_us": AT + 9_400_000, "actor": "shed-1", "procedure": "shed-1", "kw": 1.3}
    return {**told, "reason": "heat", "force": False, "request_id": "shed-1:5/7B", **NOBODY, **more}


def shown(*moves: dict[str, Any], **more: Any) -> list[str]:
    answer = {
        "feeder": "7B",
        "position": "open",
        "quality": "good",
        "observed_us": AT,
        "complete": True,
        "closes": None,
    }
    return why_lines(Fields({**answer, "moves": list(moves), **more}))


DECISION = {
    "name": "LoadSheddingProtocol",
    "step": 5,
    "activity": "SendDisconnectCommand",
    "started_us": AT - 1_000_000,
    "reason": "loading 98.6 %",
    "actor": "",
    "phase": "shedding",
    "tier": "T2",
    "sentence": "opens 3 of 3 feeders of T2; waits for readback",
    "target_kw": 6.9,
    "shed_kw": 0.0,
    "measured": {"good": True, "kw": 189.1, "percent": 98.59, "capacity_kw": 191.8},
    "measured_us": AT - 500_000,
    "cooldown": "4 kW of T1 shed; waits until 2026-01-14T23:50:00Z",
    "override": None,
}


def test_a_procedure_and_all_that_it_decided_upon() -> None:
    stress = {"on": True, "load_pct": 98.6, "at_us": AT - 2_000_000}
    closes = {"by": "procedure", "procedure": "shed-1", "why": "shed-1 runs, and closes it when the load permits"}
    assert shown(move(decision=DECISION, stress=stress), closes=closes) == [
        "7B is open, read 2026-01-14 23:59:59Z, quality good.",
        "To be closed by its procedure: shed-1 runs, and closes it when the load permits.",
        "",
        "2026-01-14 23:59:59Z  opened by shed-1 (LoadSheddingProtocol)",
        "    because   loading 98.6 %, started 2026-01-14 23:59:58Z",
        "    stress    stress was told at 98.6 %, 2026-01-14 23:59:57Z",
        "    step      shedding, T2: opens 3 of 3 feeders of T2; waits for readback (step 5, SendDisconnectCommand)",
        "    cooldown  4 kW of T1 shed; waits until 2026-01-14 23:50:00Z",
        "    measured  98.6 %, 189 kW of 192 kW, 2026-01-14 23:59:58Z",
        "    goal      6.9 kW to be shed in all, 0.0 kW were; this feeder 1.3 kW",
        "    outcome   done; read back open 2026-01-15 00:00:08Z, after 9.4 s",
    ]


def test_a_person_and_the_user_behind_the_name() -> None:
    asked = {"op": "breakers.open", "peer": {"user": "root", "pid": 77}}
    closes = {"by": "person", "why": "jane opened it by hand", "command": "gridlatch breakers close 7B --reason TEXT"}
    by_hand = move(actor="jane (root)", procedure="", request_id="operator/1", asked=asked)
    assert shown(by_hand, closes=closes)[1:] == [
        "To be closed by a person: jane opened it by hand.",
        "    gridlatch breakers close 7B --reason TEXT",
        "",
        "2026-01-14 23:59:59Z  opened by jane (root)",
        "    because   heat",
        "    asked     breakers.open, by user root of process 77",
        "    outcome   done; read back open 2026-01-15 00:00:08Z, after 9.4 s",
    ]


def test_an_operator_through_a_procedure() -> None:
    word = {"decision": "force-open", "actor": "jane", "reason": "ice", "at_us": AT - 1_000_000}
    decision = {**DECISION, "override": word, "measured": None, "target_kw": None, "cooldown": ""}
    lines = shown(move(actor="jane", force=True, decision=decision, started_by={"actor": "bob", "reason": "drill"}))
    assert lines[2] == "2026-01-14 23:59:59Z  opened by jane, through shed-1 (LoadSheddingProtocol), with force"
    assert "    because   loading 98.6 %, started 2026-01-14 23:59:58Z by bob (drill)" in lines
    assert "    override  force-open by jane: ice, 2026-01-14 23:59:58Z" in lines
    assert "    measured  it had measured no load by then" in lines


def test_nobody() -> None:
    lines = shown(move(outcome="by itself", actor="", procedure="", request_id=""))
    assert lines[2:] == [
        "2026-01-14 23:59:59Z  opened without a command of this gateway (protection, or a hand at the breaker)"
    ]


def test_what_failed_or_sent_nothing_is_not_told_as_a_move() -> None:
    failed = move(
        outcome="failed", position="closed", detail="still closed", procedure="", actor="jane", request_id="o/1"
    )
    nothing = {**failed, "outcome": "refused", "sent": False, "read_us": 0, "ended_us": AT, "detail": "blocked by bob"}
    lines = shown(failed, nothing)
    assert lines[2] == "2026-01-14 23:59:59Z  asked to open by jane"
    assert "    outcome   failed; read back closed 2026-01-15 00:00:08Z, after 9.4 s; still closed" in lines
    assert "    outcome   refused; 2026-01-14 23:59:59Z, after 0 ms; blocked by bob" in lines


def test_nothing_known_and_too_much_to_read() -> None:
    assert shown()[-1] == "Nothing is known of any command or move of this breaker."
    assert shown(complete=False)[-1].startswith("Among the latest records nothing is known")
    assert "the turn in which this was decided is not in the records" in "\n".join(shown(move()))


def test_a_load_that_could_not_be_measured_is_said() -> None:
    decision = {**DECISION, "measured": {"good": False, "kw": 0.0, "percent": 0.0, "capacity_kw": 1.0}}
    assert "    measured  the load could not be measured, 2026-01-14 23:59:58Z" in shown(move(decision=decision))


def test_what_was_archived_is_said_and_never_told_as_unknown() -> None:
    told = {"feeder": "7B", "position": "closed", "quality": "good", "moves": [], "complete": True}
    lines = why_lines(Fields({**told, "archived_in": "journal-5d-1-9.jsonl.gz"}))
    assert lines[-2:] == [
        "The journal holds no command or move of this breaker any more.",
        "Older records are archived in journal-5d-1-9.jsonl.gz.",
    ]
    moved = {"at_us": 1, "target": "open", "outcome": "by itself"}
    one = why_lines(Fields({**told, "moves": [moved], "archived_in": "a.gz"}))
    assert one[-1] == "Older records are archived in a.gz."
    assert "archived" not in why_lines(Fields({**told, "moves": [moved] * 6, "archived_in": "a.gz"}))[-1]
