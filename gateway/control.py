"""The control socket: how people and programs on this machine speak with the daemon.

A Unix socket whose file permissions are the guard: who may open the file may command. The kernel says who is at the
other end (``SO_PEERCRED``), and each handler finds it in ``args["_peer"]``, so that the record of an action names a
person; a client can't set it. The wire format is told in ``control_client.py``.

What must stay true:

* Nobody can connect before the file has its final mode: it is bound, then its mode is set, and only then it listens.
* A socket file is removed only if nobody listens at it; another daemon's socket is never taken away.
* No request, however wrong, ends the server or disturbs another connection. Every refusal is a reply.
* Everything is bounded: connections, length of a line, idle time, time of a request, time to take a reply.

A crash leaves the socket file behind; the next start finds nobody listening and removes it. A request in progress at a
crash got no reply, so its sender holds it for unknown: right, for its effects are in the journal or nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import structlog

from gateway.control_client import (
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    Code,
    ControlError,
    DaemonSilent,
    DaemonUnreachable,
    JsonValue,
    call,
    decode_reply,
    encode_request,
    unreachable,
)

__all__ = [
    "Code",
    "ControlError",
    "ControlServer",
    "DaemonSilent",
    "DaemonUnreachable",
    "Handler",
    "JsonValue",
    "Limits",
    "SocketInUse",
    "call",
    "call_async",
]

Handler = Callable[[dict[str, JsonValue]], Awaitable[JsonValue]]
"""Carries out one operation; raises ControlError to refuse. ``args["_peer"]`` is {"pid", "uid", "user"}."""

_UCRED = struct.Struct("iII")


class SocketInUse(Exception):
    """The control socket can't be opened: another daemon listens there, or the path is no socket."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one control socket takes, and what follows beyond it; times are real seconds.

    connections: the next one gets an ``unavailable`` reply and is closed. line_bytes, reply_bytes: ``too_large``.
    idle_s: without a whole request for so long, a connection is told so and closed. request_s: a handler that takes
    longer is cancelled and the reply says ``unknown_outcome``. write_s: who does not take a reply is cut off.
    """

    connections: int = 32
    line_bytes: int = MAX_REQUEST_BYTES
    reply_bytes: int = MAX_REPLY_BYTES
    idle_s: float = 60.0
    request_s: float = 600.0
    write_s: float = 30.0


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    op: str
    args: dict[str, object] = {}  # msgspec copies the default for each request


class ControlServer:
    """Serves ``handlers`` (operation → handler) at the socket ``path`` with file permissions ``mode``."""

    def __init__(self, path: Path, mode: int, handlers: Mapping[str, Handler], limits: Limits | None = None) -> None:
        self._path = path
        self._mode = mode
        self._handlers = dict(handlers)
        self._limits = limits or Limits()
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._log = structlog.get_logger("control")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. Raises SocketInUse when another daemon does, OSError when the folder is missing or forbidden."""
        _remove_if_stale(self._path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            listener.bind(str(self._path))
            os.chmod(self._path, self._mode)
            seen = os.stat(self._path)
            self._inode = (seen.st_dev, seen.st_ino)
            self._server = await asyncio.start_unix_server(
                self._connected, sock=listener, limit=self._limits.line_bytes, backlog=self._limits.connections
            )
        except BaseException:
            listener.close()
            raise

    async def stop(self, grace_s: float = 2.0) -> None:
        """Accept nothing more, let requests in progress end within grace_s, then cut off; remove the socket file."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
            self._server = None
        with contextlib.suppress(FileNotFoundError):
            seen = os.stat(self._path)
            if (seen.st_dev, seen.st_ino) == self._inode:
                os.unlink(self._path)
        for task in self._connections - self._busy:
            task.cancel()
        if self._busy:
            await asyncio.wait(set(self._busy), timeout=grace_s)
        left = set(self._connections)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if len(self._connections) > self._limits.connections:
                await self._send(writer, _error(Code.UNAVAILABLE, f"{self._limits.connections} connections are open"))
            else:
                await self._serve(reader, writer, task)
        except (ConnectionError, TimeoutError):
            self._log.debug("control_connection_lost")
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            self._connections.discard(task)
            self._busy.discard(task)
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, task: asyncio.Task[None]
    ) -> None:
        peer = _peer_of(writer)
        limits = self._limits
        while not self._stopping:
            try:
                line = await asyncio.wait_for(reader.readuntil(b"\n"), limits.idle_s)
            except TimeoutError:
                await self._send(writer, _error(Code.UNAVAILABLE, f"no request within {limits.idle_s:g} s: closed"))
                return
            except asyncio.LimitOverrunError:
                await self._send(writer, _error(Code.TOO_LARGE, f"a request has at most {limits.line_bytes} bytes"))
                return
            except asyncio.IncompleteReadError as cut:
                if cut.partial.strip():
                    await self._send(writer, _error(Code.BAD_REQUEST, "the request does not end with a line feed"))
                return
            self._busy.add(task)
            reply = await self._answer(line, peer)
            await self._send(writer, reply)
            self._busy.discard(task)

    async def _answer(self, line: bytes, peer: dict[str, JsonValue]) -> bytes:
        try:
            request = msgspec.json.decode(line, type=_Request)
        except (msgspec.DecodeError, RecursionError) as error:
            return _error(Code.BAD_REQUEST, f'a request is one line {{"op": "...", "args": {{...}}}}: {error}')
        handler = self._handlers.get(request.op)
        if handler is None:
            return _error(Code.NOT_FOUND, f"there is no operation {request.op[:80]!r}")
        args: dict[str, JsonValue] = {**request.args, "_peer": peer}  # type: ignore[dict-item]
        limit = asyncio.timeout(self._limits.request_s)
        try:
            async with limit:
                result = await handler(args)
            reply = msgspec.json.encode({"ok": True, "result": result}) + b"\n"
        except ControlError as error:
            return _error(error.code, error.message)
        except Exception as error:  # noqa: BLE001 - a fault in one operation must not end the service of the others
            if limit.expired():
                self._log.error("control_request_too_slow", op=request.op, limit_s=self._limits.request_s)
                return _error(
                    Code.UNKNOWN_OUTCOME,
                    f"{request.op}: no result within {self._limits.request_s:g} s; it may or may not have taken effect",
                )
            self._log.exception("control_request_failed", op=request.op)
            return _error(Code.INTERNAL, f"{request.op} failed: {type(error).__name__}; the daemon's log tells more")
        if len(reply) > self._limits.reply_bytes:
            return _error(
                Code.TOO_LARGE,
                f"the result has {len(reply)} bytes, a reply at most {self._limits.reply_bytes}: ask for less at once",
            )
        return reply

    async def _send(self, writer: asyncio.StreamWriter, reply: bytes) -> None:
        writer.write(reply)
        try:
            await asyncio.wait_for(writer.drain(), self._limits.write_s)
        except TimeoutError:
            writer.transport.abort()
            raise


def _error(code: Code, message: str) -> bytes:
    return msgspec.json.encode({"ok": False, "error": {"code": code.value, "message": message}}) + b"\n"


def _peer_of(writer: asyncio.StreamWriter) -> dict[str, JsonValue]:
    connection: socket.socket = writer.get_extra_info("socket")
    pid, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = f"uid {uid}"
    return {"pid": pid, "uid": uid, "user": user}


def _remove_if_stale(path: Path) -> None:
    """Remove the socket file that a crashed daemon left; raise SocketInUse if it is anything else."""
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise SocketInUse(f"{path} exists and is no socket: choose another path for the control socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            raise SocketInUse(f"{path} exists, and whether a daemon listens there can't be told: {error}") from None
    raise SocketInUse(f"another daemon listens at {path}")


async def call_async(path: Path, op: str, args: Mapping[str, JsonValue], timeout_s: float) -> JsonValue:
    """``call`` for programs with an event loop: same arguments, results and errors."""
    line = encode_request(op, args)
    sent = False
    try:
        async with asyncio.timeout(timeout_s):
            try:
                reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_REPLY_BYTES)
            except OSError as error:
                raise unreachable(path, error) from None
            try:
                sent = True
                writer.write(line)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    await writer.drain()  # a refusal may have come before the request was read: look for it
                return decode_reply(await reader.readuntil(b"\n"))
            finally:
                writer.close()
    except TimeoutError:
        kind = DaemonSilent if sent else DaemonUnreachable
        raise kind(f"the daemon at {path} gave no answer within {timeout_s:g} s") from None
    except asyncio.IncompleteReadError:
        raise DaemonSilent(f"the daemon at {path} ended the connection without an answer") from None
    except asyncio.LimitOverrunError:
        raise DaemonSilent(f"the answer from {path} is longer than {MAX_REPLY_BYTES} bytes") from None
    except ConnectionError as error:
        raise DaemonSilent(f"the connection to {path} broke before the answer: {error}") from None
