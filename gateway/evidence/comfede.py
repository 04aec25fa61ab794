"""Entries as XML in the manner of COMFEDE, IEEE Std C37.239-2010 (Common Format for Event Data Exchange).

What this is based on: the standard's public description, and the entry that is shown publicly (an ``Entry`` with
``entryId`` and ``timeOfEntry``, holding ``EntryData`` with the time ``t``, a ``DataRef`` and one ``DA`` with ``name``,
``val`` and ``valType`` for each value). Its schema is sold; it is not public, and was not at hand. Hence ours, not the
standard's: the frame around the entries (root, its namespace, seal), held in ``comfede.xsd`` beside this file; the names
of the ``DA`` (``kind``, ``op`` … ``payload``); what stands in ``DataRef`` (an instance of the gateway, no reference of IEC
61850). No file made here was ever held against the standard's schema. A receiver that insists on the standard's frame
takes the ``Entry`` elements over.

What must stay true: well-formed XML 1.0, whatever the journal holds: what can't be printed is told by its number (in
JSON by the escape of the same value), so that no character is left that XML can't carry. Polled field data do not have
the accuracy of a sequence-of-events recorder, and the times here don't claim it. Pure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from gateway.clock import iso
from gateway.evidence.entry import Entry, payload_text, visible

NAMESPACE: Final = "urn:gridlatch:comfede:1"
SCHEMA: Final = Path(__file__).with_name("comfede.xsd")
_XSD: Final = "http://www.w3.org/2001/XMLSchema"


def opening() -> bytes:
    """The beginning of the document."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<EventData xmlns="{NAMESPACE}" xmlns:xs="{_XSD}">\n'.encode()


def entry(one: Entry) -> bytes:
    """One entry, in one line. A note of the journal has the entryId 0."""
    values = [("kind", one.kind), ("op", one.op), ("feeder", one.feeder), ("actor", one.actor), ("user", one.user)]
    values += [("role", one.role), ("address", one.address), ("reason", one.reason), ("outcome", one.outcome)]
    told = [(name, visible(text)) for name, text in values if text]
    told.append(("payload", payload_text(one.payload)))
    data = "".join(f'<DA name="{name}" val="{_attribute(text)}" valType="xs:string"/>' for name, text in told)
    moment = iso(one.time_us)
    reference = escape(visible(one.instance)) or "gateway"
    return (
        f'<Entry entryId="{one.seq}" timeOfEntry="{moment}"><EntryData t="{moment}"><DataRef>{reference}</DataRef>'
        f"{data}</EntryData></Entry>\n"
    ).encode()


def closing(seal: str) -> bytes:
    """The seal, and the end of the document."""
    return f"<Seal>{seal}</Seal>\n</EventData>\n".encode()


def _attribute(text: str) -> str:
    return escape(text, {'"': "&quot;"})
