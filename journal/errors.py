"""The journal's errors, split by what the caller must do.

::

    JournalError            base; raised by itself for a closed journal
     ├─ JournalNotFound     look at the path: there is no journal of ours
     ├─ JournalLocked       stop the other daemon first (its pid is named)
     ├─ JournalNewer        install the newer software, or restore the older file
     ├─ JournalCorrupt      do not run on this file: audit it, restore a copy
     │   └─ JournalTailLost acknowledged batches are missing: restore a copy, or accept the loss (a person decides)
     ├─ ArchiveFailed       nothing was archived or removed; make room or mend the folder, and try again
     ├─ BackupFailed        there is no backup (or copy) at the target; the journal goes on
     ├─ BatchRefused        a defect in the caller: the batch contradicts the journal, and none of it was written
     ├─ JournalWriteError   stop the process: nothing is accepted any more; recover by a restart
     └─ JournalReadError    a read failed: treat it as the disk's failure, stop
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from journal.rows import Head

FILE_TROUBLE: Final = (sqlite3.Error, OSError, UnicodeDecodeError)
"""What working on a journal's file may raise; the last one where SQLite's complaint quotes the damage."""


class JournalError(Exception):
    """Base of all errors of this package."""


class JournalNotFound(JournalError):
    """There is no journal at this path, or the file there is not one."""


class JournalLocked(JournalError):
    """Another process owns the journal. ``pid`` is None if it could not be read from the lock file."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        owner = f"the process with pid {pid}" if pid is not None else "another process"
        super().__init__(f"{path} is in use by {owner}; stop it first")


class JournalNewer(JournalError):
    """The file was written by newer software, of a schema that this one does not know."""

    def __init__(self, path: Path, found: int, supported: int) -> None:
        self.path = path
        self.found = found
        self.supported = supported
        super().__init__(f"{path} has schema version {found}, this software knows versions up to {supported}")


class JournalCorrupt(JournalError):
    """The file contradicts itself; the message says where."""


class JournalTailLost(JournalCorrupt):
    """The mark beside the journal names a batch that the journal does not hold. Nothing was changed.

    ``marked``: the batch that was acknowledged. ``found``: the end of what is there; None when that can't be compared
    (another journal, or none at all).
    """

    def __init__(self, path: Path, marked: Head, found: Head | None, what: str) -> None:
        self.path = path
        self.marked = marked
        self.found = found
        self.what = what
        super().__init__(
            f"{path} {what}. Nothing was changed. Keep a copy of {path.parent}; then put back the -wal file if that is "
            f"what is missing, or move {path.name}* aside and restore a backup (`gridlatch journal restore`), or accept "
            "the loss with `gridlatch journal accept-loss` and go on from what is there"
        )

    @property
    def missing_batches(self) -> int | None:
        """How many acknowledged batches are not there; None when that can't be said."""
        if self.found is None or self.found.batch >= self.marked.batch:
            return None
        return self.marked.batch - self.found.batch


class ArchiveFailed(JournalError):
    """An archive could not be written, or not read back as it was written. The journal goes on with all it holds."""


class BackupFailed(JournalError):
    """A copy could not be made: the target exists, the disk is full, the source is damaged. The source is unchanged."""


class BatchRefused(JournalError):
    """The batch does not continue the journal (a gap in its sequence numbers) or is too large; nothing was written."""


class JournalWriteError(JournalError):
    """A write failed. Nothing of that batch is in the journal, and the journal refuses all that follows."""


class JournalReadError(JournalError):
    """A read failed."""
