"""The audit as lines: who, from where, what, why, what became of it; and nobody can write themselves another line."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.audit import audit_lines, name
from gateway.cli.fields import Fields

AT = 1_768_435_199_000_000
OLA = {"via": "opcua", "user": "ola", "role": "OPERATOR", "session": "fe1cd0f6-871c", "certificate": "d489a34e8367"}


def shown(told: dict[str, Any], kind: str = "audit", refused: bool = False, before: int | None = None) -> list[str]:
    record = {"seq": 81, "time_us": AT, "kind": kind, "refused": refused, "told": told}
    return audit_lines(Fields({"records": [record], "next": before}))


def line(told: dict[str, Any], kind: str = "audit", refused: bool = False) -> str:
    head, row = shown(told, kind, refused)
    assert head.split() == ["SEQ", "TIME", "WHO", "FROM", "WHAT"]
    return row


def test_a_call_over_opcua() -> None:
    told = {"op": "opcua.BreakerType.Open", "actor": "ola", "peer": {**OLA, "address": "10.0.0.1:5"}, "object": "B1"}
    told |= {"inputs": {"Reason": "smoke", "Force": True}, "reason": "smoke", "status": "ok", "message": "opened"}
    assert line(told) == (
        " 81  2026-01-14 23:59:59Z  ola (OPERATOR)  opcua 10.0.0.1:5 sess fe1cd0f6 cert d489a34e  "
        'opcua.BreakerType.Open B1 Force=true; because "smoke"; ok: opened'
    )


def test_the_user_of_the_socket_stands_before_the_name_that_was_given() -> None:
    told = {"op": "mode", "actor": "jane (root)", "peer": {"user": "root", "pid": 7}, "mode": "armed", "reason": "go"}
    assert line(told).endswith('  root as jane  socket pid 7  mode mode=armed; because "go"; asked')
    refused = line({**told, "refused": "not now"}, "audit_refused", refused=True)
    assert refused.endswith('because "go"; REFUSED: not now')


def test_somebody_turned_away_at_the_door() -> None:
    told = {"op": "opcua.login_refused", "actor": "eve", "peer": {"via": "opcua", "user": "eve"}, "detail": "wrong"}
    assert line(told, refused=True).endswith("  eve  opcua -  opcua.login_refused; REFUSED: wrong")


def test_the_gateway_itself() -> None:
    told = {"event": "started", "pid": 9, "version": "1.0"}
    assert line(told, "gateway").endswith("  gateway  pid 9  gateway.started version=1.0")


@pytest.mark.parametrize(
    "forged", ["jane\n 99  2026", "jane\x1b[2K", "jane  socket pid 1", 'a" (ENGINEER)', "a\u202eb"]
)
def test_a_name_can_t_pass_for_anything_else(forged: str) -> None:
    row = line({"op": "mode", "actor": f"{forged} (root)", "peer": {"user": "root", "pid": 7}, "reason": forged})
    assert row.isprintable()
    assert f"root as {name(forged)}  socket" in row
    assert name(forged).startswith('"')
    assert '"' not in name(forged)[1:-1].replace('\\"', "")


def test_different_names_look_different() -> None:
    names = ["a", '"a"', "a\n", "a\\n", "-", "", "a b", "a  b"]
    assert len({name(one) for one in names}) == len(names)


def test_long_arguments_are_cut_and_say_so() -> None:
    row = line({"op": "x", "actor": "a", "peer": {"user": "a"}, "data": ["y" * 500]})
    assert "(--json tells all)" in row
    assert len(row) < 300


def test_how_to_go_on() -> None:
    assert shown({"op": "x"}, before=81)[-1] == "There may be more: --before 81"
    assert audit_lines(Fields({"records": [], "next": None})) == ["No record fits."]
    nothing = audit_lines(Fields({"records": [], "next": 5}))
    assert (nothing[0], nothing[-1]) == ("No record fits so far.", "There may be more: --before 5")


def test_an_answer_of_another_version_is_no_traceback() -> None:
    assert audit_lines(Fields({"records": [{}, 3]}))


def test_where_older_records_are_is_said_at_the_end_of_the_last_page() -> None:
    told = {"records": [], "next": None, "archived_in": "journal-5d-1-9.jsonl.gz"}
    assert audit_lines(Fields(told)) == [
        "No record fits.",
        "",
        "Older records are archived in journal-5d-1-9.jsonl.gz.",
    ]
