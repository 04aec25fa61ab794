"""A small journal with what evidence is made of: people, a breaker, a procedure, and texts that mean harm."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.evidence.entry import Wanted
from gateway.evidence.exporting import export
from gateway.evidence.formats import FORMATS
from gateway.evidence.reading import open_record
from gateway.evidence.signing import Signer
from journal import Journal

AT = 1_768_377_600_000_000
"""2026-01-14T08:00:00Z"""
SECOND = 1_000_000
NASTY = '=HYPERLINK("http://x")\n<b>&\x00\x1b[2K]"\\ \u202e \ufffe \U0001f50c Zoë'
NOW = "2026-01-14T09:00:00.000Z"
EVERY = sorted(FORMATS)


@dataclass
class Batch:
    time_us: int
    records: list[tuple[int, str, str, int, bytes]] = field(default_factory=list)
    instances: dict[str, Any] = field(default_factory=dict)
    instances_removed: set[str] = field(default_factory=set)
    messages_added: dict[int, Any] = field(default_factory=dict)
    messages_removed: set[int] = field(default_factory=set)
    timers_added: dict[Any, Any] = field(default_factory=dict)
    timers_removed: set[Any] = field(default_factory=set)
    activities_added: dict[Any, Any] = field(default_factory=dict)
    activities_removed: set[Any] = field(default_factory=set)


Told = tuple[str, str, Any]
"""instance, kind, payload (bytes as they are, else as JSON)"""


async def write(path: Path, batches: Iterable[list[Told]]) -> None:
    """A journal with these records, one second between two batches."""
    journal = await Journal.open(path)
    seq, at = journal.head().seq, max(AT, journal.head().time_us)
    for told in batches:
        batch = Batch(at)
        for instance, kind, payload in told:
            seq += 1
            content = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
            batch.records.append((seq, instance, kind, at, content))
        await journal.commit(batch)
        at += SECOND
    await journal.close()


def some_batches() -> list[list[Told]]:
    peer = {"pid": 7, "uid": 0, "user": "root"}
    return [
        [("", "gateway", {"event": "started", "pid": 1, "site": "Northgate"})],
        [("", "audit", {"op": "mode", "actor": "jane (root)", "peer": peer, "mode": "armed", "reason": "summer"})],
        [("@breaker@F1", "operations", {"operations": [{"name": "open", "input": {"actor": "jane", "kw": 12.5}}]})],
        [("", "audit_refused", {"op": "breakers.open", "actor": "eve", "feeder": "F2", "refused": NASTY})],
        [("shed-1", "turn", {"events": [{"type": "EventRaised", "name": "Override", "data": {"feeders": ["F1"]}}]})],
        [("@x@" + NASTY.replace("\x00", ""), "odd", b"\xff\x00 no JSON"), ("=1+1", "pretty", b'{"a":\n [1,\t2]}')],
        [("", "gateway", {"event": "stopping", "why": NASTY})],
    ]


class Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def put(self, content: bytes) -> None:
        self.parts.append(content)

    @property
    def content(self) -> bytes:
        return b"".join(self.parts)


ALL = Wanted()


def exported(journal: Path, form: str, wanted: Wanted = ALL, signer: Signer | None = None) -> bytes:
    kept = Kept()
    with open_record(journal) as source:
        export(source, form, wanted, kept, NOW, signer)
    return kept.content
