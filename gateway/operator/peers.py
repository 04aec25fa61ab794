"""Who is at the other end of a session, as records name them; and texts of strangers made fit to be kept.

What must stay true: nothing that a stranger sends can break a record or a line of the log: texts are cut and what can't
be printed is replaced. Pure; a crash changes nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.durable.codec import Json
from protocols.opcua.surface import Caller, Value

TEXT_AT_MOST = 400
ITEMS_AT_MOST = 32


def printable(text: str, most: int = TEXT_AT_MOST) -> str:
    """The text without what can't be printed, and at most so long."""
    cut = text[:most]
    return cut if cut.isprintable() else "".join(c if c.isprintable() else "?" for c in cut)


def peer(caller: Caller, role: str = "") -> dict[str, Json]:
    """A caller, for a record. role: the one by which they may do what they ask for."""
    told: dict[str, Json] = {
        "via": "opcua",
        "user": printable(caller.user),
        "session": printable(caller.session, 80),
        "certificate": printable(caller.certificate, 80),
        "address": printable(caller.address, 80),
        "application": printable(caller.application, 120),
        "roles": sorted(printable(role, 40) for role in caller.roles)[:ITEMS_AT_MOST],
    }
    return {**told, "role": role} if role else told


def host(address: str) -> str:
    """An address without its port."""
    head, colon, port = address.rpartition(":")
    return head if colon and port.isdigit() else address


def argument(value: Value) -> Json:
    """An argument of a call, for a record: long texts and lists are cut, and say so."""
    if isinstance(value, str):
        more = f" … ({len(value)} characters)" if len(value) > TEXT_AT_MOST else ""
        return printable(value) + more
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None  # JSON has neither NaN nor infinity
    if value is None or isinstance(value, bool | int):
        return value
    if not isinstance(value, Sequence):
        return printable(str(value))
    shown = [argument(one) for one in value[:ITEMS_AT_MOST]]
    return shown if len(value) <= ITEMS_AT_MOST else [*shown, f"… ({len(value)} in all)"]
