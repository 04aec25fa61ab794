"""One entry of the record as evidence: what is exported of it, in words for people and exactly; and which are wanted.

An entry is a record of the journal, or a note (a statement of the journal about itself: archived, restored, a loss
accepted), which has no number. What must stay true: the payload is carried whole, whatever it holds; the words beside it
(who, what, why) are taken out of it for people and promise nothing more. Pure.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from gateway.clock import iso
from gateway.durable.codec import Json

NOTE: Final = "note"
BREAKER: Final = "@breaker@"
BASE64: Final = "base64:"
LAST_US: Final = 2**63 - 1
_WORDS_AT_MOST: Final = 300
_decode = msgspec.json.Decoder().decode
_WELCOME: Final = frozenset({"opcua.login", "opcua.logout", "opcua.session_expired"})
"""What is recorded of the door without being a refusal. Calls carry a status instead."""


@dataclass(frozen=True, slots=True)
class Entry:
    """seq: number of the record, 0 for a note. time_us: engine time, µs. payload: as it is in the journal."""

    seq: int
    instance: str
    kind: str
    time_us: int
    payload: bytes
    told: Mapping[str, Json] = field(default_factory=dict)
    """The payload, if it is a JSON object."""

    @classmethod
    def of(cls, seq: int, instance: str, kind: str, time_us: int, payload: bytes) -> Entry:
        """With its payload read, if it can be read."""
        try:
            told = _decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            told = None
        return cls(seq, instance, kind, time_us, payload, told if isinstance(told, dict) else {})

    @property
    def time(self) -> str:
        """RFC 3339 with milliseconds, UTC."""
        return iso(self.time_us)

    @property
    def peer(self) -> Mapping[str, Json]:
        """Who was at the other end of the connection."""
        peer = self.told.get("peer")
        return peer if isinstance(peer, dict) else {}

    @property
    def op(self) -> str:
        """What was asked, or happened."""
        if "op" in self.told or "event" in self.told:
            return _text(self.told.get("op") or self.told.get("event"))
        parts = [_text(part.get("name") or part.get("type")) for part in self.parts()]
        return ", ".join(dict.fromkeys(parts))[:_WORDS_AT_MOST]

    @property
    def actor(self) -> str:
        """Whose name was given with it; who was let in stands in ``user``."""
        return ", ".join(self.actors())[:_WORDS_AT_MOST]

    @property
    def user(self) -> str:
        """The user of the connection."""
        return _text(self.peer.get("user"))

    @property
    def role(self) -> str:
        """In which role."""
        return _text(self.peer.get("role"))

    @property
    def address(self) -> str:
        """From where."""
        pid = self.peer.get("pid")
        return _text(self.peer.get("address")) or (f"pid {pid}" if pid else "")

    @property
    def feeder(self) -> str:
        """The feeder that it is about, if it is about one."""
        if self.instance.startswith(BREAKER):
            return self.instance.removeprefix(BREAKER)
        return _text(self.told.get("feeder"))

    @property
    def reason(self) -> str:
        """Why, in the words of who asked."""
        return _text(self.told.get("reason"))

    @property
    def refused(self) -> bool:
        """Somebody asked for something, or came to the door, and did not get what they wanted."""
        return is_refused(self.kind, self.told)

    @property
    def outcome(self) -> str:
        """What became of it, as far as this entry knows."""
        words = [self.told.get(key) for key in ("refused", "status", "message", "detail")]
        return ": ".join(_text(word) for word in words if word)

    def parts(self) -> Iterator[Mapping[str, Json]]:
        """The events of a turn, or the operations of an entity."""
        for key in ("events", "operations"):
            found = self.told.get(key)
            if isinstance(found, list):
                yield from (part for part in found if isinstance(part, dict))

    def inner(self) -> Iterator[Mapping[str, Json]]:
        """What requests, events and operations carry."""
        yield self.told
        for part in (*self.parts(), self.told):
            for key in ("input", "data", "inputs"):
                found = part.get(key)
                if isinstance(found, dict):
                    yield found

    def actors(self) -> list[str]:
        """All names that stand in it as those who acted."""
        return list(dict.fromkeys(_text(one["actor"]) for one in self.inner() if one.get("actor")))

    def names_actor(self, name: str) -> bool:
        """This is the user who was let in, or the name that was given."""
        user = self.user
        return name == user or any(name in (actor, actor.removesuffix(f" ({user})")) for actor in self.actors())

    def names_feeder(self, name: str) -> bool:
        """The breaker's own records, and what names this feeder: requests, events, orders of a procedure."""
        if name in (self.feeder, str(self.told.get("object", "")).rpartition("/")[2]):
            return True
        for one in self.inner():
            several = one.get("feeders")
            if one.get("feeder") == name or (isinstance(several, list) and name in several):
                return True
        return False


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries; empty means all. since_us, until_us: engine time, both ends included."""

    since_us: int = 0
    until_us: int = LAST_US
    feeder: str = ""
    actor: str = ""
    kinds: Sequence[str] = ()

    def fits(self, entry: Entry) -> bool:
        """Whether this entry is wanted."""
        return (
            self.since_us <= entry.time_us <= self.until_us
            and (not self.kinds or entry.kind in self.kinds or entry.kind.partition(".")[0] in self.kinds)
            and (not self.feeder or entry.names_feeder(self.feeder))
            and (not self.actor or entry.names_actor(self.actor))
        )

    def as_json(self) -> dict[str, Json]:
        """What was asked for, as it stands in exports."""
        told: dict[str, Json] = {}
        if self.since_us:
            told["since"] = iso(self.since_us)
        if self.until_us != LAST_US:
            told["until"] = iso(self.until_us)
        if self.feeder:
            told["feeder"] = self.feeder
        if self.actor:
            told["actor"] = self.actor
        if self.kinds:
            told["kinds"] = list(self.kinds)
        return told


def is_refused(kind: str, told: Mapping[str, Json]) -> bool:
    """Whether somebody asked for something, or came to the door, and did not get what they wanted."""
    if kind != "audit":
        return kind == "audit_refused"
    if "status" in told and "message" in told:
        return bool(told["status"] != "ok")
    op = str(told.get("op"))
    return op.startswith("opcua.") and op not in _WELCOME


def payload_text(payload: bytes) -> str:
    """The payload as one printable line: JSON of the same value, or ``base64:`` and its bytes if it is no JSON.

    Characters that can't be printed (or that XML can't hold) become their JSON escapes, line breaks between values
    become blanks.
    """
    try:
        text = payload.decode()
        _decode(payload)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return BASE64 + base64.b64encode(payload).decode()
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\t\n\r" else json.dumps(c)[1:-1] for c in text)


def visible(text: str) -> str:
    """The text with each character that can't be printed told by its number, as in ``\\u000a``."""
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _text(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
