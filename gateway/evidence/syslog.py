"""Entries as syslog messages (RFC 5424).

``<PRI>1 TIME HOST gridlatch - KIND [gridlatch@32473 …] BOM payload``. Facility 13 (log audit); severity: warning for what
was refused, notice for what people and the daemon itself did, informational for the rest. 32473 is the enterprise number
that RFC 5612 reserves for documentation, for want of one of our own. Times have microseconds.

What must stay true: a message is one line without control characters; one that would be longer than a receiver takes is
sent in parts (``part="2/3"``) that together hold the whole payload: it is never cut in silence. Pure.
"""

from __future__ import annotations

import re
import socket
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.evidence.entry import Entry, payload_text, visible

UNLIMITED: Final = 2**31
FACILITY: Final = 13
WARNING, NOTICE, INFORMATIONAL = 4, 5, 6
_BOM: Final = "\ufeff"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_PRINTABLE_ASCII: Final = re.compile(r"[^!-~]")
_VALUE_BYTES: Final = 80
_INSTANCE_BYTES: Final = 320
"""So that all values together leave room for the payload, in the shortest message that can be asked for. An instance
id is told whole, unless it is longer than any that the gateway makes."""


def messages(entry: Entry, limit_bytes: int) -> list[bytes]:
    """The entry as one message, or as several none of which is longer than limit_bytes (1024 or more)."""
    payload = payload_text(entry.payload).encode()
    start, data = _start(entry), _data(entry)
    whole = f"{start} [{data}] {_BOM}".encode() + payload
    if len(whole) <= limit_bytes:
        return [whole]
    room = limit_bytes - len(f'{start} [{data} part="000000/000000"] {_BOM}'.encode())
    parts = _cut(payload, max(room, 64))
    return [
        f'{start} [{data} part="{number}/{len(parts)}"] {_BOM}'.encode() + part
        for number, part in enumerate(parts, start=1)
    ]


def seal_message(seal: str) -> bytes:
    """The seal as a message that it alone determines."""
    exported = seal.partition(" exported=")[2].partition(" ")[0]
    return f"<{FACILITY * 8 + NOTICE}>1 {exported} - gridlatch - seal - {seal}".encode()


def severity(entry: Entry) -> int:
    """As in RFC 5424, 6.2.1."""
    if entry.refused:
        return WARNING
    return NOTICE if entry.kind in ("audit", "gateway") or not entry.seq else INFORMATIONAL


def _start(entry: Entry) -> str:
    time = (_EPOCH + timedelta(microseconds=entry.time_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    kind = _NOT_PRINTABLE_ASCII.sub("_", entry.kind)[:32] or "-"
    return f"<{FACILITY * 8 + severity(entry)}>1 {time} {_host()} gridlatch - {kind}"


def _host() -> str:
    return _NOT_PRINTABLE_ASCII.sub("_", socket.gethostname())[:255] or "-"


def _data(entry: Entry) -> str:
    values = (
        ("seq", str(entry.seq) if entry.seq else ""),
        ("instance", entry.instance),
        ("op", entry.op),
        ("feeder", entry.feeder),
        ("actor", entry.actor),
        ("user", entry.user),
    )
    told = [
        f'{name}="{_value(text, _INSTANCE_BYTES if name == "instance" else _VALUE_BYTES)}"'
        for name, text in values
        if text
    ]
    return " ".join(["gridlatch@32473", *told])


def _value(text: str, room: int) -> str:
    """A parameter's value in at most ``room`` bytes: what is shortened, the payload has whole."""
    parts: list[str] = []
    for character in visible(text):
        part = f"\\{character}" if character in '"\\]' else character
        room -= len(part.encode())
        if room < 3:
            return "".join([*parts, "…"])
        parts.append(part)
    return "".join(parts)


def _cut(payload: bytes, room: int) -> list[bytes]:
    """Pieces of at most ``room`` bytes that end between characters."""
    parts: list[bytes] = []
    begin = 0
    while begin < len(payload):
        end = min(begin + room, len(payload))
        while end < len(payload) and payload[end] & 0xC0 == 0x80:
            end -= 1
        parts.append(payload[begin:end])
        begin = end
    return parts
