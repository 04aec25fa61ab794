"""Operations on the journal itself while the daemon runs: figures, check, backup, archive.

What must stay true: what acts is on record with who asked for it before it begins, and what came of it is another record;
the work runs beside commits. A crash here: the journal's work is crash-safe by itself.
"""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gateway.clock import iso, to_us
from gateway.control import Code, ControlError
from gateway.durable.codec import Json
from gateway.housekeeping_troubles import CareFailed
from gateway.operations.arguments import Arguments, moment, text
from gateway.operations.desk import Desk

if TYPE_CHECKING:
    from gateway.housekeeping import Housekeeping

T = TypeVar("T")

DAY_US = 86_400_000_000


async def stats(desk: Desk, _: Arguments) -> Json:
    """All figures of the journal, its archives and its disk."""
    return _care(desk).stats()


async def check(desk: Desk, args: Arguments) -> Json:
    """SQLite's check of the whole file, and the hash chain from its beginning."""
    async with desk.audited(args, "journal.check"):
        return await _done(_care(desk).work.check())


async def backup(desk: Desk, args: Arguments) -> Json:
    """A whole copy, made while commits go on. target: a new file or an existing folder, as the daemon sees it; left out:
    the folder for backups beside the journal. device, inode: of the folder that the caller means, if it sees it."""
    target = text(args, "target") if "target" in args else ""
    device, inode = args.get("device"), args.get("inode")
    seen = (device, inode) if isinstance(device, int) and isinstance(inode, int) else None
    async with desk.audited(args, "journal.backup", target=target):
        return await _done(_care(desk).work.backup(Path(target) if target else None, seen))


async def archive(desk: Desk, args: Arguments) -> Json:
    """Move old records to a file. before: those older than this moment of engine time; left out: than keep_days."""
    care, now_us = _care(desk), desk.engine.now_us()
    asked = moment(args, "before")
    if asked is not None:
        before_us = to_us(asked)
        if before_us > now_us:
            raise ControlError(Code.BAD_REQUEST, f"before: {iso(before_us)} is still to come; it is {iso(now_us)} now")
    elif care.care.keep_days:
        before_us = now_us - care.care.keep_days * DAY_US
    else:
        why = "the site says keep_days = 0, which archives nothing by itself: say before which day (--before DATE)"
        raise ControlError(Code.BAD_REQUEST, why)
    async with desk.audited(args, "journal.archive", before=iso(before_us)):
        files = await _done(care.work.archive(before_us))
    return {"before": iso(before_us), "files": list(files)}


def _care(desk: Desk) -> Housekeeping:
    if desk.health.care is None:
        raise ControlError(Code.UNAVAILABLE, "nobody looks after the journal here")
    return desk.health.care


async def _done(work: Awaitable[T]) -> T:
    """What came of it. Errors: ControlError."""
    try:
        return await work
    except CareFailed as error:
        raise ControlError(Code.REFUSED, str(error)) from error
