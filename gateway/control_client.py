"""Asking the running daemon: the client's half of the control socket, and what both halves agree on.

One request is one line of JSON, ``{"op": "status", "args": {...}}``; its answer is one line,
``{"ok": true, "result": ...}`` or ``{"ok": false, "error": {"code": "not_found", "message": "..."}}``. A connection may
carry several requests, one after the other. The operations themselves are listed in ``gateway/cli/commands.py``.

What must stay true: a request is sent at most once; and "the daemon was not reached" (nothing happened) is told apart
from "it was reached and did not answer" (something may have happened). A crash of the client in the middle changes
nothing in the daemon: what was asked is carried out.

This file imports neither asyncio nor msgspec: the command line should start at once.
"""

from __future__ import annotations

import enum
import json
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

MAX_REQUEST_BYTES = 2 * 1024 * 1024
"""A longer request line is refused with ``too_large``, and its connection closed."""
MAX_REPLY_BYTES = 16 * 1024 * 1024
"""A longer result is refused with ``too_large``: the caller should ask for less at once."""


class Code(enum.StrEnum):
    """Why a request failed, split by what the caller must do.

    BAD_REQUEST      say it differently: the message tells what was wrong.
    NOT_FOUND        no such instance, feeder, operation.
    GONE             it was there and has finished.
    EXISTS           an instance of that id is alive.
    REFUSED          understood, and not done: a rule or a state forbids it. Nothing happened.
    UNKNOWN_OUTCOME  it may or may not have happened: look before asking again.
    TOO_LARGE        over a limit, which the message names.
    UNAVAILABLE      not now: starting, stopping, or too many at once.
    INTERNAL         a fault of the daemon; its log has the traceback.
    """

    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    GONE = "gone"
    EXISTS = "exists"
    REFUSED = "refused"
    UNKNOWN_OUTCOME = "unknown_outcome"
    TOO_LARGE = "too_large"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class ControlError(Exception):
    """A request that the daemon answered with an error; raised by handlers in the daemon and by ``call`` outside.

    code: a ``Code`` (or its text). message: a sentence for people.
    """

    def __init__(self, code: Code | str, message: str) -> None:
        super().__init__(message)
        self.code = Code(code)
        self.message = message


class DaemonUnreachable(Exception):
    """No daemon listens at the socket, or it may not be entered: the request was not sent, nothing happened."""


class DaemonSilent(DaemonUnreachable):
    """The request was sent (at least in part) and no valid answer came in time: whether it took effect is not known."""


def encode_request(op: str, args: Mapping[str, JsonValue]) -> bytes:
    """One request line. Raises ControlError (too_large, bad_request) for what the daemon would not read."""
    try:
        line = json.dumps({"op": op, "args": args}, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise ControlError(Code.BAD_REQUEST, f"the arguments of {op} are not JSON: {error}") from None
    if len(line) > MAX_REQUEST_BYTES:
        raise ControlError(
            Code.TOO_LARGE, f"the request has {len(line)} bytes; the daemon takes at most {MAX_REQUEST_BYTES}"
        )
    return line


def decode_reply(line: bytes) -> JsonValue:
    """The result in a reply line. Raises ControlError for an error reply, DaemonSilent for what is no reply at all."""
    try:
        reply = json.loads(line)
        if reply["ok"] is True:
            result: JsonValue = reply["result"]
            return result
        error = reply["error"]
        code, message = Code(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError) as problem:
        raise DaemonSilent(f"what came from the control socket is no reply: {problem!r}") from None
    raise ControlError(code, message)


def unreachable(path: Path, error: OSError) -> DaemonUnreachable:
    """The error for a socket that could not be connected to, in words that say what to do."""
    if isinstance(error, FileNotFoundError):
        return DaemonUnreachable(f"no daemon runs here: {path} does not exist")
    if isinstance(error, ConnectionRefusedError):
        return DaemonUnreachable(f"no daemon runs here: nobody listens at {path}")
    if isinstance(error, PermissionError):
        return DaemonUnreachable(f"{path} may not be entered by this user: its group and mode say who may")
    return DaemonUnreachable(f"{path} can't be connected to: {error.strerror or error}")


def call(path: Path, op: str, args: Mapping[str, JsonValue], timeout_s: float) -> JsonValue:
    """Ask the daemon at ``path`` once and wait for its answer, at most timeout_s (real seconds) in all.

    Raises ControlError for an error reply, DaemonUnreachable when nothing was sent, DaemonSilent when it was and no
    answer came.
    """
    line = encode_request(op, args)
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise unreachable(path, error) from None
        try:
            connection.sendall(line)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon may have refused the connection with a reply: read that
        except OSError as error:
            raise DaemonSilent(f"the daemon at {path} does not take the request: {error}") from None
        return decode_reply(_read_line(connection, path, deadline, timeout_s))


def _read_line(connection: socket.socket, path: Path, deadline: float, timeout_s: float) -> bytes:
    gathered = bytearray()
    while not gathered.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        try:
            if left_s <= 0:
                raise TimeoutError
            connection.settimeout(left_s)
            chunk = connection.recv(1 << 16)
        except TimeoutError:
            raise DaemonSilent(f"the daemon at {path} gave no answer within {timeout_s:g} s") from None
        except OSError as error:
            raise DaemonSilent(f"the connection to {path} broke before the answer: {error}") from None
        if not chunk:
            raise DaemonSilent(f"the daemon at {path} ended the connection without an answer")
        gathered += chunk
        if len(gathered) > MAX_REPLY_BYTES:
            raise DaemonSilent(f"the answer from {path} is longer than {MAX_REPLY_BYTES} bytes")
    return bytes(gathered)
