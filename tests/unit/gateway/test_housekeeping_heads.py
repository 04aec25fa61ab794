"""Heads that are sent out: signed by the device's key, or told to be unsigned; never of an empty journal."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from gateway.device_key import found_in
from gateway.evidence.signing import KEY_FILE, PUBLIC_FILE, check_line, load_public, read_head
from gateway.housekeeping_heads import Heads

HASH = "ab" * 32


def at(batch: int) -> Any:
    return SimpleNamespace(batch=batch, seq=batch * 10, hash_hex=HASH, time_us=5)


def test_a_head_goes_out_signed_and_whoever_has_the_public_key_can_check_it(tmp_path: Path) -> None:
    heads = Heads(lambda: at(7), found_in(tmp_path, "").sign, lambda: 600.0)
    with capture_logs() as logged:
        sent = heads.send()
    assert heads.sent is sent
    assert heads.failed == ""
    (line,) = [one for one in logged if one["event"] == "journal_head"]
    assert (line["batch"], line["hash"], line["signed"]) == (7, HASH, sent.line)
    check_line(sent.line, load_public(tmp_path / PUBLIC_FILE))
    assert read_head(sent.line).batch == 7
    assert sent.told() == {"batch": 7, "seq": 70, "hash": HASH, "signed": sent.line, "at": sent.at}


def test_a_key_that_cant_be_used_keeps_nobody_from_work_and_is_told(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text("no key")
    heads = Heads(lambda: at(7), found_in(tmp_path, "").sign, lambda: 600.0)
    sent = heads.send()
    assert (sent.line, sent.hash_hex) == ("", HASH)
    assert "no key that can be read" in heads.failed


async def test_they_go_out_again_and_again_but_not_before_there_is_something(tmp_path: Path) -> None:
    now = at(0)
    heads = Heads(lambda: now, found_in(tmp_path, "").sign, lambda: 0.01)
    task = asyncio.create_task(heads.run())
    await asyncio.sleep(0.05)
    assert heads.sent is None, "an empty journal proves nothing"
    now = at(3)
    async with asyncio.timeout(30):
        while heads.sent is None or heads.sent.batch < 4:
            now = at(now.batch + 1)
            await asyncio.sleep(0.02)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
