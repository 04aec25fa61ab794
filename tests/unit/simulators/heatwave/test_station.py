"""The two processes and the gateway's control socket, against a socket that answers as it is told."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simulators.heatwave import station as told
from simulators.heatwave.station import GatewayAway, GatewayRefused, ProcessEnded, Station


class Answers:
    """A gateway's control socket: what it answers next, and what it was asked."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.asked: list[dict[str, object]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer."""
        self.asked.append(json.loads(await reader.readline()))
        writer.write(self.lines.pop(0))
        await writer.drain()
        writer.close()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Answers]:
    """A listening control socket."""
    answers = Answers()
    async with await asyncio.start_unix_server(answers.serve, tmp_path / "gridlatch.sock"):
        yield answers


def reply(result: object) -> bytes:
    """A good answer."""
    return json.dumps({"ok": True, "result": result}).encode() + b"\n"


async def test_a_question_and_its_answer(gateway: Answers, tmp_path: Path) -> None:
    """The wire form of the gateway's control socket."""
    gateway.lines = [reply({"timers": []})]
    assert await Station(tmp_path).ask("timers", {"limit": 5}) == {"timers": []}
    assert gateway.asked == [{"op": "timers", "args": {"limit": 5}}]


async def test_pages_are_put_together(gateway: Answers, tmp_path: Path) -> None:
    """All breakers, however many pages; the next page begins after the last one."""
    gateway.lines = [
        reply({"breakers": [{"feeder": "A"}], "next": "A"}),
        reply({"breakers": [{"feeder": "B"}], "next": None}),
    ]
    assert list(await Station(tmp_path).breakers(tier="Tier1")) == ["A", "B"]
    assert [one["args"]["after"] for one in gateway.asked] == [None, "A"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b'{"ok": false, "error": {"code": "refused", "message": "no"}}\n', GatewayRefused),
        (b'{"ok": false, "error": {"code": "unavailable", "message": "starting"}}\n', GatewayAway),
        (b'{"ok": tr', GatewayAway),
        (b"", GatewayAway),
    ],
)
async def test_no_good_answer(gateway: Answers, tmp_path: Path, line: bytes, error: type[Exception]) -> None:
    """Refused is told apart from not there."""
    gateway.lines = [line]
    with pytest.raises(error):
        await Station(tmp_path).ask("status")


async def test_nobody_there(tmp_path: Path) -> None:
    """No socket at all."""
    with pytest.raises(GatewayAway):
        await Station(tmp_path).ask("status")


async def test_a_gateway_that_ends_by_itself_is_noticed_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last words of its log are in the error."""
    command = [sys.executable, "-c", "import sys; sys.exit('gridlatch: no such site')"]
    monkeypatch.setattr(told, "gateway_command", lambda: command)
    station = Station(tmp_path)
    await station.start_gateway()
    assert station.gateway is not None
    await station.gateway.process.wait()
    with pytest.raises(ProcessEnded, match="no such site"):
        station.check()


async def test_the_end_ends_what_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that doesn't listen to SIGTERM; and after a power cut there is nothing to end."""
    deaf = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    monkeypatch.setattr(told, "gateway_command", lambda: [sys.executable, "-c", deaf])
    monkeypatch.setattr(told, "END_TIMEOUT_S", 0.2)
    station = Station(tmp_path)
    await station.start_gateway()
    assert station.gateway is not None
    while "deaf" not in station.gateway.tail():  # noqa: ASYNC110 - a file wakes nobody
        await asyncio.sleep(0.01)
    process = station.gateway.process
    said = await station.end()
    assert process.returncode == -9
    assert f"pid {process.pid}" in said[0]
    assert "was killed" in said[0]
    await station.start_gateway()
    await station.cut_power()
    assert await station.end() == []


async def test_one_that_is_cancelled_while_it_starts_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Ctrl-C at the worst moment."""
    monkeypatch.setattr(told, "gateway_command", lambda: [sys.executable, "-c", "import time; time.sleep(60)"])
    started: list[asyncio.subprocess.Process] = []
    exists = asyncio.Event()
    real = asyncio.create_subprocess_exec

    async def slowly(*arguments: object, **options: object) -> asyncio.subprocess.Process:
        started.append(await real(*arguments, **options))  # type: ignore[arg-type]
        exists.set()
        await asyncio.sleep(0.05)
        return started[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    starting = asyncio.ensure_future(Station(tmp_path).start_gateway())
    await exists.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert started[0].returncode == -9


async def test_what_is_given_to_a_command_goes_through_its_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password is in no argument that others could see."""
    echo = "import sys; print(sys.argv[1:], sys.stdin.read())"
    monkeypatch.setattr(told, "gateway_command", lambda: [sys.executable, "-c", echo])
    code, said = await Station(tmp_path).command_line("users", "add", given="secret")
    assert (code, said) == (0, f"['users', 'add', '--site', '{tmp_path}'] secret")


async def test_the_last_record_of_an_event_in_the_log(tmp_path: Path) -> None:
    """Lines that are no JSON don't matter."""
    station = Station(tmp_path)
    assert station.log_event("reconciled") is None
    log = tmp_path / "gateway-1.log"
    log.write_text(
        'Traceback "reconciled"\n{"event": "reconciled", "sentence": "a"}\n{"event": "reconciled", "n": 2}\n'
    )
    station.gateway = told.Running("gateway", None, log)  # type: ignore[arg-type]
    assert station.log_event("reconciled") == {"event": "reconciled", "n": 2}
