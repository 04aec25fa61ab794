"""An export from its first byte to its seal.

What must stay true: memory does not grow with what is exported; what is written and what is sealed are the same bytes;
over the network each message is sealed as the line that it would be in a file. On a crash here: an export without a seal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.evidence import syslog
from gateway.evidence.entry import Wanted
from gateway.evidence.formats import FORMATS
from gateway.evidence.reading import Source
from gateway.evidence.seal import Sealer
from gateway.evidence.signing import Signer
from gateway.evidence.sinks import Sink

MESSAGE_BYTES: Final = 8_192
"""Longest message that is sent, unless told otherwise: what common collectors take."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. parts: messages that a long entry was cut into, beyond the first."""

    entries: int
    first: int
    last: int
    parts: int
    seal: str


def export(source: Source, form: str, wanted: Wanted, sink: Sink, exported: str, signer: Signer | None) -> Exported:
    """Write it in this format. exported: the time now, RFC 3339. Errors: RecordError, SinkError."""
    writer = FORMATS[form]
    sealer = Sealer(form, wanted.as_json())
    opening = writer.opening()
    sealer.take(opening)
    sink.put(opening)
    for entry in source.entries(wanted):
        content = writer.entry(entry)
        sealer.take(content, entry.seq)
        sink.put(content)
    seal = sealer.seal(source.origin, exported, signer)
    sink.put(writer.closing(seal))
    return Exported(sealer.entries, sealer.first, sealer.last, 0, seal)


def send(
    source: Source, wanted: Wanted, sink: Sink, exported: str, signer: Signer | None, limit_bytes: int = MESSAGE_BYTES
) -> Exported:
    """Send it as syslog messages of at most limit_bytes, the seal as the last one. Errors: RecordError, SinkError."""
    sealer = Sealer("syslog", wanted.as_json())
    parts = 0
    for entry in source.entries(wanted):
        messages = syslog.messages(entry, limit_bytes)
        parts += len(messages) - 1
        sealer.take(b"".join(one + b"\n" for one in messages), entry.seq)
        for one in messages:
            sink.put(one)
    seal = sealer.seal(source.origin, exported, signer)
    sink.put(syslog.seal_message(seal))
    return Exported(sealer.entries, sealer.first, sealer.last, parts, seal)
