"""Where log lines go and how they look: one JSON object a line for the journal of the machine, or a readable console.

What must stay true: one event is one line; its time is UTC (RFC 3339); what stands under a key that names a secret is
never written; a log that can't be written (a full disk, a closed pipe) never ends the control of breakers: lost
lines are counted in ``lost_lines()``. Libraries that use the standard ``logging`` come out the same way.

Log lines help people to understand; what counts as evidence is in the journal. A crash loses no line that was written.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import Protocol

import structlog
from structlog.typing import EventDict, WrappedLogger

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
FORMATS = ("json", "console")

_REDACTED = "[redacted]"
_SECRET = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|authori[sz]ation|private[_-]?key|api[_-]?key", re.I
)
_DEEPEST = 8
# What a priority is in syslog's words; the machine's journal reads it from the front of the line.
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}

_threshold = LEVELS["info"]
_lost_lines = 0


class Stream(Protocol):
    """Where lines are written."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...


def configure(level: str, form: str, stream: Stream | None = None, *, priority_prefix: bool | None = None) -> None:
    """Set up logging for the process; may be called again.

    level: one of LEVELS. form: ``json`` or ``console``. stream: standard error unless given. priority_prefix: write
    ``<3>`` before an error and so on, as the machine's journal understands it (default: if standard error leads there).
    Raises ValueError for an unknown level or form.
    """
    if form not in FORMATS:
        raise ValueError(f"log format {form!r}: write one of {', '.join(FORMATS)}")
    set_level(level)
    if priority_prefix is None:
        priority_prefix = form == "json" and stream is None and _leads_to_journal()
    out = stream or sys.stderr
    colours = form == "console" and stream is None and sys.stderr.isatty()
    render = (
        [structlog.processors.format_exc_info, _in_order, structlog.processors.JSONRenderer(default=str)]
        if form == "json"
        else [structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=28)]
    )
    structlog.configure(
        processors=[
            _by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            *render,
        ],
        wrapper_class=structlog.BoundLogger,
        logger_factory=lambda *names: _Lines(out, priority_prefix, names[0] if names else ""),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers = [_FromStandardLogging()]
    root.setLevel(logging.WARNING)


def set_level(level: str) -> None:
    """Change the level of a running process. Raises ValueError for an unknown one."""
    global _threshold
    if level not in LEVELS:
        raise ValueError(f"log level {level!r}: write one of {', '.join(LEVELS)}")
    _threshold = LEVELS[level]


def lost_lines() -> int:
    """How many lines could not be written since the start."""
    return _lost_lines


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Replace what stands under keys that name a secret, at any depth."""
    return {key: value if key == "exc_info" else _clean(key, value, 0) for key, value in event.items()}


def _clean(key: str, value: object, depth: int) -> object:
    if _SECRET.search(key):
        return _REDACTED
    if isinstance(value, Mapping):
        if depth >= _DEEPEST:
            return "[too deep]"
        return {str(name): _clean(str(name), inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return "[too deep]" if depth >= _DEEPEST else [_clean("", inner, depth + 1) for inner in value]
    return value


def _by_level(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    name = "error" if method == "exception" else "warning" if method == "warn" else method
    if LEVELS.get(name, 100) < _threshold:
        raise structlog.DropEvent
    if method == "exception":
        event.setdefault("exc_info", True)
    return event


def _in_order(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Put the reader's first words first: time, level, logger, event, then the rest."""
    if isinstance(logger, _Lines) and logger.name:
        event.setdefault("logger", logger.name)
    first = {name: event.pop(name) for name in ("timestamp", "level", "logger", "event") if name in event}
    return {**first, **event}


class _Lines:
    """Writes one line for each event; what the renderer returns arrives at the method named as the level."""

    def __init__(self, stream: Stream, prefix: bool, name: str) -> None:
        self._stream, self._prefix, self.name = stream, prefix, name

    def _write(self, priority: int, line: str) -> None:
        global _lost_lines
        text = f"<{priority}>{line}\n" if self._prefix else line + "\n"
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream was closed
            _lost_lines += 1

    def debug(self, line: str) -> None:
        self._write(_PRIORITY["debug"], line)

    def info(self, line: str) -> None:
        self._write(_PRIORITY["info"], line)

    def warning(self, line: str) -> None:
        self._write(_PRIORITY["warning"], line)

    def error(self, line: str) -> None:
        self._write(_PRIORITY["error"], line)

    def critical(self, line: str) -> None:
        self._write(_PRIORITY["critical"], line)

    msg = info
    warn = warning
    exception = error
    fatal = critical


class _FromStandardLogging(logging.Handler):
    """Hands records of the standard ``logging`` on, so that a library's words come out in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(record.name)
        method = record.levelname.lower() if record.levelname.lower() in LEVELS else "info"
        details = {"exc_info": record.exc_info} if record.exc_info else {}
        getattr(logger, method)(record.getMessage(), **details)


def _leads_to_journal() -> bool:
    """True if standard error is connected to the machine's journal, which says so in JOURNAL_STREAM (device:inode)."""
    try:
        seen = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{seen.st_dev}:{seen.st_ino}"
