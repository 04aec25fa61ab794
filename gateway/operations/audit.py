"""Who did what, newest first: the records of requests, refusals, log-ins and of the daemon itself, a page at a time.

These records belong to no instance, so they are linked to one another and found without reading anything else. What must
stay true: records are given as they are on disk, none in a span is left out in silence; each request reads a bounded
number of them in short reads, and says by which record to go on. Nothing is changed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from gateway.clock import to_us
from gateway.control import Code, ControlError
from gateway.durable.codec import Json
from gateway.evidence.entry import is_refused
from gateway.operations.arguments import Arguments, limit, moment, optional, text
from gateway.operations.desk import Desk, Log, older_in

KINDS = ("audit", "audit_refused", "gateway")
NOBODY = ""
"""The instance of records that belong to none."""
SLICE = 500
"""Records of one read: a few milliseconds to decode."""
READ_AT_MOST = 50_000
"""Records that one request looks at; it says where to go on."""
BYTES_AT_MOST = 2_000_000
"""Bytes of records in one answer, well below what a reply may have."""
LOOK_AHEAD = 100_000
"""Records of all kinds among which an entry into the links is sought; beyond, they are followed from their end."""
LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class _Wanted:
    since_us: int
    until_us: int
    before: int
    user: str | None
    op: str
    refused: bool

    def fits(self, seq: int, kind: str, time_us: int, told: Mapping[str, Json]) -> bool:
        return (
            kind in KINDS
            and seq < self.before
            and time_us <= self.until_us
            and _op(kind, told).startswith(self.op)
            and (self.user is None or _is_of(told, self.user))
            and (not self.refused or is_refused(kind, told))
        )


async def show_list(desk: Desk, args: Arguments) -> Json:
    """A page, newest first. next: go on before this record; None: the beginning, or ``since``, was reached."""
    most, wanted = limit(args), _wanted(args)
    rows: list[Json] = []
    size = read = 0
    cursor = await _entry(desk.log, wanted)
    while True:
        page = await desk.log.latest(NOBODY, SLICE, before_seq=cursor)
        for seq, _, kind, time_us, payload in page:
            if time_us < wanted.since_us:  # recorded time never runs backwards
                return {"records": rows, "next": None}
            told = _told(payload)
            if wanted.fits(seq, kind, time_us, told):
                refused = is_refused(kind, told)
                rows.append({"seq": seq, "time_us": time_us, "kind": kind, "refused": refused, "told": dict(told)})
                size += len(payload)
                if len(rows) == most or size >= BYTES_AT_MOST:
                    return {"records": rows, "next": seq}
        if len(page) < SLICE:
            return {"records": rows, "next": None, **older_in(page)}
        cursor, read = page[-1][0], read + len(page)
        if read >= READ_AT_MOST:
            return {"records": rows, "next": cursor}


async def exported(desk: Desk, args: Arguments) -> Json:
    """Write down that somebody takes records out of the journal's file, ahead of it: who, what, whereto."""
    told = {key: text(args, key) for key in ("format", "filter", "to")}
    told |= {"from": source} if (source := optional(args, "from")) else {}
    async with desk.audited(args, "audit.export", **told):
        return {"recorded": True}


def _wanted(args: Arguments) -> _Wanted:
    since, until = _us(args, "since", 0), _us(args, "until", LARGEST)
    before = args.get("before", LARGEST)
    if isinstance(before, bool) or not isinstance(before, int) or not 1 <= before <= LARGEST:
        raise ControlError(Code.BAD_REQUEST, "before must be the number of a record")
    op = optional(args, "op") or ""
    return _Wanted(since, until, before, optional(args, "user"), op, bool(args.get("refused")))


def _us(args: Arguments, key: str, default: int) -> int:
    found = moment(args, key)
    return default if found is None else to_us(found)


async def _entry(log: Log, wanted: _Wanted) -> int | None:
    """A record of nobody at or behind the end of the span, from which links lead back into it; None: from their end."""
    newest = await log.latest(NOBODY, 1)
    if not newest:
        return None
    seq = newest[0][0] + 1
    if newest[0][3] > wanted.until_us:
        seq = await _first_after(log, wanted.until_us, newest[0][0])
    seq = min(seq, wanted.before)
    found = await log.records(seq - 1, 1, up_to_seq=seq + LOOK_AHEAD, kinds=KINDS)
    return found[0][0] if found else None


async def _first_after(log: Log, time_us: int, known: int) -> int:
    """The first record of any kind later than this time, by halving; ``known`` is one that is later."""
    low, high = 1, known
    while low < high:
        middle = (low + high) // 2
        found = await log.records(middle - 1, 1)
        if found[0][3] > time_us:
            high = middle
        else:
            low = middle + 1
    return low


def _told(payload: bytes) -> Mapping[str, Json]:
    """What a record says; one that can't be read says so, and does not hide the others."""
    try:
        return msgspec.json.decode(payload, type=dict[str, Json])
    except msgspec.DecodeError as error:
        return {"op": "?", "detail": f"this record can't be read: {error}"}


def _op(kind: str, told: Mapping[str, Json]) -> str:
    return f"gateway.{told.get('event')}" if kind == "gateway" else str(told.get("op"))


def _is_of(told: Mapping[str, Json], name: str) -> bool:
    """Whether this is the user who was let in, or the name that was given with the request."""
    peer, actor = told.get("peer"), str(told.get("actor", ""))
    user = str(peer.get("user", "")) if isinstance(peer, dict) else ""
    return name in (user, actor, actor.removesuffix(f" ({user})"))
