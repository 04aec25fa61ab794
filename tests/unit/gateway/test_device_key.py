"""The device's key is held against the journal at each start: what changed is recorded and told, and stops nobody."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.device_key import KIND, RECORDED_AS, DeviceKey, device_key, key_told
from gateway.evidence.errors import SigningError
from gateway.evidence.signing import Signer
from gateway.housekeeping_heads import Heads
from gateway.housekeeping_troubles import of_audit
from journal import JournalCorrupt, JournalError
from journal.rows import Head

HEAD = Head(3, 9, "ab" * 32, 5)


class Kept:
    """A journal in memory."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Mapping[str, Any]]] = []

    def record(self, instance: str, kind: str, payload: Any) -> asyncio.Future[None]:
        assert kind == KIND
        self.told.append((instance, payload))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def latest(self, instance: str, limit: int = 1_000) -> Sequence[tuple[int, str, str, int, bytes]]:
        found = [(n, i, KIND, 0, json.dumps(told).encode()) for n, (i, told) in enumerate(self.told) if i == instance]
        return found[::-1][:limit]

    def events(self, instance: str = "") -> list[str]:
        return [told["event"] for one, told in self.told if one == instance]


async def start(folder: Path, journal: Kept) -> DeviceKey:
    key = await device_key(folder, journal)
    key.record(journal, 7)
    return key


async def test_the_first_start_makes_a_key_and_the_next_ones_know_it(tmp_path: Path) -> None:
    journal = Kept()
    first, second = await start(tmp_path, journal), await start(tmp_path, journal)
    assert first.fingerprint == second.fingerprint == second.before
    assert journal.events(RECORDED_AS) == ["device_key"]
    assert journal.events() == []
    assert (second.failed, second.warning) == ("", "")


async def test_a_record_that_cant_be_read_stops_nobody_and_makes_no_key(tmp_path: Path) -> None:
    class Damaged(Kept):
        async def latest(self, instance: str, limit: int = 1_000) -> Sequence[tuple[int, str, str, int, bytes]]:
            raise JournalCorrupt("the records of device.key are not linked")

    key = await device_key(tmp_path, Damaged(), (JournalError,))
    assert "are not linked" in key.failed
    with pytest.raises(SigningError, match="not linked"):
        key.sign(HEAD)
    assert not (tmp_path / "device.key").exists()


@pytest.mark.parametrize("name", ["device.key", "device.pub"])
async def test_a_key_of_an_algorithm_that_nobody_knows_stops_nobody(tmp_path: Path, name: str) -> None:
    journal = Kept()
    await start(tmp_path, journal)
    der = b"".join((tmp_path / name).read_bytes().splitlines()[1:-1])
    other = base64.b64encode(base64.b64decode(der).replace(b"\x2b\x65\x70", b"\x2b\x65\x7f")).decode()
    kind = "PRIVATE" if name == "device.key" else "PUBLIC"
    (tmp_path / name).write_text(f"-----BEGIN {kind} KEY-----\n{other}\n-----END {kind} KEY-----\n")
    assert "can be read" in (await start(tmp_path, journal)).failed


async def test_a_pair_that_was_exchanged_signs_and_is_recorded_and_told(tmp_path: Path) -> None:
    journal = Kept()
    old = await start(tmp_path, journal)
    for name in ("device.key", "device.pub"):
        (tmp_path / name).unlink()
    Signer.make(tmp_path)
    with capture_logs() as logged:
        new = await start(tmp_path, journal)
    assert new.changed
    assert (new.before, new.failed) == (old.fingerprint, "")
    assert [(one["event"], one["log_level"]) for one in logged] == [("device_key_changed", "error")]
    assert journal.events() == journal.events(RECORDED_AS)[1:] == ["device_key_changed"]
    assert f"it is {new.fingerprint}, and was {old.fingerprint}" in new.warning
    assert (await start(tmp_path, journal)).warning == ""


@pytest.mark.parametrize("gone", [["device.key"], ["device.key", "device.pub"]])
async def test_a_key_that_is_gone_is_told_and_no_other_takes_its_place(tmp_path: Path, gone: list[str]) -> None:
    journal = Kept()
    old = await start(tmp_path, journal)
    for name in gone:
        (tmp_path / name).rename(tmp_path / f"{name}.away")
    with capture_logs() as logged:
        found = await start(tmp_path, journal)
    assert found.fingerprint == ""
    assert "device.key is gone" in found.failed
    assert [(one["event"], one["log_level"]) for one in logged] == [("device_key_unusable", "error")]
    assert journal.events() == ["device_key_unusable"]
    with pytest.raises(SigningError, match="is gone"):
        found.sign(None)  # type: ignore[arg-type]
    assert not (tmp_path / "device.key").exists()
    for name in gone:
        (tmp_path / f"{name}.away").rename(tmp_path / name)
    assert (await start(tmp_path, journal)).before == old.fingerprint  # put back: nothing has changed
    assert journal.events() == ["device_key_unusable"]


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b'{"key": null}', b"[" * 100_000])
def test_a_record_that_can_t_be_read_names_no_key(payload: bytes) -> None:
    assert key_told(payload) == ""


async def test_an_exchanged_key_is_an_alarm(tmp_path: Path) -> None:
    journal = Kept()
    journal.record(RECORDED_AS, KIND, {"event": "device_key", "key": "0123456789abcdef"})
    assert (await start(tmp_path, journal)).failed != ""  # the one that the journal knows is not there

    Signer.make(tmp_path)
    key = await start(tmp_path, journal)
    heads = Heads(lambda: HEAD, key.sign, lambda: 600.0, key.warning)
    (trouble,) = of_audit(0, 0, heads.failed, heads.other_key)
    assert trouble.key == "audit_key"
    assert "was changed since the last start" in trouble.message
