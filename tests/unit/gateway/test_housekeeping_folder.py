"""Where archives and backups go: a disk that is not mounted is noticed, and nothing is done that would fail half way."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import gateway.housekeeping_folder as module
from gateway.housekeeping_disk import MB
from gateway.housekeeping_folder import MARKER, NOTE, for_backup, look, ready
from gateway.housekeeping_troubles import CareFailed


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """An archive disk, mounted; ``unmount`` leaves the empty folder that it was mounted on."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


def unmount(disk: Path) -> Path:
    aside = disk.with_name("aside")
    disk.rename(aside)
    disk.mkdir()
    return aside


def mount(disk: Path, aside: Path) -> None:
    disk.rmdir()
    aside.rename(disk)


def test_a_folder_of_the_state_folder_is_made_when_it_is_needed_and_has_no_marker(state: Path) -> None:
    look(state / "archive", state, False)
    assert not (state / "archive").exists()
    ready(state / "archive", state, False, 0)
    assert list((state / "archive").iterdir()) == []


def test_a_folder_elsewhere_is_never_made(state: Path, disk: Path) -> None:
    for see in (lambda: look(disk / "a", state, False), lambda: ready(disk / "a", state, False, 0)):
        with pytest.raises(CareFailed, match="is not there: mount its disk, or make the folder"):
            see()
    assert list(disk.iterdir()) == []


def test_an_archive_disk_that_is_not_mounted_any_more_is_refused_until_it_is_back(state: Path, disk: Path) -> None:
    look(disk, state, False)
    assert (disk / MARKER).exists()
    aside = unmount(disk)
    with pytest.raises(CareFailed, match=r"is not the folder that was used before .*is its disk mounted"):
        ready(disk, state, False, 0)
    assert list(disk.iterdir()) == [], "nothing is written to the system's disk"
    mount(disk, aside)
    ready(disk, state, True, 0)


def test_a_person_may_say_that_it_is_the_right_folder_all_the_same(state: Path, disk: Path) -> None:
    look(disk, state, False)
    unmount(disk)
    (disk / MARKER).touch()
    look(disk, state, True)
    (disk / MARKER).unlink()
    with pytest.raises(CareFailed, match="is missing"):
        look(disk, state, True)


def test_the_disk_of_another_gateway_is_not_taken_for_ones_own(state: Path, disk: Path, tmp_path: Path) -> None:
    look(disk, state, False)
    aside = unmount(disk)
    (tmp_path / "other").mkdir()
    look(disk, tmp_path / "other", False)
    with pytest.raises(CareFailed, match="of another gateway"):
        look(disk, state, False)
    for one in disk.iterdir():
        one.unlink()
    mount(disk, aside)
    look(disk, state, False)


def test_two_gateways_may_share_a_folder(state: Path, disk: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for folder in (state, tmp_path / "other", state, tmp_path / "other"):
        look(disk, folder, False)
    assert len((disk / MARKER).read_text().split()) == 2


def test_a_journal_with_archives_and_no_note_takes_no_empty_folder_for_theirs(state: Path, disk: Path) -> None:
    """After a restore, or the upgrade from a version that set no marker."""
    with pytest.raises(CareFailed, match="holds no archive, though the journal has some"):
        look(disk, state, True)
    assert not (state / NOTE).exists()
    (disk / "journal-ab-1-2.jsonl.gz").touch()
    look(disk, state, True)


def test_another_archive_dir_in_the_configuration_is_a_new_folder(state: Path, disk: Path) -> None:
    look(disk, state, False)
    new = disk.with_name("new")
    new.mkdir()
    look(new, state, False)
    assert (new / MARKER).exists()


def test_a_damaged_note_is_as_none(state: Path, disk: Path) -> None:
    for content in ("", "[]", '{"token": 7}', '{"token": "a", "folder": null}'):
        (state / NOTE).write_text(content)
        look(disk, state, False)


def test_a_mount_point_below_the_state_folder_is_marked_too(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = state / "archive"
    archive.mkdir()
    monkeypatch.setattr(module, "_device", lambda folder: 1 if folder == state else 2)
    look(archive, state, False)
    assert (archive / MARKER).exists()
    (archive / MARKER).unlink()
    monkeypatch.setattr(module, "_device", lambda folder: 1)
    with pytest.raises(CareFailed, match="is its disk mounted"):
        look(archive, state, False)
    archive.rmdir()
    with pytest.raises(CareFailed, match="is not there"):
        look(archive, state, False)


def test_a_folder_without_room_for_an_archive_is_refused_before_anything_is_done(
    state: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "statvfs", lambda _: SimpleNamespace(f_bavail=40 * MB, f_frsize=1))
    ready(disk, state, False, 90 * MB)
    with pytest.raises(CareFailed, match="40 MB free, and an archive may need 66 MB"):
        ready(disk, state, False, 200 * MB)


def test_a_read_only_disk_names_the_line_of_the_unit_that_is_missing(
    state: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(disk, state, False)

    def refused(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(module.os, "open", refused)
    with pytest.raises(CareFailed, match=f"ReadWritePaths={disk}"):
        ready(disk, state, False, 0)
    with pytest.raises(CareFailed, match=r"Read-only file system.*ReadWritePaths=FOLDER"):
        for_backup(disk, None, state)


def test_a_folder_of_somebody_else_names_owner_and_rights(
    state: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(module.os, "open", refused)
    with pytest.raises(CareFailed, match=rf"{disk} belongs to \w+ \(mode 0755\) and can't be used by \w+: chown"):
        look(disk, state, False)


def test_a_backup_without_a_target_goes_to_a_folder_of_its_own(state: Path) -> None:
    target = for_backup(None, None, state)
    assert target.parent == state / "backups"
    assert target.parent.stat().st_mode & 0o777 == 0o700


def test_a_backup_goes_only_where_the_caller_would_find_it(state: Path, disk: Path) -> None:
    found = disk.stat()
    mine = (found.st_dev, found.st_ino)
    assert for_backup(disk / "copy.db", mine, state) == disk / "copy.db"
    assert for_backup(disk, mine, state).parent == disk
    with pytest.raises(CareFailed, match=r"sees another .* than you do .*leave TARGET out"):
        for_backup(disk / "copy.db", (found.st_dev, found.st_ino + 1), state)
    with pytest.raises(CareFailed, match="there is no folder"):
        for_backup(disk / "none" / "copy.db", None, state)
    assert list(disk.iterdir()) == []
