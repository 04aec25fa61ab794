"""The formats of an export: CSV, JSON Lines, COMFEDE-style XML, syslog messages. Each entry is one line.

What must stay true, in each: every entry is told with its number, time, instance, kind and whole payload; no content can
pass for another line, row, element or message, nor for a formula of a spreadsheet; the file ends with its seal, wrapped
in a way that the seal alone determines. Pure.

* CSV (RFC 4180, with LF): every cell in quotation marks. A cell that a spreadsheet would take for a formula (it begins
  with ``= + - @``, also in their wide forms) gets an apostrophe before it. The last row has the kind ``seal``.
* JSON Lines: ``payload`` is the JSON itself; what is no JSON stands in ``payload_base64``. The last line is the seal's.
* syslog: see ``syslog``. COMFEDE: see ``comfede``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from gateway.evidence import comfede, syslog
from gateway.evidence.entry import BASE64, Entry, payload_text, visible

FORMULA: Final = tuple("=+-@＝＋－＠")
COLUMNS: Final = (
    "seq",
    "time",
    "time_us",
    "kind",
    "instance",
    "op",
    "feeder",
    "actor",
    "user",
    "role",
    "address",
    "reason",
    "outcome",
    "payload",
)


class Format(Protocol):
    """How entries become bytes; each result of ``entry`` is whole lines."""

    def opening(self) -> bytes: ...
    def entry(self, entry: Entry) -> bytes: ...
    def closing(self, seal: str) -> bytes: ...


class Csv:
    """Rows for a spreadsheet."""

    def opening(self) -> bytes:
        """The names of the columns."""
        return _row(COLUMNS)

    def entry(self, entry: Entry) -> bytes:
        """One row."""
        words = (entry.kind, entry.instance, entry.op, entry.feeder, entry.actor, entry.user, entry.role)
        more = (entry.address, entry.reason, entry.outcome)
        seq = str(entry.seq) if entry.seq else ""
        cells = [seq, entry.time, str(entry.time_us), *map(visible, (*words, *more)), payload_text(entry.payload)]
        return _row(cells)

    def closing(self, seal: str) -> bytes:
        """The seal's row."""
        return _row(("", "", "", "seal", *[""] * (len(COLUMNS) - 5), seal))


class JsonLines:
    """Objects for programs."""

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def entry(self, entry: Entry) -> bytes:
        """One object."""
        payload = payload_text(entry.payload)
        told = {
            "seq": entry.seq or None,
            "time": entry.time,
            "time_us": entry.time_us,
            "kind": entry.kind,
            "instance": entry.instance,
        }
        start = json.dumps(told, ensure_ascii=True, separators=(",", ":"))[:-1]
        if payload.startswith(BASE64):
            return f'{start},"payload_base64":"{payload.removeprefix(BASE64)}"}}\n'.encode()
        return f'{start},"payload":{payload}}}\n'.encode()

    def closing(self, seal: str) -> bytes:
        """The seal's object."""
        return f'{{"seal":"{seal}"}}\n'.encode()


class Syslog:
    """One message a line, as a collector writes them to its file."""

    def opening(self) -> bytes:
        """Nothing."""
        return b""

    def entry(self, entry: Entry) -> bytes:
        """One message, whole however long it is."""
        return b"".join(one + b"\n" for one in syslog.messages(entry, syslog.UNLIMITED))

    def closing(self, seal: str) -> bytes:
        """The seal's message."""
        return syslog.seal_message(seal) + b"\n"


class Comfede:
    """Event entries in XML."""

    def opening(self) -> bytes:
        """The beginning of the document."""
        return comfede.opening()

    def entry(self, entry: Entry) -> bytes:
        """One element."""
        return comfede.entry(entry)

    def closing(self, seal: str) -> bytes:
        """The seal and the end of the document."""
        return comfede.closing(seal)


FORMATS: Final[Mapping[str, Format]] = {
    "csv": Csv(),
    "jsonl": JsonLines(),
    "comfede": Comfede(),
    "syslog": Syslog(),
}
CLOSINGS: Final[Mapping[str, Callable[[str], bytes]]] = {name: form.closing for name, form in FORMATS.items()}


def _row(cells: Iterable[str]) -> bytes:
    return (",".join(_cell(cell) for cell in cells) + "\n").encode()


def _cell(text: str) -> str:
    if not text:
        return '""'
    if text.lstrip().startswith(FORMULA):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"'
