"""The folders that archives and backups go to: the right one, writable and roomy, before anything is done for its sake.

An archive disk that is not mounted leaves an empty folder, and archives would fill the system's disk in silence. So a
folder outside the state folder, or on another file system, is never made by the daemon, and gets a marker when it is
first seen: a small file with a token of this state folder. From then on the folder counts only with that token in it.
What must stay true: what is wrong is said in a sentence that tells what to do, and nothing was archived or forgotten then.
A crash here leaves a marker whose token is noted nowhere: the next look makes another token, adds it, and notes it.
"""

from __future__ import annotations

import errno
import json
import os
import pwd
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway.clock import wall_now
from gateway.housekeeping_acts import BACKUPS, sync_folder
from gateway.housekeeping_disk import MB
from gateway.housekeeping_troubles import CareFailed

MARKER = ".gridlatch-archives"
NOTE = "archive-folder.json"
"""In the state folder: the token, and which folder was marked with it."""
TOKENS_AT_MOST = 100
RESERVE = 16 * MB
PACKED_TO = 4
"""Records take at most about a quarter of their room once they are packed (measured: a fifth to a tenth)."""
ARCHIVES = "journal-*.jsonl.gz"
_PLACES = (
    "leave TARGET out, and it goes to the folder 'backups' beside the journal; or allow the service another folder: "
    "systemctl edit gridlatch, [Service], ReadWritePaths=FOLDER"
)


def look(folder: Path, state_dir: Path, has_archives: bool) -> None:
    """See whether this is the folder; mark one that is new. has_archives: the journal names some. Blocks.

    Errors: CareFailed, OSError.
    """
    token, known = _note(state_dir)
    if not folder.is_dir():
        if folder.is_relative_to(state_dir) and known != str(folder):
            return  # it is made when there is something to put there
        raise CareFailed(
            f"archive_dir {folder} is not there: mount its disk, or make the folder for {_self()}; "
            "until then nothing is archived"
        )
    if known != str(folder) and folder.is_relative_to(state_dir) and _device(folder) == _device(state_dir):
        return  # as safe as the journal beside it
    try:
        _marked(folder, state_dir, token, known == str(folder), has_archives)
    except PermissionError as error:
        raise CareFailed(_rights(folder)) from error


def ready(folder: Path, state_dir: Path, has_archives: bool, journal_bytes: int) -> None:
    """See whether an archive can be written there now. journal_bytes: size of what is archived. Blocks.

    Errors: CareFailed, OSError.
    """
    look(folder, state_dir, has_archives)
    try:
        if folder.is_relative_to(state_dir):
            folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        _probe(folder)
    except PermissionError as error:
        raise CareFailed(_rights(folder)) from error
    except OSError as error:
        if error.errno == errno.EROFS:
            why = f"archive_dir {folder} is read-only for the gateway: as a service it needs ReadWritePaths={folder}"
            raise CareFailed(f"{why} (systemctl edit gridlatch), or its file system was mounted read-only") from error
        raise CareFailed(f"archive_dir {folder} can't be written: {error.strerror}") from error
    found = os.statvfs(folder)
    free, needed = found.f_bavail * found.f_frsize, journal_bytes // PACKED_TO + RESERVE
    if free < needed:
        raise CareFailed(
            f"archive_dir {folder} has {free // MB} MB free, and an archive may need {needed // MB} MB: make room there; "
            "until then nothing is archived"
        )


def for_backup(target: Path | None, seen: tuple[int, int] | None, state_dir: Path) -> Path:
    """The file for a backup, in a folder that the daemon may write; see ``Work.backup``. Blocks. Errors: CareFailed."""
    if target is None:
        target = state_dir / BACKUPS
        with _told_as_care(target):
            target.mkdir(mode=0o700, exist_ok=True)
    if not target.is_absolute():
        raise CareFailed(f"{target}: give the whole path")
    if os.path.isdir(target):  # False where we may not look, too: then the folder above speaks
        target = target / f"journal-{wall_now():%Y%m%dT%H%M%SZ}.db"
    folder = target.parent
    try:
        found = folder.stat()
    except OSError as error:
        raise CareFailed(
            f"there is no folder {folder} that the gateway could see ({error.strerror}); {_PLACES}"
        ) from error
    if seen is not None and seen != (found.st_dev, found.st_ino):
        raise CareFailed(
            f"the gateway sees another {folder} than you do (a service has its own, of /tmp above all); {_PLACES}"
        )
    with _told_as_care(folder):
        _probe(folder)
    return target


@contextmanager
def _told_as_care(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CareFailed(f"the gateway can't write in {folder} ({error.strerror}); {_PLACES}") from error


def _probe(folder: Path) -> None:
    _write(folder, folder / f".{uuid.uuid4().hex}.probe", b"gridlatch", keep=False)


def _marked(folder: Path, state_dir: Path, token: str, expected: bool, has_archives: bool) -> None:
    marker = folder / MARKER
    try:
        tokens: list[str] | None = marker.read_text(encoding="utf-8", errors="replace").split()[:TOKENS_AT_MOST]
    except FileNotFoundError:
        tokens = None
    by_hand = f"If it is the right folder all the same: touch {marker}"
    if tokens is None and expected:
        raise CareFailed(
            f"archive_dir {folder} is not the folder that was used before ({MARKER} is missing): is its disk mounted? "
            f"Nothing is archived meanwhile. {by_hand}"
        )
    if tokens is None and has_archives and next(folder.glob(ARCHIVES), None) is None:
        raise CareFailed(
            f"archive_dir {folder} holds no archive, though the journal has some: is its disk mounted? "
            f"Nothing is archived meanwhile. {by_hand}"
        )
    if tokens and expected and token not in tokens:
        raise CareFailed(
            f"archive_dir {folder} is the archive folder of another gateway ({MARKER} says so): is the right disk "
            f"mounted? Nothing is archived meanwhile. If it is to be shared: rm {marker}; touch {marker}"
        )
    if tokens is None or token not in tokens:
        _write(folder, marker, "".join(f"{one}\n" for one in [*(tokens or []), token]).encode())
    if not expected:
        told = json.dumps({"token": token, "folder": str(folder)})
        _write(state_dir, state_dir / NOTE, told.encode() + b"\n")


def _note(state_dir: Path) -> tuple[str, str]:
    """The token of this state folder, and the folder that was marked with it; a new token where there is none."""
    with suppress(FileNotFoundError, ValueError):
        told = json.loads((state_dir / NOTE).read_text(encoding="utf-8"))
        if isinstance(told, dict) and isinstance(told.get("token"), str) and isinstance(told.get("folder"), str):
            return told["token"], told["folder"]
    return uuid.uuid4().hex, ""


def _write(folder: Path, path: Path, content: bytes, *, keep: bool = True) -> None:
    """Write a small file whole and durably, or only try to."""
    new = path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if keep:
            new.replace(path)
            sync_folder(folder)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def _device(folder: Path) -> int:
    return folder.stat().st_dev


def _rights(folder: Path) -> str:
    return f"archive_dir {rights_of(folder)}: chown -R {_self()} {folder}; chmod u+rwx {folder}"


def rights_of(path: Path) -> str:
    """Who may not do what with it, in words. Errors: OSError."""
    found = path.stat()
    return (
        f"{path} belongs to {name_of(found.st_uid)} (mode {found.st_mode & 0o7777:04o}) and can't be used by {_self()}"
    )


def _self() -> str:
    return name_of(os.geteuid())


def name_of(uid: int) -> str:
    """A user's name, or number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
