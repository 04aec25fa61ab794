"""How peers are measured: who is waited for, what is counted as theirs, and that what was started is ended."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.peers import install
from benchmarks.peers.http import Http
from benchmarks.peers.measuring import GREETINGS, Done, Flushes, in_flight, measure, running, tree_cpu_s, windowed


def test_no_more_than_asked_for_are_under_way() -> None:
    under_way, most = 0, 0

    def start() -> object:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)

        def wait() -> object:
            nonlocal under_way
            under_way -= 1
            return GREETINGS

        return wait

    assert windowed(start, 20, 6).operations == 20  # type: ignore[arg-type]
    assert (most, under_way) == (6, 0)


def test_a_peer_that_did_not_do_the_work_is_no_peer() -> None:
    with pytest.raises(AssertionError, match="did not do the work"):
        windowed(lambda: lambda: ["hello"], 1, 1)


async def test_callers_take_turns_and_each_latency_is_told() -> None:
    numbers = []

    async def call(number: int) -> None:
        await asyncio.sleep(0)
        numbers.append(number)

    done = await in_flight(call, 10, 4)
    assert (sorted(numbers), len(done.latencies_s)) == (list(range(10)), 10)


async def test_a_line_is_told_for_each_case_that_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["peer", "folder", "events", "fan_out", "timers"])

    async def fan_out() -> Done:
        return Done(4, seconds=2.0)

    cases = {"fan_out": fan_out, "events": lambda: Done(2, [0.001, 0.003]), "hundred": lambda: Done(1)}
    await measure(cases, tmp_path, "7", "none")
    about, events, fanned = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert about == {"version": "7", "durability": "none"}
    assert (events["case"], events["p50_ms"], events["p99_ms"]) == ("events", 1.0, 3.0)
    assert (fanned["case"], fanned["per_s"]) == ("fan_out", 2.0)


def test_cpu_of_descendants_counts_and_they_are_ended() -> None:
    before = tree_cpu_s()
    with running([sys.executable, "-c", "while True: pass"]):
        until = time.monotonic() + 30
        while tree_cpu_s() - before < 0.3:
            assert time.monotonic() < until, "the child's CPU is not counted"
            time.sleep(0.05)
        children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_flushes_of_the_disk_are_counted(tmp_path: Path) -> None:
    flushes = Flushes(tmp_path)
    before = flushes.count()
    if before is None:
        pytest.skip("nobody counts the flushes of the disk under this folder")
    with (tmp_path / "file").open("wb", buffering=0) as file:
        for _ in range(5):
            file.write(b"x")
            os.fsync(file.fileno())
    after = flushes.count()
    assert after is not None
    assert after > before


async def test_answers_of_a_known_length_and_in_chunks_are_read() -> None:
    answers = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n42",
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nbad",
    ]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        http = Http(server.sockets[0].getsockname()[1])
        async with asyncio.timeout(20):
            assert await http.post("/a", 1) == 42
            assert await http.post("/b") == [1, 2]
            with pytest.raises(RuntimeError, match="bad"):
                await http.post("/c")
        http.close()


def test_one_package_that_can_t_be_had_does_not_keep_the_others_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = []

    def had(command: list[str]) -> bool:
        asked.append(command[-1])
        return not command[-1].startswith("dbos")

    monkeypatch.setattr(install, "had", had)
    monkeypatch.setattr(install, "npm_folder", lambda: tmp_path / "peers")
    monkeypatch.setattr(install.shutil, "which", lambda _: "/usr/bin/npm")
    install.main()
    assert {name.split(">")[0] for name in asked} >= {"dbos", "duroxide", *install.NPM}
    assert [line.split(": ")[1].split(">")[0] for line in capsys.readouterr().err.splitlines()] == ["dbos"]
