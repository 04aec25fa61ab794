"""What people asked for, read from the end of the journal: events about overrides and other acts, whoever did them how.

The journal's audit records are followed from where this process began. What must stay true: only what is on disk is told,
and each record once; a journal that stands still is not read at all. A crash here: the next process follows from its own
beginning; what was asked in between is in the journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from gateway.durable.codec import Json
from gateway.operations.desk import Desk, Record
from gateway.operator.peers import printable
from gateway.operator.procedures import Telling, override_fields
from protocols.opcua.surface import Value

READ_AT_MOST = 500
"""Records that are told in one look; what is left comes with the next ones."""
_OWN = "opcua."
"""Records of these operations are made here, and told by those who make them."""
_ECHOES = ("shed.started", "instances.restarted")
"""They only add a name to what was asked for in the record before."""


class Acts:
    """Follows the audit records."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._seen = desk.health.head()[0]

    async def look(self) -> list[Telling]:
        """What has come since the last look."""
        head = self._desk.health.head()[0]
        if head <= self._seen:
            return []
        kinds = ("audit", "audit_refused")
        records = await self._desk.log.records(self._seen, READ_AT_MOST, up_to_seq=head, kinds=kinds)
        self._seen = records[-1][0] if len(records) == READ_AT_MOST else head
        return [telling for record in records for telling in of_record(record)]


def of_record(record: Record) -> Iterator[Telling]:
    """What an audit record has to tell."""
    told: Json = msgspec.json.decode(record[4])
    op = str(told.get("op", "")) if isinstance(told, Mapping) else ""
    if not op or op.startswith(_OWN) or op in _ECHOES:
        return
    refused = record[2] == "audit_refused"
    actor, reason = printable(str(told.get("actor", ""))), printable(str(told.get("reason") or ""))
    subject = printable(_subject(told))
    if op == "override" and not refused:
        words = f"{actor} overrides {subject}: {told.get('decision')} ({reason or 'no reason given'})"
        yield Telling("OverrideRaised", words, override_fields(told, subject))
        return
    fields: dict[str, Value] = {
        "Actor": actor,
        "Operation": op,
        "Subject": subject,
        "Reason": reason,
        "Refused": refused,
    }
    words = f"{actor}: {op} {subject}".rstrip()
    if refused:
        words += f" was refused: {printable(str(told.get('refused', '')))}"
    elif reason:
        words += f" ({reason})"
    yield Telling("OperatorActed", words, fields)


def _subject(told: Mapping[str, Json]) -> str:
    found = (told.get(key) for key in ("feeder", "instance", "mode", "alarm", "entity"))
    return str(next((one for one in found if one), ""))
