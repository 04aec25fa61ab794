"""Who may do what: one matrix, as data. The gateway decides by it, the README's table is made of it, a test reads both.

Names and meaning of the roles follow IEC 62351-8. What must stay true: what is not granted is denied; nobody without a
name ever acts; whoever sees no events of a group can't acknowledge its alarms either. A crash changes nothing here.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping

from gateway.operator import names
from gateway.operator.event_types import BY_NAME, Group
from protocols.opcua.surface import Caller


class Role(enum.StrEnum):
    """VIEWER looks. OPERATOR works the grid. ENGINEER works on programs and the mode. SECADM looks after who gets in.
    AUDITOR reads all and changes nothing."""

    VIEWER = "VIEWER"
    OPERATOR = "OPERATOR"
    ENGINEER = "ENGINEER"
    SECADM = "SECADM"
    AUDITOR = "AUDITOR"


_V, _O, _E, _S, _A = Role
_Roles = frozenset[Role]


def _roles(*roles: Role) -> _Roles:
    return frozenset(roles)


READ: Mapping[str, _Roles] = {
    names.GATEWAY_TYPE: _roles(_V, _O, _E, _S, _A),
    names.STRESS_TYPE: _roles(_V, _O, _E, _A),
    names.SHEDDING_TYPE: _roles(_V, _O, _E, _A),
    names.BREAKER_TYPE: _roles(_V, _O, _E, _A),
    names.ORCHESTRATIONS_TYPE: _roles(_V, _O, _E, _A),
    names.ORCHESTRATION_TYPE: _roles(_V, _O, _E, _A),
    names.TIMERS_TYPE: _roles(_V, _O, _E, _A),
    names.TIMER_TYPE: _roles(_V, _O, _E, _A),
    names.SECURITY_TYPE: _roles(_S, _A),
}
"""Type of an object → who may read its variables, subscribe to them and read their history."""

CALL: Mapping[tuple[str, str], _Roles] = {
    (names.SHEDDING_TYPE, "StartShedding"): _roles(_O),
    (names.SHEDDING_TYPE, "Override"): _roles(_O),
    (names.SHEDDING_TYPE, "SetMode"): _roles(_O, _E),
    (names.SHEDDING_TYPE, "Release"): _roles(_O),
    (names.SHEDDING_TYPE, "RaiseEvent"): _roles(_O, _E),
    (names.SHEDDING_TYPE, "Suspend"): _roles(_E),
    (names.SHEDDING_TYPE, "Resume"): _roles(_E),
    (names.SHEDDING_TYPE, "Terminate"): _roles(_E),
    (names.BREAKER_TYPE, "Open"): _roles(_O),
    (names.BREAKER_TYPE, "Close"): _roles(_O),
    (names.BREAKER_TYPE, "Block"): _roles(_O),
    (names.BREAKER_TYPE, "Unblock"): _roles(_O),
    (names.GATEWAY_TYPE, "Acknowledge"): _roles(_O, _E, _S),
}
"""Type of an object and method → who may call it."""

SEE: Mapping[Group, _Roles] = {
    Group.PROCESS: _roles(_V, _O, _E, _A),
    Group.SYSTEM: _roles(_V, _O, _E, _S, _A),
    Group.SECURITY: _roles(_S, _A),
}
"""Group of events and alarms → who sees them, and their history."""

ANONYMOUS: _Roles = _roles(_V)
"""What somebody without a name is, where the site lets such people look."""


def roles_of(caller: Caller, anonymous_read: bool) -> _Roles:
    """The roles of a caller, those that are known; who has no name only looks, and only where the site permits it."""
    if not caller.user:
        return ANONYMOUS if anonymous_read else frozenset()
    return frozenset(role for role in Role if role.value in caller.roles)


def may_read(roles: Iterable[Role], type_name: str) -> bool:
    """Whether one of these roles may read objects of this type."""
    return not READ.get(type_name, frozenset()).isdisjoint(roles)


def granting(roles: Iterable[Role], type_name: str, method: str) -> Role | None:
    """The role by which somebody with these roles may call this method, None if there is none."""
    granted = CALL.get((type_name, method), frozenset()).intersection(roles)
    return next((role for role in Role if role in granted), None)


def may_see(roles: Iterable[Role], event_type: str) -> bool:
    """Whether one of these roles sees events or alarms of this type."""
    kind = BY_NAME.get(event_type)
    return kind is not None and not SEE[kind.group].isdisjoint(roles)


def _rows() -> Iterator[tuple[str, _Roles]]:
    for type_name, granted in READ.items():
        yield f"read `{type_name}`", granted
    for (type_name, method), granted in CALL.items():
        yield f"call `{type_name}.{method}`", granted
    for group, granted in SEE.items():
        yield f"see {group.value} events and alarms", granted


def markdown() -> str:
    """The matrix as a table for the README."""
    head = "| | " + " | ".join(Role) + " |"
    lines = [head, "|---|" + ":-:|" * len(Role)]
    lines += [
        f"| {what} | " + " | ".join("✓" if role in granted else "" for role in Role) + " |" for what, granted in _rows()
    ]
    return "\n".join(lines) + "\n"
