"""Small files that hold what nobody else may read or half of which nobody may see: keys, certificates, users.

What must stay true: a file is there as it was or as it shall be, never in between; its name is on disk when the function
returns. A crash leaves at most a ``.new-`` file beside it, which the next write of that name replaces.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def make_folder(folder: Path) -> None:
    """Make a folder (and those above it) that only its owner may enter. Raises OSError."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    _hand_over(folder, folder.parent)


def write_private(path: Path, data: bytes, mode: int = PRIVATE_FILE) -> None:
    """Replace a file as a whole, and have it on disk. Raises OSError, and then the old file is there as it was."""
    new = path.with_name(f".new-{path.name}")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        _hand_over(new, path if path.exists() else path.parent)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    sync_folder(path.parent)


def read_file(path: Path, limit: int) -> bytes:
    """What a file holds. Raises OSError, also for one of more than limit bytes."""
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(f"it has more than {limit} bytes")
    return data


def sync_folder(folder: Path) -> None:
    """Have a folder's names on disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else changes the files of this folder meanwhile (who goes through here, too). Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _hand_over(path: Path, like: Path) -> None:
    """What root makes belongs to whom the place belongs: the daemon runs as a user of its own and must read it."""
    if os.geteuid() != 0:
        return
    owner = like.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


def listed(folder: Path) -> Iterator[Path]:
    """The files of a folder, in no order; none if it can't be read."""
    with contextlib.suppress(
        OSError
    ):  # a folder that isn't there holds nothing; problems() tells of one not to be read
        yield from (path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def newest_first(folder: Path, suffix: str) -> Sequence[Path]:
    """The files of a folder whose names end so, by the time of their last change."""
    dated = []
    for path in listed(folder):
        with contextlib.suppress(FileNotFoundError):  # taken away by another process meanwhile
            if path.suffix == suffix:
                dated.append((path.stat().st_mtime_ns, path.name, path))
    return [path for _, _, path in sorted(dated, reverse=True)]


def why(error: Exception) -> str:
    """An error in a few words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
