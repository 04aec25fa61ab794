"""Files that are made beside a journal: durable in name, and owned by whoever owns the folder.

What must stay true: a file that root makes in the daemon's folder (an offline command) can be opened by the daemon later.
On a crash here: a name is durable or it is not; the callers order their steps so that both are fine.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_to_owner_of_folder(descriptor: int, path: Path) -> None:
    """Let an open file belong to the owner of its folder, where root made it; never one that has other names, which
    that owner may have put there. Raises OSError."""
    if os.geteuid() == 0 and is_a_file_of_one_name(descriptor):
        folder = path.parent.stat()
        os.fchown(descriptor, folder.st_uid, folder.st_gid)


def is_a_file_of_one_name(descriptor: int) -> bool:
    """A plain file without hard links: root may give it away."""
    found = os.fstat(descriptor)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def make_file(path: Path) -> int:
    """Make the file if it is not there: not readable by others, its name durable. It stays open.

    Closing any descriptor of a file drops all locks that the process holds on it, SQLite's too: so this one is closed
    after the connections are.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
    try:
        give_to_owner_of_folder(descriptor, path)
        sync_folder(path.parent)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
