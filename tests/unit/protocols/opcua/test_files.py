"""Small private files: whole or not at all, for the owner alone, and for whom the folder belongs to."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from protocols.opcua.files import alone, make_folder, newest_first, read_file, write_private


def test_it_is_for_the_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_folder(tmp_path / "a" / "b")
        write_private(tmp_path / "a" / "b" / "secret", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "b" / "secret").stat().st_mode) == 0o600


def test_what_a_crash_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / ".new-secret").write_bytes(b"half")
    write_private(tmp_path / "secret", b"whole")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("secret", b"whole")]


def test_a_link_that_somebody_laid_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"untouched")
    (tmp_path / ".new-secret").symlink_to(tmp_path / "victim")
    write_private(tmp_path / "secret", b"mine")
    assert (tmp_path / "victim").read_bytes() == b"untouched"
    assert not (tmp_path / "secret").is_symlink()


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    write_private(tmp_path / "secret", b"old")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="Input/output error"):
        write_private(tmp_path / "secret", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("secret", b"old")]


def test_file_and_name_are_on_disk_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "folder"}
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(kind[stat.S_IFMT(os.fstat(fd).st_mode)]) or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: done.append("replace") or replace(a, b))
    write_private(tmp_path / "secret", b"1")
    assert done == ["file", "replace", "folder"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a file over")
def test_what_root_makes_belongs_to_whom_the_folder_belongs(tmp_path: Path) -> None:
    """``sudo gridlatch users add`` for a daemon that runs as a user of its own."""
    os.chown(tmp_path, 12_345, 12_346)
    make_folder(tmp_path / "pki")
    write_private(tmp_path / "pki" / "key", b"1")
    write_private(tmp_path / "users", b"1")
    os.chown(tmp_path / "users", 12_347, 12_348)
    write_private(tmp_path / "users", b"2")
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in tmp_path.rglob("*")}
    assert owners == {"pki": (12_345, 12_346), "key": (12_345, 12_346), "users": (12_347, 12_348)}


def test_nobody_else_comes_in_between(tmp_path: Path) -> None:
    code = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "try:\n    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "except BlockingIOError:\n    print('waits')\n"
    )
    ask = [sys.executable, "-c", code, str(tmp_path)]
    with alone(tmp_path):
        assert subprocess.run(ask, capture_output=True, text=True, timeout=30, check=True).stdout == "waits\n"
    assert subprocess.run(ask, capture_output=True, text=True, timeout=30, check=True).stdout == ""


def test_a_file_of_too_much_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(10))
    assert read_file(tmp_path / "x", 10) == bytes(10)
    with pytest.raises(OSError, match="more than 9 bytes"):
        read_file(tmp_path / "x", 9)


def test_newest_first(tmp_path: Path) -> None:
    for age, name in enumerate(("old.der", "middle.der", "new.der", "newest.txt", ".hidden.der")):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (1_000 + age, 1_000 + age))
    assert [path.name for path in newest_first(tmp_path, ".der")] == ["new.der", "middle.der", "old.der"]
    assert newest_first(tmp_path / "nowhere", ".der") == []
