"""The matrix of roles: each cell as it is meant, nothing forgotten, and the README tells the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.operator.event_types import BY_NAME, KINDS
from gateway.operator.roles import CALL, READ, SEE, Role, granting, markdown, may_read, may_see, roles_of
from gateway.operator.surface_model import TYPES
from protocols.opcua.surface import Caller

V, O, E, S, A = Role  # noqa: E741 - as the columns of the matrix
ALL = {V, O, E, S, A}

CELLS: dict[str, set[Role]] = {
    "read GatewayType": {V, O, E, S, A},
    "read GridStressType": {V, O, E, A},
    "read LoadSheddingType": {V, O, E, A},
    "read BreakerType": {V, O, E, A},
    "read OrchestrationsType": {V, O, E, A},
    "read OrchestrationType": {V, O, E, A},
    "read TimersType": {V, O, E, A},
    "read TimerType": {V, O, E, A},
    "read SecurityType": {S, A},
    "call LoadSheddingType.StartShedding": {O},
    "call LoadSheddingType.Override": {O},
    "call LoadSheddingType.SetMode": {O, E},
    "call LoadSheddingType.Release": {O},
    "call LoadSheddingType.RaiseEvent": {O, E},
    "call LoadSheddingType.Suspend": {E},
    "call LoadSheddingType.Resume": {E},
    "call LoadSheddingType.Terminate": {E},
    "call BreakerType.Open": {O},
    "call BreakerType.Close": {O},
    "call BreakerType.Block": {O},
    "call BreakerType.Unblock": {O},
    "call GatewayType.Acknowledge": {O, E, S},
    "see ShedStarted": {V, O, E, A},
    "see BreakerFailedAlarm": {V, O, E, A},
    "see JournalTroubleAlarm": {V, O, E, S, A},
    "see DiskSpaceAlarm": {V, O, E, S, A},
    "see LoginFailed": {S, A},
    "see AttackSeen": {S, A},
}


def granted(cell: str, role: Role) -> bool:
    what, _, name = cell.partition(" ")
    match what:
        case "read":
            return may_read({role}, name)
        case "call":
            return granting({role}, *name.split(".")) is role
        case _:
            return may_see({role}, name)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("cell", CELLS)
def test_each_cell(cell: str, role: Role) -> None:
    assert granted(cell, role) is (role in CELLS[cell])


def test_every_type_method_and_group_has_a_row_and_nothing_else_has() -> None:
    assert set(READ) == {each.name for each in TYPES}
    assert set(CALL) == {(each.name, method.name) for each in TYPES for method in each.methods}
    assert set(SEE) == {kind.group for kind in KINDS}


def test_the_cells_above_are_the_whole_matrix() -> None:
    assert {f"read {name}" for name in READ} <= set(CELLS)
    assert {f"call {type_name}.{method}" for type_name, method in CALL} <= set(CELLS)
    assert {BY_NAME[cell.removeprefix("see ")].group for cell in CELLS if cell.startswith("see ")} == set(SEE)


def test_what_nobody_was_granted_is_denied_to_all() -> None:
    assert not may_read(ALL, "NoType")
    assert granting(ALL, "BreakerType", "Explode") is None
    assert granting(ALL, "GatewayType", "Open") is None
    assert not may_see(ALL, "NoEvent")
    assert not may_read(set(), "GatewayType")


def test_an_auditor_reads_all_and_changes_nothing() -> None:
    assert all(A in roles for roles in (*READ.values(), *SEE.values()))
    assert not any(A in roles or V in roles for roles in CALL.values())


def caller(user: str, *roles: str) -> Caller:
    return Caller("s", user, frozenset(roles), "", "10.0.0.1:1")


def test_several_roles_add_up_and_unknown_ones_count_for_nothing() -> None:
    assert roles_of(caller("m", "VIEWER", "SECADM", "EMPEROR"), anonymous_read=False) == {V, S}
    assert roles_of(caller("m", "operator"), anonymous_read=True) == set()


def test_who_has_no_name_only_looks_and_only_where_the_site_permits_it() -> None:
    claims = caller("", "OPERATOR", "SECADM")
    assert roles_of(claims, anonymous_read=False) == set()
    assert roles_of(claims, anonymous_read=True) == {V}


def test_the_role_that_counts_is_the_one_that_grants_it() -> None:
    assert granting({V, E, S}, "GatewayType", "Acknowledge") is E
    assert granting({V, E}, "LoadSheddingType", "Override") is None


def test_the_readme_shows_the_matrix() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    shown = readme.partition("<!-- roles: begin -->\n")[2].partition("<!-- roles: end -->")[0]
    assert shown == markdown(), "write what gateway.operator.roles.markdown() gives between the marks"
