"""The journal's file without a daemon: what commands do to it, each noted for the record of the next start.

What must stay true: nothing here touches a journal that a daemon owns; who changes something is noted, durably, before
it is done. A crash here: the journal's own functions say what is there then; the note is recorded as interrupted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import journal
from gateway.clock import wall_now
from gateway.durable.codec import Json
from gateway.housekeeping_acts import BACKUPS, DONE, FAILED, Act
from journal import BackupFailed, JournalError, JournalLocked, JournalNotFound

Told = dict[str, Json]


class OfflineCareError(Exception):
    """Nothing was changed; the text says why. refused: a daemon owns the journal, or something is there already.
    missing: there is no journal."""

    def __init__(self, why: str, *, refused: bool = False, missing: bool = False) -> None:
        super().__init__(why)
        self.refused = refused
        self.missing = missing


def stats(path: Path) -> Told:
    """Its figures, as a start would find it; nothing is changed. Errors: OfflineCareError."""

    def look() -> Told:
        found = journal.look(path)
        told: Told = {"path": str(path), "batch": found.head.batch, "seq": found.head.seq, "hash": found.head.hash_hex}
        told |= {"file_bytes": found.file_bytes, "free_bytes": found.free_bytes, "wal_bytes": found.wal_bytes}
        told["mark"] = {"batch": found.marked_batch, "found": found.mark_found.value, "alarm": ""}
        return {**told, "archived": {"batches": found.archived_batches, "records": found.archived_records}}

    return _told(look)


def check(path: Path) -> Told:
    """As a start would look at it, then the whole file and its chain; nothing is changed. Errors: OfflineCareError."""

    def look() -> Told:
        began = time.monotonic()
        complaints = list(journal.check_file(path))
        chain = journal.verify_file(path)
        if not chain.ok:
            complaints.append(f"the hash chain breaks at batch {chain.first_bad_batch}: {chain.reason}")
        told: Told = {"ok": not complaints, "complaints": list(complaints)}
        return told | {
            "seconds": round(time.monotonic() - began, 2),
            "batches": chain.batches,
            "records": chain.records,
            "not_compared": chain.not_compared,
        }

    return _told(look)


def backup(path: Path, target: Path | None) -> Told:
    """A whole copy; the journal itself is only read. target: a new file, or an existing folder; none: the folder for
    backups beside the journal. Errors: OfflineCareError."""

    def copy() -> Told:
        to = (path.parent / BACKUPS if target is None else target).absolute()
        if target is None and path.is_file():
            _make(to)
        if to.is_dir():
            to = to / f"journal-{wall_now():%Y%m%dT%H%M%SZ}.db"
        head = journal.backup_file(path, to)
        return {
            "file": str(to),
            "bytes": to.stat().st_size,
            "batch": head.batch,
            "seq": head.seq,
            "hash": head.hash_hex,
        }

    return _told(copy)


def restore(copy: Path, path: Path, actor: str, user: str) -> Told:
    """Put a backup where there is no journal; its folder is made if need be. Errors: OfflineCareError."""

    def put() -> Told:
        try:
            head = journal.restore(copy, path, by=_by(actor, user))
        except BackupFailed as error:
            if old := aside(path):
                raise BackupFailed(f"{error}; move all files of the old journal aside first: {old}") from error
            raise
        return {"target": str(path), "backup": str(copy), "batch": head.batch, "seq": head.seq, "hash": head.hash_hex}

    _told(lambda: _make(path.parent))
    return _noted(path, "journal.restore", actor, user, put, backup=str(copy.absolute()))


def aside(path: Path) -> str:
    """How to move all that belongs to the journal at this path aside; empty if nothing is there."""
    there = any(path.with_name(path.name + suffix).exists() for suffix in ("", "-wal", "-shm", "-journal", ".mark"))
    old = path.parent / "old"
    return f"mkdir {old} && mv {path}* {old}/" if there else ""


def compact(path: Path, actor: str, user: str) -> Told:
    """Write the file anew without the room that nothing uses. Errors: OfflineCareError."""

    def write() -> Told:
        done = journal.compact(path)
        return {"path": str(path), "bytes_before": done.bytes_before, "bytes_after": done.bytes_after}

    return _noted(path, "journal.compact", actor, user, write)


def accept_loss(path: Path, actor: str, user: str, reason: str) -> Told:
    """Let the daemon go on from a journal whose end is lost. Errors: OfflineCareError."""

    def accept() -> Told:
        loss = journal.accept_loss(path, by=f"{_by(actor, user)}: {reason}")
        if loss is None:
            return {"accepted": False, "nothing": True}
        told: Told = {"accepted": True, "what": loss.what, "kept_wal": str(loss.kept_wal) if loss.kept_wal else ""}
        told |= {"marked_batch": loss.marked.batch, "marked_hash": loss.marked.hash_hex}
        return told | {"found_batch": loss.found.batch, "found_hash": loss.found.hash_hex}

    return _noted(path, "journal.accept-loss", actor, user, accept, reason=reason)


def _noted(path: Path, op: str, actor: str, user: str, work: Callable[[], Told], **details: Json) -> Told:
    """Note it, do it, note how it ended. That the end could not be noted never hides how it ended."""

    def act() -> Told:
        if not path.parent.is_dir():
            raise JournalNotFound(f"there is no journal at {path}")
        noted = Act.begin(path.parent, op, actor, user, **details)
        try:
            told = work()
        except (JournalError, OSError) as error:
            raise _error(error, _end(noted, FAILED, str(error), {})) from error
        rest = {key: value for key, value in told.items() if key != "what"}
        unnoted = _end(noted, DONE, str(told.get("what", "")), rest)
        return {**told, "unnoted": unnoted} if unnoted else told

    return _told(act)


def _make(folder: Path) -> Told:
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if made and os.geteuid() == 0:  # or the daemon could not use what root made
        owner = folder.parent.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
    return {}


def _by(actor: str, user: str) -> str:
    """Who and when, for the note in the chain. The time is said here alone: the note's own ``time_us`` is engine time,
    which only the daemon knows, and a clock that is wrong today would push it ahead for ever."""
    who = actor if actor == user else f"{actor} ({user})"
    return f"{who}, {wall_now().isoformat(timespec='seconds')}, pid {os.getpid()}"


def _end(noted: Act, status: str, message: str, details: Told) -> str:
    """Note how it ended; why that could not be done, or nothing."""
    try:
        noted.end(status, message, **details)
    except OSError as error:
        return f"how it ended could not be noted ({error}), so the next start records it as interrupted"
    return ""


def _told(work: Callable[[], Told]) -> Told:
    try:
        return work()
    except (JournalError, OSError) as error:
        raise _error(error) from error


def _error(error: JournalError | OSError, unnoted: str = "") -> OfflineCareError:
    words = f"{error}. Besides, {unnoted}" if unnoted else str(error)
    refused = isinstance(error, (JournalLocked, BackupFailed))
    return OfflineCareError(words, refused=refused, missing=isinstance(error, JournalNotFound))
