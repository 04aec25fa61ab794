"""The commands of the evidence, as a person types them: what they print, where, and with which exit code."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from unit.gateway.evidence.records import AT, SECOND, some_batches, write

from gateway.cli import evidence_parser, main
from gateway.evidence.formats import FORMATS
from gateway.evidence.signing import Signer
from journal import Journal, JournalFile

PORT = 15465


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site with a journal and a key, and no daemon."""
    folder = tmp_path / "site"
    (folder / "state").mkdir(parents=True)
    (folder / "site.toml").write_text('[gateway]\nsocket = "none.sock"\n')
    asyncio.run(write(folder / "state" / "journal.db", some_batches()))
    Signer.open(folder / "state")
    monkeypatch.setenv("GRIDLATCH_SITE", str(folder))
    return folder


def signed_head(site: Path) -> str:
    with JournalFile.open(site / "state" / "journal.db") as file:
        return Signer.open(site / "state").sign(file.head())


def test_a_site_s_journal_is_checked_without_a_daemon(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify"]) == 0
    assert "journal.db: whole (journal)" in capsys.readouterr().out


def test_a_signed_head_with_its_key(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, key = signed_head(site), str(site / "state" / "device.pub")
    assert main(["audit", "verify", "--head", line, "--key", key]) == 0
    told = capsys.readouterr()
    assert "holds the given batch 7" in told.out
    assert told.err == ""
    assert main(["audit", "verify", "--head", f'{{"signed": "{line}", "level": "info"}}', "--key", key]) == 0
    capsys.readouterr()
    assert main(["audit", "verify", "--head", line]) == 0
    assert "was not checked (--key FILE)" in capsys.readouterr().err
    assert main(["audit", "verify", "--head", line.replace("batch=7", "batch=6"), "--key", key]) == 1
    assert "the signature is not that of key" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    Signer.open(tmp_path / "other")
    assert main(["audit", "verify", "--head", line, "--key", str(tmp_path / "other" / "device.pub")]) == 1


def test_a_head_that_nothing_holds(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", "--head", f"99:{'0' * 64}"]) == 1
    told = capsys.readouterr().out
    assert "NOT WHOLE" in told
    assert f"NONE OF THEM HOLDS the head that was given: 99:{'0' * 64}" in told
    assert main(["audit", "verify", "--head", f"99:{'0' * 64}", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["verify", "--head", "soup"], "--head is a signed line"),
        (["verify", "--key", "/nowhere"], "--key: "),
        (["verify", "/nowhere"], "/nowhere can't be read: No such file"),
        (["export", "--format", "csv", "--to", "tcp://h:1"], "--format syslog"),
        (["export", "--format", "syslog", "--to", "h:1"], "is no collector"),
        (["export", "--format", "syslog", "--tls-ca", "x"], "--tls-ca belongs to --to"),
        (["export", "--format", "syslog", "--to", "tcp://h:1", "--tls-ca", "x"], "go with --to tls"),
        (["export", "--format", "csv", "--since", "2026-02-01", "--until", "2026-01-01"], "later than --until"),
        (["report"], "say which procedure"),
    ],
)
def test_what_can_t_be_meant(site: Path, capsys: pytest.CaptureFixture[str], words: list[str], why: str) -> None:
    assert main(["audit", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert why in told.err


@pytest.mark.parametrize("form", ["csv", "jsonl", "comfede", "syslog"])
def test_an_export_that_is_signed_and_checked(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    out = tmp_path / "record"
    assert main(["audit", "export", "--format", form, "-o", str(out)]) == 0
    told = capsys.readouterr()
    assert told.out == f"8 entries to {out}; records 1 to 8\n"
    assert re.fullmatch(r"gridlatch: this export is not on record in the journal: .*\n", told.err)
    key, journal = site / "state" / "device.pub", site / "state" / "journal.db"
    assert main(["audit", "verify", str(out), str(journal), "--key", str(key)]) == 0
    told = capsys.readouterr()
    assert "record: whole (export)" in told.out
    assert "the one that was given" in told.out
    assert "holds record's batch 7" in told.out
    out.write_bytes(out.read_bytes().replace(b"summer", b"winter"))
    assert main(["audit", "verify", str(out)]) == 1
    assert "something in it was changed, added, removed or moved" in capsys.readouterr().out


def test_standard_output_holds_the_export_alone(
    site: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert main(["audit", "export", "--format", "jsonl", "--kind", "audit"]) == 0
    told = capfdbinary.readouterr()
    assert len(told.out.splitlines()) == 2
    assert b"1 entries to standard output" in told.err
    (tmp_path / "x").write_bytes(told.out)
    assert main(["audit", "verify", str(tmp_path / "x")]) == 0


def test_without_a_key_it_says_so(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "state" / "device.key").unlink()
    assert main(["audit", "export", "--format", "csv", "-o", str(tmp_path / "x")]) == 0
    assert "not signed: there is no device.key beside the journal" in capsys.readouterr().err
    assert main(["audit", "verify", str(tmp_path / "x")]) == 0
    assert (
        "not checked: who made it: it is not signed, and who changes it can make a new seal" in capsys.readouterr().out
    )
    assert main(["audit", "verify", str(tmp_path / "x"), "--key", str(site / "state" / "device.pub")]) == 1


def archive_of(site: Path, to: Path) -> Path:
    async def archived() -> str:
        journal = await Journal.open(site / "state" / "journal.db")
        done = await journal.archive(AT + 2 * SECOND, to)
        await journal.close()
        assert done is not None
        return done.file

    return to / asyncio.run(archived())


def test_an_archive_is_signed_by_the_device_that_made_it(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, out, key = archive_of(site, tmp_path / "archives"), tmp_path / "x", str(site / "state" / "device.pub")
    assert main(["audit", "export", "--format", "csv", "--journal", str(archive), "-o", str(out)]) == 0
    err = capsys.readouterr().err
    assert "not signed" not in err
    assert "this export is not on record in the journal: no daemon runs here" in err
    assert main(["audit", "verify", str(out), str(archive), "--key", key]) == 0


def test_what_is_no_part_of_the_site_is_not_signed_by_it(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far").mkdir()
    stranger = tmp_path / "far" / "journal.db"
    asyncio.run(write(stranger, some_batches()))
    words = ["audit", "export", "--format", "csv", "--journal", str(stranger), "-o"]
    assert main([*words, str(tmp_path / "x")]) == 0
    err = capsys.readouterr().err
    assert "not on record: what is exported is no part of this site's journal" in err
    assert "not signed: there is no device.key beside the journal" in err
    monkeypatch.setenv("GRIDLATCH_SITE", str(tmp_path / "no site"))
    assert main([*words, str(tmp_path / "y")]) == 0
    assert b" key=none " in (tmp_path / "y").read_bytes()


def test_a_damaged_key_signs_nothing(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other").mkdir()
    Signer.open(tmp_path / "other")
    (site / "state" / "device.pub").write_bytes((tmp_path / "other" / "device.pub").read_bytes())
    assert main(["audit", "export", "--format", "csv", "-o", str(tmp_path / "x")]) == 0
    assert "not signed: " in (err := capsys.readouterr().err)
    assert "is damaged or was exchanged" in err


def test_a_new_key_for_one_that_is_lost(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "key", "--new"]) == 1
    assert "a key that can sign is not replaced" in capsys.readouterr().err
    old = Signer.open(site / "state").fingerprint
    (site / "state" / "device.key").unlink()
    assert main(["audit", "key", "--new"]) == 0
    assert f"key {old}" not in capsys.readouterr().out
    assert (site / "state" / f"device-{old}.pub").exists()


@pytest.mark.parametrize("name", ["", "\udcff", "a\nb", "\x1b[2K", "x" * 201])
@pytest.mark.parametrize("option", ["--feeder", "--actor", "--kind"])
def test_names_that_are_none(site: Path, capsys: pytest.CaptureFixture[str], option: str, name: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["audit", "export", "--format", "csv", option, name])
    assert ended.value.code == 2
    assert "is no name" in capsys.readouterr().err


def test_more_kinds_than_a_seal_can_tell(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "export", "--format", "csv", *["--kind", "audit"] * 51]) == 2
    assert "--kind was given 51 times; 50 is the limit" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["verify"], ["key"], ["export", "--format", "csv"]])
def test_a_full_disk_behind_standard_output(site: Path, words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "gateway.cli", "audit", *words]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert ran.stderr.endswith("standard output can't be written: No space left on device\n")
    assert "Traceback" not in ran.stderr


def test_what_was_not_checked_is_told(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (site / "state" / "journal.db.mark").unlink()
    assert main(["audit", "verify"]) == 0
    assert "    not checked: whether its last batches were cut off: there is no mark" in capsys.readouterr().out
    assert main(["audit", "verify", "--json"]) == 0
    assert "there is no mark" in json.loads(capsys.readouterr().out)["files"][0]["unchecked"][0]
    assert main(["audit", "verify", "--head", f"0:{'ab' * 32}"]) == 1


def test_evidence_is_not_written_over(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text("older evidence")
    assert main(["audit", "export", "--format", "csv", "-o", str(tmp_path / "x")]) == 1
    assert "exists already" in capsys.readouterr().err
    assert (tmp_path / "x").read_text() == "older evidence"


def test_messages_to_a_collector(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", "export", "--format", "syslog", "--to", f"udp://127.0.0.1:{PORT}", "--max-message", "1024"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", PORT))
        collector.settimeout(20)
        assert main(words) == 0
        assert collector.recv(65_536).startswith(b"<109>1 2026-01-14T08:00:00")
    told = capsys.readouterr()
    assert f"8 entries to udp://127.0.0.1:{PORT}" in told.out
    assert "UDP tells nobody what arrived" in told.err
    assert main(["audit", "export", "--format", "syslog", "--to", "tcp://127.0.0.1:15466"]) == 1
    assert "tcp://127.0.0.1:15466: " in capsys.readouterr().err


def test_the_key_is_shown(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "key"]) == 0
    told = capsys.readouterr().out
    assert f"key {Signer.open(site / 'state').fingerprint}\n" in told
    assert "-----BEGIN PUBLIC KEY-----" in told
    (site / "state" / "device.pub").unlink()
    assert main(["audit", "key"]) == 1
    assert "the daemon makes it at its first start" in capsys.readouterr().err


def test_a_draft(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "report", "shed-1", "-o", str(tmp_path / "draft.txt")]) == 0
    assert "*** DRAFT ***" in (tmp_path / "draft.txt").read_text()
    assert main(["audit", "report", "--since", "2026-01-14", "--format", "eop004"]) == 0
    assert main(["audit", "report", "nobody"]) == 1
    assert "there is no nobody in this record" in capsys.readouterr().err


def test_the_grammar_names_every_format() -> None:
    assert set(evidence_parser.FORMATS) == set(FORMATS)
