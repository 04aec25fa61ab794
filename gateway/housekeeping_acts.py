"""Acts on the journal while no daemon owned it (accept-loss, restore, compact), on their way into its chain.

Whoever acts notes it in a file beside the journal, a line before and a line after; the next daemon takes each act into the
chain as an audit record, says what became of it, and removes the file once that is on disk. What must stay true: an act
is noted, flushed, before anything is changed; a line that can't be read is recorded as such, never left out. A crash of
the command leaves its first line alone: it is recorded as interrupted. A crash of the daemon here records an act
again at the next start, under the same id.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.clock import wall_now
from gateway.durable.codec import Json

FILE = "offline-acts.jsonl"
BACKUPS = "backups"
"""The folder beside the journal for backups that name no other."""
LINES_AT_MOST = 1_000
LINE_AT_MOST = 4_000
"""Characters of a line that can't be read that are kept."""
BEGUN, DONE, FAILED, INTERRUPTED, UNREAD = "begun", "ok", "failed", "interrupted", "unknown"
ACCEPT_LOSS = "journal.accept-loss"


@dataclass(frozen=True, slots=True)
class Act:
    """An act that was begun; ``end`` notes how it ended."""

    folder: Path
    told: Mapping[str, Json]

    @classmethod
    def begin(cls, folder: Path, op: str, actor: str, user: str, **details: Json) -> Act:
        """Note that this is about to be done. user: who really does it, by the system. Raises OSError."""
        peer: dict[str, Json] = {"via": "offline", "address": f"pid:{os.getpid()}", "uid": os.getuid(), "user": user}
        told: dict[str, Json] = {"op": op, "id": uuid.uuid4().hex, "actor": actor, "peer": peer, **details}
        act = cls(folder, told)
        act._note(BEGUN, "", {})
        return act

    def end(self, status: str, message: str, **details: Json) -> None:
        """Note how it ended. Raises OSError."""
        self._note(status, message, details)

    def _note(self, status: str, message: str, details: Mapping[str, Json]) -> None:
        at = wall_now().isoformat(timespec="seconds")
        line = json.dumps({**self.told, **details, "at": at, "status": status, "message": message})
        path = self.folder / FILE
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            found = os.fstat(descriptor)
            if (
                not stat.S_ISREG(found.st_mode) or found.st_nlink != 1
            ):  # the folder is not root's, and root may be asking
                raise OSError(errno.EPERM, "is no plain file of one name", str(path))
            if os.geteuid() == 0:  # or the daemon could not read what root noted
                owner = self.folder.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            size = found.st_size
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"  # by a crash: it must not take this one with it
            content = b"\n" * bool(torn) + line.encode() + b"\n"
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(self.folder)


def noted(folder: Path) -> list[dict[str, Json]]:
    """The acts that wait for their record, each once, as it ended. Raises OSError."""
    try:
        text = (folder / FILE).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    acts: dict[str, dict[str, Json]] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines[:LINES_AT_MOST]):
        told = _read(line)
        if told.get("status") == BEGUN:
            told |= {"status": INTERRUPTED, "message": "the command ended before it could say what came of it"}
        acts[str(told.get("id", number))] = told
    if len(lines) > LINES_AT_MOST:
        acts["more"] = _unread(f"{len(lines) - LINES_AT_MOST} notes more than can be recorded")
    return list(acts.values())


def forget(folder: Path) -> None:
    """They are in the chain. Raises OSError."""
    (folder / FILE).unlink(missing_ok=True)
    sync_folder(folder)


def loss_of(told: Mapping[str, Json]) -> str | None:
    """What an accepted loss is told as; None for another act, or one that lost nothing."""
    if told.get("op") != ACCEPT_LOSS or told.get("status") == FAILED or told.get("nothing"):
        return None
    what = "what is lost is not known" if told.get("status") == INTERRUPTED else f"it {told.get('message')}"
    return f"{told.get('actor')} accepted a loss of the journal at {told.get('at')} ({told.get('reason')}): {what}"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(line: str) -> dict[str, Json]:
    try:
        told = json.loads(line)
    except ValueError:
        told = None
    return told if isinstance(told, dict) else _unread(f"a note that can't be read: {line[:LINE_AT_MOST]}")


def _unread(message: str) -> dict[str, Json]:
    return {"op": "journal.offline", "status": UNREAD, "message": message}
