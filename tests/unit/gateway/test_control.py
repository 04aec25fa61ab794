"""The control socket, from both sides: who may enter, what is asked and answered, and how it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.control import (
    Code,
    ControlError,
    ControlServer,
    DaemonSilent,
    DaemonUnreachable,
    JsonValue,
    Limits,
    SocketInUse,
    call,
    call_async,
)


async def echo(args: dict[str, JsonValue]) -> JsonValue:
    return args


async def refuse(args: dict[str, JsonValue]) -> JsonValue:
    raise ControlError(Code.REFUSED, "the breaker stands at local")


async def fault(args: dict[str, JsonValue]) -> JsonValue:
    raise ZeroDivisionError("a bug")


async def endless(args: dict[str, JsonValue]) -> JsonValue:
    await asyncio.sleep(3600)
    return None


HANDLERS = {"echo": echo, "refuse": refuse, "fault": fault, "endless": endless}


def serve(folder: Path, limits: Limits | None = None) -> ControlServer:
    return ControlServer(folder / "control.sock", 0o660, HANDLERS, limits)


async def raw(path: Path, *lines: bytes) -> list[dict[str, object]]:
    """Send lines over one connection, end the sending side, and give all replies until the daemon closes."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"".join(lines))
    writer.write_eof()
    replies = [json.loads(line) for line in (await reader.read()).splitlines()]
    writer.close()
    return replies


def code_of(reply: Mapping[str, object]) -> object:
    assert reply["ok"] is False
    error = reply["error"]
    assert isinstance(error, dict)
    assert error["message"]
    return error["code"]


class TestAsking:
    async def test_a_request_is_answered_by_its_handler_who_knows_who_asks(self, tmp_path: Path) -> None:
        async with serve(tmp_path):
            result = await call_async(tmp_path / "control.sock", "echo", {"feeder": "7B"}, 5)
        assert isinstance(result, dict)
        assert result["feeder"] == "7B"
        assert result["_peer"]["pid"] == os.getpid()
        assert result["_peer"]["uid"] == os.getuid()
        assert result["_peer"]["user"]

    async def test_nobody_can_pretend_to_be_somebody_else(self, tmp_path: Path) -> None:
        async with serve(tmp_path):
            result = await call_async(tmp_path / "control.sock", "echo", {"_peer": {"user": "dispatcher"}}, 5)
        assert isinstance(result, dict)
        assert result["_peer"]["pid"] == os.getpid()

    async def test_the_client_without_an_event_loop_gets_the_same(self, tmp_path: Path) -> None:
        async with serve(tmp_path):
            path = tmp_path / "control.sock"
            result = await asyncio.to_thread(call, path, "echo", {"n": 1}, 5)
            assert isinstance(result, dict)
            assert result["n"] == 1
            with pytest.raises(ControlError, match="stands at local") as caught:
                await asyncio.to_thread(call, path, "refuse", {}, 5)
            assert caught.value.code is Code.REFUSED

    async def test_one_connection_carries_several_requests(self, tmp_path: Path) -> None:
        async with serve(tmp_path):
            replies = await raw(tmp_path / "control.sock", *[b'{"op":"echo","args":{"n":%d}}\n' % n for n in range(3)])
        assert [reply["result"]["n"] for reply in replies] == [0, 1, 2]  # type: ignore[index]

    async def test_a_large_result_arrives_whole(self, tmp_path: Path) -> None:
        text = "x" * 1_900_000
        async with serve(tmp_path):
            result = await asyncio.to_thread(call, tmp_path / "control.sock", "echo", {"text": text}, 5)
        assert isinstance(result, dict)
        assert result["text"] == text


class TestRefusing:
    async def test_malformed_requests_get_a_reply_and_the_connection_goes_on(self, tmp_path: Path) -> None:
        wrong = [
            b"hello\n",
            b"\n",
            b"[]\n",
            b'{"op":7}\n',
            b'{"args":{}}\n',
            b'{"op":"echo","args":[]}\n',
            b"\xff\xfe\n",
        ]
        wrong += [b'{"op":"echo","args":{},"extra":1}\n', b'{"op":"echo","args":' + b"[" * 100_000 + b"\n"]
        async with serve(tmp_path):
            replies = await raw(tmp_path / "control.sock", *wrong, b'{"op":"echo"}\n')
        assert [code_of(reply) for reply in replies[:-1]] == ["bad_request"] * len(wrong)
        assert replies[-1]["ok"] is True

    async def test_a_request_cut_off_in_the_middle_is_not_carried_out(self, tmp_path: Path) -> None:
        async with serve(tmp_path):
            replies = await raw(tmp_path / "control.sock", b'{"op":"echo"}')
        assert [code_of(reply) for reply in replies] == ["bad_request"]

    async def test_an_unknown_operation_is_named(self, tmp_path: Path) -> None:
        async with serve(tmp_path):
            with pytest.raises(ControlError, match="open_everything") as caught:
                await call_async(tmp_path / "control.sock", "open_everything", {}, 5)
        assert caught.value.code is Code.NOT_FOUND

    async def test_a_fault_in_a_handler_is_internal_logged_and_the_server_goes_on(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async with serve(tmp_path):
            with pytest.raises(ControlError, match="ZeroDivisionError") as caught:
                await call_async(tmp_path / "control.sock", "fault", {}, 5)
            assert caught.value.code is Code.INTERNAL
            assert await call_async(tmp_path / "control.sock", "echo", {}, 5)
        output = "".join(capsys.readouterr())
        assert "control_request_failed" in output
        assert "a bug" in output

    async def test_a_line_over_the_limit_is_too_large(self, tmp_path: Path) -> None:
        async with serve(tmp_path, Limits(line_bytes=1000)):
            with pytest.raises(ControlError, match="1000") as caught:
                await asyncio.to_thread(call, tmp_path / "control.sock", "echo", {"text": "x" * 1_000_000}, 5)
            assert caught.value.code is Code.TOO_LARGE
            assert await call_async(tmp_path / "control.sock", "echo", {}, 5)

    async def test_the_client_does_not_even_send_what_is_too_large(self, tmp_path: Path) -> None:
        with pytest.raises(ControlError) as caught:
            call(tmp_path / "nobody", "echo", {"text": "x" * (2 * 1024 * 1024)}, 5)
        assert caught.value.code is Code.TOO_LARGE

    async def test_a_result_over_the_limit_is_too_large(self, tmp_path: Path) -> None:
        async with serve(tmp_path, Limits(reply_bytes=100)):
            with pytest.raises(ControlError) as caught:
                await call_async(tmp_path / "control.sock", "echo", {"text": "x" * 200}, 5)
        assert caught.value.code is Code.TOO_LARGE

    async def test_one_connection_too_many_is_told_so_and_the_others_live(self, tmp_path: Path) -> None:
        path = tmp_path / "control.sock"
        async with serve(tmp_path, Limits(connections=2)):
            first = await asyncio.open_unix_connection(str(path))
            second = await asyncio.open_unix_connection(str(path))
            for reader, writer in (first, second):
                writer.write(b'{"op":"echo"}\n')
                assert json.loads(await reader.readline())["ok"] is True
            with pytest.raises(ControlError, match="2 connections") as caught:
                await call_async(path, "echo", {}, 5)
            assert caught.value.code is Code.UNAVAILABLE
            first[1].close()
            second[1].write(b'{"op":"echo"}\n')
            assert json.loads(await second[0].readline())["ok"] is True
            second[1].close()

    async def test_an_idle_connection_is_told_so_and_closed(self, tmp_path: Path) -> None:
        async with serve(tmp_path, Limits(idle_s=0.05)):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "control.sock"))
            writer.write(b'{"op":')
            assert code_of(json.loads(await reader.readline())) == "unavailable"
            assert await reader.read() == b""
            writer.close()

    async def test_a_handler_without_an_end_is_an_unknown_outcome(self, tmp_path: Path) -> None:
        async with serve(tmp_path, Limits(request_s=0.05)):
            with pytest.raises(ControlError, match="may or may not") as caught:
                await call_async(tmp_path / "control.sock", "endless", {}, 5)
        assert caught.value.code is Code.UNKNOWN_OUTCOME


class TestTheSocketFile:
    async def test_it_has_its_mode_whatever_the_umask_and_is_gone_after_the_stop(self, tmp_path: Path) -> None:
        path = tmp_path / "control.sock"
        before = os.umask(0o000)
        try:
            async with ControlServer(path, 0o600, HANDLERS):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
        finally:
            os.umask(before)
        assert not path.exists()

    async def test_what_a_crash_left_is_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "control.sock"
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
        async with serve(tmp_path):
            assert await call_async(path, "echo", {}, 5)

    async def test_a_second_daemon_is_refused_and_the_first_keeps_its_socket(self, tmp_path: Path) -> None:
        async with serve(tmp_path):
            with pytest.raises(SocketInUse, match="another daemon"):
                await serve(tmp_path).start()
            assert await call_async(tmp_path / "control.sock", "echo", {}, 5)

    async def test_a_file_that_is_no_socket_is_not_removed(self, tmp_path: Path) -> None:
        (tmp_path / "control.sock").write_text("precious")
        with pytest.raises(SocketInUse, match="no socket"):
            await serve(tmp_path).start()
        assert (tmp_path / "control.sock").read_text() == "precious"


class TestNobodyThere:
    async def test_unreachable_says_that_nothing_was_sent(self, tmp_path: Path) -> None:
        async def ask_without_loop(path: Path) -> JsonValue:
            return await asyncio.to_thread(call, path, "echo", {}, 1)

        async def ask_on_loop(path: Path) -> JsonValue:
            return await call_async(path, "echo", {}, 1)

        for ask in (ask_without_loop, ask_on_loop):
            path = tmp_path / "missing.sock"
            with pytest.raises(DaemonUnreachable, match="does not exist") as caught:
                await ask(path)
            assert not isinstance(caught.value, DaemonSilent)
            path = tmp_path / "dead.sock"
            path.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as left_behind:
                left_behind.bind(str(path))
            with pytest.raises(DaemonUnreachable, match="nobody listens") as caught:
                await ask(path)
            assert not isinstance(caught.value, DaemonSilent)

    async def test_no_answer_in_time_is_silence_not_absence(self, tmp_path: Path) -> None:
        async with serve(tmp_path) as server:
            with pytest.raises(DaemonSilent, match="no answer"):
                await call_async(tmp_path / "control.sock", "endless", {}, 0.1)
            with pytest.raises(DaemonSilent, match="no answer"):
                await asyncio.to_thread(call, tmp_path / "control.sock", "endless", {}, 0.1)
            await server.stop(grace_s=0)

    async def test_a_daemon_that_stops_cuts_off_what_does_not_end(self, tmp_path: Path) -> None:
        started = asyncio.Event()

        async def never_ends(args: dict[str, JsonValue]) -> JsonValue:
            started.set()
            return await endless(args)

        server = ControlServer(tmp_path / "control.sock", 0o660, {"endless": never_ends})
        await server.start()
        asking = asyncio.create_task(call_async(tmp_path / "control.sock", "endless", {}, 5))
        await started.wait()
        await server.stop(grace_s=0.01)
        with pytest.raises(DaemonSilent):
            await asking
