"""What was done to a journal that no daemon owned: noted before it is done, each act once, nothing left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway.housekeeping_acts import ACCEPT_LOSS, DONE, FAILED, FILE, Act, forget, loss_of, noted


def test_an_act_is_noted_with_who_did_it_and_how_it_ended(tmp_path: Path) -> None:
    act = Act.begin(tmp_path, "journal.compact", "anna", "root", why="room")
    act.end(DONE, "smaller now", bytes_after=4096)
    (told,) = noted(tmp_path)
    assert (told["op"], told["actor"], told["status"], told["message"]) == (
        "journal.compact",
        "anna",
        "ok",
        "smaller now",
    )
    assert (told["why"], told["bytes_after"]) == ("room", 4096)
    assert isinstance(told["peer"], dict)
    assert (told["peer"]["user"], told["peer"]["via"]) == ("root", "offline")


def test_an_act_that_was_cut_short_is_told_as_interrupted(tmp_path: Path) -> None:
    Act.begin(tmp_path, "journal.restore", "anna", "root")
    (told,) = noted(tmp_path)
    assert told["status"] == "interrupted"
    assert "before it could say" in str(told["message"])


def test_the_note_follows_no_link_and_changes_no_file_of_other_names(tmp_path: Path) -> None:
    """The folder is the daemon's, and root may be asking: a link there must not lead root to a file of its own."""
    state, other = tmp_path / "state", tmp_path / "shadow"
    state.mkdir()
    other.write_text("root's\n")
    before = other.stat()
    for link in (lambda: (state / FILE).symlink_to(other), lambda: (state / FILE).hardlink_to(other)):
        link()
        with pytest.raises(OSError):  # noqa: PT011 - ELOOP, EPERM
            Act.begin(state, "journal.compact", "anna", "root")
        (state / FILE).unlink()
    assert (other.read_text(), other.stat().st_uid, other.stat().st_mode) == ("root's\n", before.st_uid, before.st_mode)


def test_several_acts_are_told_each_once_in_their_order(tmp_path: Path) -> None:
    first = Act.begin(tmp_path, "journal.restore", "anna", "root")
    Act.begin(tmp_path, "journal.compact", "ben", "root").end(FAILED, "no room")
    first.end(DONE, "")
    assert [(told["actor"], told["status"]) for told in noted(tmp_path)] == [("anna", "ok"), ("ben", "failed")]


def test_a_note_that_a_crash_cut_short_hides_no_other_and_is_told(tmp_path: Path) -> None:
    Act.begin(tmp_path, "journal.compact", "anna", "root").end(DONE, "")
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"op": "journal.res')
    torn = noted(tmp_path)
    assert [told["status"] for told in torn] == ["ok", "unknown"]
    assert "journal.res" in str(torn[1]["message"])


def test_once_they_are_in_the_chain_they_are_forgotten(tmp_path: Path) -> None:
    assert noted(tmp_path) == []
    Act.begin(tmp_path, "journal.compact", "anna", "root").end(DONE, "")
    forget(tmp_path)
    assert noted(tmp_path) == []
    forget(tmp_path)


def test_only_an_accepted_loss_is_told_as_one(tmp_path: Path) -> None:
    assert loss_of({"op": "journal.compact", "status": "ok"}) is None
    assert loss_of({"op": ACCEPT_LOSS, "status": "failed"}) is None
    assert loss_of({"op": ACCEPT_LOSS, "status": "ok", "nothing": True}) is None
    told = loss_of(
        {"op": ACCEPT_LOSS, "status": "ok", "actor": "anna", "at": "noon", "reason": "storm", "message": "ends at 3"}
    )
    assert told == "anna accepted a loss of the journal at noon (storm): it ends at 3"
    assert "not known" in str(loss_of({"op": ACCEPT_LOSS, "status": "interrupted", "actor": "anna"}))


def test_a_torn_note_does_not_take_the_next_one_with_it(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b'{"op": "journal.res')
    Act.begin(tmp_path, "journal.compact", "anna", "root").end(DONE, "")
    assert [told["status"] for told in noted(tmp_path)] == ["unknown", "ok"]


def test_a_disk_that_takes_half_a_note_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, content: real(descriptor, content[: len(content) // 2]))
    with pytest.raises(OSError, match="No space left"):
        Act.begin(tmp_path, "journal.compact", "anna", "root")
