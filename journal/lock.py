"""Exclusive ownership of a journal: an flock on a file beside it, which names the owner's pid for people.

What must stay true: the lock is the flock, never the file's existence or content, so a crashed owner leaves nothing
behind that must be cleaned up: the kernel drops the lock with the process. The file is never removed: removing it
would let two owners lock two files of the same name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from journal.errors import JournalLocked
from journal.folders import give_to_owner_of_folder


class OwnerLock:
    """Held from construction until ``release``."""

    def __init__(self, journal: Path) -> None:
        """Take the lock of the journal at this path; raises JournalLocked (at once: never waits), OSError."""
        self.path = journal.with_name(journal.name + ".lock")
        self._fd: int | None = None
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            give_to_owner_of_folder(descriptor, self.path)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).strip()
            os.close(descriptor)
            raise JournalLocked(journal, int(owner) if owner.isdigit() else None) from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        except OSError:
            os.close(descriptor)
            raise
        self._fd = descriptor

    def release(self) -> None:
        """Give the journal free; harmless when repeated."""
        if self._fd is not None:
            descriptor, self._fd = self._fd, None
            try:
                with contextlib.suppress(OSError):  # the pid is for people; on a disk that fails it stays there
                    os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)
