"""``gridlatch journal`` as a person meets it: what it prints, what it leaves with, and what it refuses without a daemon."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.cli.fields import Fields
from gateway.cli.journal import archive_lines, arguments, check_lines, stats_lines
from gateway.cli.parser import build_parser
from gateway.cli.status import plain_paint
from gateway.cli.text import lines_of
from gateway.durable.store import Batch, RecordRow
from gateway.housekeeping_acts import Act, noted
from journal import Journal, verify_file

STATS = {
    "path": "/s/journal.db",
    "batch": 1200,
    "seq": 34567,
    "hash": "ab" * 32,
    "file_bytes": 30 * 2**20,
    "free_bytes": 2 * 2**20,
    "wal_bytes": 4096,
    "mark": {"batch": 1200, "found": "held", "alarm": ""},
    "archived": {"batches": 0, "records": 0, "folder": "/mnt/a", "keep_days": 90},
    "disk": {"sentence": "the journal's file system is 26 % full"},
    "last": {"check": {"at": "2026-01-14T03:30:01+00:00", "ok": True, "seconds": 1.1}},
    "commits": {"batches": 7, "records": 9, "last_ms": 0.8, "longest_ms": 12.5},
    "signed_head": {"at": "2026-01-14T08:00:00+00:00", "signed": "gridlatch-head-1 batch=1200"},
    "troubles": [],
    "at_work": "",
}


def text(**changed: object) -> str:
    return "\n".join(stats_lines(Fields({**STATS, **changed})))  # type: ignore[dict-item]


def test_the_figures_of_a_sound_journal() -> None:
    assert stats_lines(Fields(STATS)) == [  # type: ignore[arg-type]
        "Journal   /s/journal.db",
        f"Head      batch 1 200, 34 567 records, {'ab' * 32}",
        "Size      30 MB, of which 2.0 MB are free again; write-ahead log 4 kB",
        "Mark      names the head",
        "Archived  nothing so far; what is older than 90 days goes to /mnt/a",
        "Disk      the journal's file system is 26 % full",
        "Check     2026-01-14 03:30:01Z: sound, took 1.1 s",
        "Commits   7 since the start, with 9 records; last 0.8 ms, longest 12.5 ms",
        "Signed    2026-01-14 08:00:00Z",
        "gridlatch-head-1 batch=1200",
    ]


def test_what_is_wrong_comes_first_and_in_plain_words() -> None:
    assert text(troubles=["the disk is full"]).startswith("! the disk is full\n\nJournal")
    assert "DOES NOT FOLLOW: read-only" in text(mark={"batch": 1, "found": "held", "alarm": "read-only"})
    assert "names batch 9, it was unreadable at the start" in text(mark={"batch": 9, "found": "unreadable"})
    assert "only when asked for (keep_days = 0)" in text(archived={"keep_days": 0, "folder": "/a"})
    assert "DAMAGED" in text(last={"check": {"at": "2026-01-14T03:30:01Z", "ok": False, "seconds": 1}})
    assert "none among the newest records" in text(last={"backup": {"at": "2026-01-14T03:30:01Z", "file": "/b"}})
    assert "it is being archived" in text(at_work="archived")


def test_a_damaged_journal_comes_with_what_to_do() -> None:
    told = check_lines(Fields({"ok": False, "complaints": ["row 7"], "batches": 3, "records": 4, "seconds": 0.1}))
    assert told[:2] == ["THE JOURNAL IS DAMAGED (3 batches, 4 records read):", "  row 7"]
    assert "gridlatch journal restore BACKUP" in told[-1]
    one = {"ok": False, "complaints": ["archive 1.gz: torn"], "batches": 3, "records": 4, "seconds": 0.1}
    assert check_lines(Fields(one)) == [  # type: ignore[arg-type]
        "The journal is sound (3 batches, 4 records), BUT NOT ITS ARCHIVES:",
        "  archive 1.gz: torn",
        "Put back copies of them that were kept elsewhere.",
    ]


def test_a_sound_journal_says_which_archives_were_looked_at() -> None:
    sound = {"ok": True, "batches": 3, "records": 4, "seconds": 0.1}
    assert len(check_lines(Fields({**sound, "archives": 0, "archives_elsewhere": 0}))) == 1
    assert check_lines(Fields({**sound, "archives": 2, "archives_elsewhere": 1}))[1:] == [
        "So are the 2 archives in their folder.",
        "1 archives lie elsewhere: check them there (gridlatch audit verify FILE...).",
    ]


def test_records_that_nothing_tells_of_are_told_by_every_check() -> None:
    told = {"ok": True, "batches": 3, "records": 4, "seconds": 0.1, "batch": 3, "head": "ab", "not_compared": 1200}
    for lines in (check_lines(Fields(told)), lines_of("audit verify", told, plain_paint)):  # type: ignore[arg-type]
        assert len(lines) == 2
        assert lines[1].startswith("Not compared: 1 200 records that are about to be removed")
    told["not_compared"] = 0
    assert len(check_lines(Fields(told))) == len(lines_of("audit verify", told, plain_paint)) == 1  # type: ignore[arg-type]


def test_an_archive_is_named_with_its_hash_and_what_stays() -> None:
    one = {"file": "/a/1.gz", "first_batch": 1, "last_batch": 9, "records": 1234, "kept": 5, "sha256": "cd"}
    told = archive_lines(Fields({"files": [one, {**one, "kept": 0}], "before": "2026-01-14T00:00:00Z"}))
    assert told[0] == (
        "Archived 1 234 records (batches 1 to 9) to /a/1.gz; 5 records stay in the journal, too, for what lives."
    )
    assert told[1:3] == ["  SHA-256 cd", "Archived 1 234 records (batches 1 to 9) to /a/1.gz."]
    assert archive_lines(Fields({"files": [], "before": "2026-01-14T00:00:00Z"})) == [
        "Nothing was to be archived: there is nothing from before 2026-01-14 00:00:00Z in the journal."
    ]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site whose daemon does not run; its journal has three batches."""
    (tmp_path / "site.toml").write_text('[gateway]\nsocket = "c.sock"\n')
    monkeypatch.setenv("GRIDLATCH_SITE", str(tmp_path))
    (tmp_path / "state").mkdir()
    write(tmp_path / "state" / "journal.db")
    return tmp_path


def write(path: Path) -> None:
    async def three() -> None:
        journal = await Journal.open(path)
        for number in range(1, 4):
            batch = Batch()
            batch.records.append(RecordRow(number, "i", "k", number, b"{}"))
            batch.time_us = number
            await journal.commit(batch)
        await journal.close()

    asyncio.run(three())


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["journal", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_without_a_daemon_the_file_itself_is_looked_at_and_that_is_said(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (("stats",), ("check",), ("backup", str(site / "copy.db"))):
        code, out, err = run(capsys, *words)
        assert (code, "no daemon answers" in err) == (0, True), (words, out, err)
    assert verify_file(site / "copy.db").batches == 3
    code, out, _ = run(capsys, "check", "--json")
    assert (json.loads(out)["ok"], json.loads(out)["records"]) == (True, 3)
    assert run(capsys, "archive")[0] == 5, "archiving is the daemon's"


def content(folder: Path) -> dict[str, bytes]:
    """What lies there; who reads a journal may leave an empty log and the file that readers share."""
    files = {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file() and not one.name.endswith("-shm")}
    return {name: bytes_ for name, bytes_ in files.items() if bytes_}


@pytest.mark.parametrize("damage", ["missing", "unreadable"])
def test_looking_at_a_journal_does_not_use_up_the_warning_that_its_mark_is_gone(
    site: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    state = site / "state"
    mark = state / "journal.db.mark"
    mark.unlink() if damage == "missing" else mark.write_bytes(b"x" * 8192)
    before = content(state)
    for words in (("stats",), ("check",), ("backup", str(site / "copy.db"))):
        assert run(capsys, *words)[0] == 0
    assert ("there is none" if damage == "missing" else "it is unreadable") in run(capsys, "stats")[1]
    assert content(state) == before, "nothing of it is changed"

    async def start() -> str:
        journal = await Journal.open(state / "journal.db")
        found = journal.stats.mark_found
        await journal.close()
        return found

    assert asyncio.run(start()) == ("none" if damage == "missing" else "unreadable")


def test_what_is_in_the_write_ahead_log_alone_is_seen_and_stays_there(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A daemon that was killed, or that hangs: its lock is nobody's business here."""

    async def beside_an_owner() -> None:
        journal = await Journal.open(site / "state" / "journal.db")
        batch = Batch()
        batch.records.append(RecordRow(4, "i", "k", 4, b"{}"))
        batch.time_us = 4
        await journal.commit(batch)
        for words in (("stats", "--json"), ("check", "--json"), ("backup", str(site / "copy.db"))):
            code, out, err = await asyncio.to_thread(run, capsys, *words)
            assert code == 0, err
            if words[0] == "stats":
                assert (json.loads(out)["batch"], json.loads(out)["wal_bytes"] > 0) == (4, True)
        batch = Batch()
        batch.records.append(RecordRow(5, "i", "k", 5, b"{}"))
        batch.time_us = 5
        await journal.commit(batch)
        await journal.close()

    asyncio.run(beside_an_owner())
    assert verify_file(site / "copy.db").batches == 4
    assert verify_file(site / "state" / "journal.db").batches == 5


def test_a_lost_end_is_told_by_those_too_that_only_look(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = site / "state"
    (state / "journal.db").rename(site / "longer.db")
    (state / "journal.db.mark").rename(site / "longer.mark")

    async def two() -> None:
        journal = await Journal.open(state / "journal.db")
        await journal.close()

    asyncio.run(two())
    (site / "longer.mark").replace(state / "journal.db.mark")
    for words in (("stats",), ("check",), ("backup", str(site / "copy.db"))):
        code, _, err = run(capsys, *words)
        assert (code, "another journal than the one that its mark belongs to" in err) == (1, True), err
    assert not (site / "copy.db").exists()


def test_a_restored_backup_is_noted_with_who_did_it(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "backup", str(site / "copy.db"))[0] == 0
    code, _, err = run(capsys, "restore", str(site / "copy.db"))
    assert (code, "nothing is overwritten" in err) == (4, True)
    clean = site / "clean"
    clean.mkdir()
    (clean / "site.toml").write_text("")
    code, out, _ = run(capsys, "restore", str(site / "copy.db"), "--site", str(clean), "--actor", "olga")
    assert (code, "it reads every breaker before anything moves" in out) == (0, True)
    assert verify_file(clean / "state" / "journal.db").records == 3
    (told,) = noted(clean / "state")
    assert (told["op"], told["actor"], told["status"]) == ("journal.restore", "olga", "ok")
    assert [one["status"] for one in noted(site / "state")] == ["failed"]


def test_compacting_says_what_it_gained(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "compact")
    assert (code, " before, " in out) == (0, True)
    assert noted(site / "state")[0]["op"] == "journal.compact"


def test_a_loss_is_accepted_with_a_reason_and_only_where_something_is_lost(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(capsys, "accept-loss")
    code, out, _ = run(capsys, "accept-loss", "--reason", "to see")
    assert (code, "Nothing is missing" in out) == (0, True)
    state = site / "state"
    (state / "journal.db").rename(state / "lost")
    code, _, err = run(capsys, "check")
    assert (code, "gone or empty" in err or "no journal" in err) in ((1, True), (3, True))
    code, out, _ = run(capsys, "accept-loss", "--reason", "the card broke", "--actor", "olga")
    assert (code, out.startswith("Accepted: ")) == (0, True)
    last = noted(state)[-1]
    assert (last["actor"], last["reason"], last["status"], last["accepted"]) == ("olga", "the card broke", "ok", True)
    assert run(capsys, "check")[0] == 0


def test_a_journal_that_somebody_owns_is_refused(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def owned() -> list[tuple[int, str, str]]:
        journal = await Journal.open(site / "state" / "journal.db")
        try:
            words = (("compact",), ("accept-loss", "--reason", "x"), ("restore", str(site / "b.db")))
            return [await asyncio.to_thread(run, capsys, *one) for one in words]
        finally:
            await journal.close()

    for code, _, err in asyncio.run(owned()):
        assert (code, "stop it first" in err) == (4, True), err


def test_what_is_not_there_is_not_found(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "restore", str(site / "none.db"), "--site", str(site / "nowhere"))[0] == 2
    (site / "other").mkdir()
    (site / "other" / "site.toml").write_text("")
    assert run(capsys, "compact", "--site", str(site / "other"))[0] == 3
    assert run(capsys, "restore", str(site / "none.db"), "--site", str(site / "other"))[0] == 3


def test_a_restore_beside_the_rest_of_an_old_journal_says_how_to_move_all_of_it(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "backup", str(site / "copy.db"))[0] == 0
    state = site / "state"
    (state / "journal.db").unlink()
    code, _, err = run(capsys, "restore", str(site / "copy.db"))
    command = f"mkdir {state}/old && mv {state}/journal.db* {state}/old/"
    assert (code, command in err) == (4, True), err
    subprocess.run(["sh", "-c", command], check=True)
    assert run(capsys, "restore", str(site / "copy.db"))[0] == 0
    assert verify_file(state / "journal.db").records == 3


@pytest.mark.parametrize("fails", [False, True])
def test_a_full_disk_that_keeps_the_end_from_being_noted_hides_not_how_it_ended(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    assert run(capsys, "backup", str(site / "copy.db"))[0] == 0

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Act, "end", full)
    if not fails:
        subprocess.run(["sh", "-c", f"mkdir {site}/old && mv {site}/state/journal.db* {site}/old/"], check=True)
    code, out, err = run(capsys, "restore", str(site / "copy.db"))
    assert "how it ended could not be noted ([Errno 28] No space left on device)" in err
    assert (code, "Restored" in out, "nothing is overwritten" in err) == (
        (4, False, True) if fails else (0, True, False)
    )
    assert noted(site / "state")[0]["status"] == "interrupted"


def test_a_backup_without_a_target_lies_beside_the_journal(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "backup")[0] == 0
    (copy,) = (site / "state" / "backups").glob("journal-*.db")
    assert verify_file(copy).records == 3


def test_the_daemon_is_told_which_folder_the_caller_means(tmp_path: Path) -> None:
    parser = build_parser()
    found = tmp_path.stat()
    told = arguments(parser.parse_args(["journal", "backup", str(tmp_path / "copy.db")]))
    assert told == {"target": str(tmp_path / "copy.db"), "device": found.st_dev, "inode": found.st_ino}
    assert arguments(parser.parse_args(["journal", "backup", str(tmp_path)])) == told | {"target": str(tmp_path)}
    assert arguments(parser.parse_args(["journal", "backup", "/none/b.db"])) == {"target": "/none/b.db"}
    assert arguments(parser.parse_args(["journal", "backup"])) == {}
