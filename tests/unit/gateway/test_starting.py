"""What is looked at before anything starts: a folder or file that the daemon may not use is named, with what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import daemon
from gateway.starting import StartError, WrongRights, check_rights

NOBODY = 65_534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder into which other users can look, too."""
    made = Path(tempfile.mkdtemp(prefix="gridlatch-rights-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@contextlib.contextmanager
def as_a_plain_user() -> Iterator[None]:
    """Root may do all: for the time of the block, be somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_of_ones_own_is_made_and_used(folder: Path) -> None:
    check_rights(folder / "a" / "state")
    check_rights(folder / "a" / "state")
    assert (folder / "a" / "state").stat().st_mode & 0o777 == 0o700


def test_a_state_folder_that_may_not_be_written_is_named_with_its_owner_and_what_to_do(folder: Path) -> None:
    state = folder / "state"
    state.mkdir()
    state.chmod(0o555)
    with as_a_plain_user(), pytest.raises(StartError) as caught:
        check_rights(state)
    assert type(caught.value) is StartError, "it may be the empty mount point of a disk that is still to come"
    said = str(caught.value)
    assert said.startswith(f"{state} belongs to ")
    assert "(mode 0555) and can't be used by " in said
    assert "is it mounted?" in said
    assert said.endswith(f" {state}; chmod 0700 {state}")
    state.chmod(0o755)


def test_a_state_folder_that_may_not_be_made_names_the_one_above(folder: Path) -> None:
    folder.chmod(0o555)
    says = rf"can't be made: {folder} belongs to .*is it mounted\? .*install -d"
    with as_a_plain_user(), pytest.raises(StartError, match=says) as caught:
        check_rights(folder / "x" / "state")
    assert type(caught.value) is StartError
    folder.chmod(0o755)


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal", "journal.db.mark", "journal.db.lock"])
def test_a_file_of_the_journal_that_may_not_be_written_is_named(folder: Path, name: str) -> None:
    state = folder / "state"
    state.mkdir()
    state.chmod(0o777)
    (state / name).touch()
    (state / name).chmod(0o400)
    with as_a_plain_user(), pytest.raises(WrongRights, match=rf"{state / name} belongs to .*\(mode 0400\)"):
        check_rights(state)


def test_what_may_pass_by_itself_is_no_matter_of_rights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only or failing file system: the service manager goes on trying."""
    (folder / "journal.db").touch()

    def fails(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(OSError, match="Read-only"):
        check_rights(folder)


async def test_wrong_rights_end_with_the_exit_code_at_which_nobody_starts_it_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def opens(*_: object) -> None:
        raise WrongRights("it belongs to root")

    monkeypatch.setattr(daemon.Daemon, "open", opens)
    monkeypatch.setattr(daemon.logs, "configure", lambda *_: None)
    site = Path(__file__).parents[3] / "config" / "examples" / "substation"
    assert await daemon.run(site) == daemon.REFUSED_JOURNAL
    assert "it belongs to root" in capsys.readouterr().err
    assert issubclass(WrongRights, StartError)
