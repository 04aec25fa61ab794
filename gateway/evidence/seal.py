"""The seal of an exported file: by its last line the file verifies alone, each byte of it.

The seal is one line of plain words, wrapped as each format wants it (a row, an object, an element, a message)::

    gridlatch-seal-1 format=csv entries=812 first=1 last=9120 journal=5f3c… head=543:0c50… archived_to=0
        filter=%7B%7D exported=2026-01-14T08:30:00.000Z key=8d1f… sha256=77aa… sig=mK3…

``sha256`` covers all bytes of the file before the seal's line and the seal up to itself; ``sig`` (Ed25519, by the key
of the device, whose public half stands in ``key``) all before itself. What follows and precedes the seal in its own line is
fixed by the format and compared. So a byte that was changed, a line that was removed, added or moved is found. Without
a key (``key=none``) whoever changes the file can make a new seal: only the signature, checked with a key that was kept
elsewhere, stands against that.

What must stay true: the seal says how much was exported, under which filter, and which part of the log the journal did
not hold any more (``archived_to``). On a crash while exporting: a file without a seal, which no check takes for whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote, unquote

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.evidence.errors import NotSealed, SigningError
from gateway.evidence.signing import Signer, check_line, fingerprint, public_hex, public_of

MAGIC: Final = "gridlatch-seal-1"
UNSIGNED: Final = "none"
TAIL_BYTES: Final = 65_536
"""The seal stands within so many bytes before the end."""
_SLICE: Final = 1 << 20
_SEAL: Final = re.compile(
    rb"gridlatch-seal-1 format=([a-z]+) entries=(\d{1,18}) first=(\d{1,18}) last=(\d{1,18}) journal=([0-9a-f]{32})"
    rb" head=(\d{1,18}):([0-9a-f]{64}) archived_to=(\d{1,18}) filter=([A-Za-z0-9%._~-]*) exported=([0-9TZ:.-]{20,32})"
    rb" key=(none|[0-9a-f]{64}) sha256=([0-9a-f]{64})(?: sig=[A-Za-z0-9+/=]{88})?"
)


class HeadLike(Protocol):
    """Where a chain ends."""

    @property
    def batch(self) -> int: ...
    @property
    def hash_hex(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an export comes from. archived_to: records up to this one had left the journal, but for a few."""

    journal: str
    head: HeadLike
    archived_to: int


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file whose seal fits it. signed_by: fingerprint of the key that signed it; empty if nobody did."""

    format: str
    entries: int
    first: int
    last: int
    journal: str
    batch: int
    hash_hex: str
    archived_to: int
    filter: Mapping[str, object]
    exported: str
    signed_by: str


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What ``Wanted.as_json`` tells, in its order."""

    since: str = ""
    until: str = ""
    feeder: str = ""
    actor: str = ""
    kinds: list[str] = msgspec.field(default_factory=list)


class Sealer:
    """Takes in all bytes of an export as they are written, and makes its seal."""

    def __init__(self, form: str, asked: Mapping[str, object]) -> None:
        self._form = form
        self._asked = asked
        self._hash = hashlib.sha256()
        self.entries = self.first = self.last = 0

    def take(self, content: bytes, seq: int | None = None) -> None:
        """More of the file. seq: it is the entry of this record (0: a note); None: it is none."""
        self._hash.update(content)
        if seq is not None:
            self.entries += 1
            self.first = self.first or seq
            self.last = max(self.last, seq)

    def seal(self, origin: Origin, exported: str, signer: Signer | None) -> str:
        """The seal over all that was taken."""
        told = quote(json.dumps(self._asked, ensure_ascii=False, separators=(",", ":")), safe="")
        key = UNSIGNED if signer is None else public_hex(signer.public)
        head = f"{origin.head.batch}:{origin.head.hash_hex}"
        text = (
            f"{MAGIC} format={self._form} entries={self.entries} first={self.first} last={self.last}"
            f" journal={origin.journal} head={head} archived_to={origin.archived_to} filter={told}"
            f" exported={exported} key={key}"
        )
        self._hash.update(text.encode())
        text += f" sha256={self._hash.hexdigest()}"
        return text if signer is None else signer.sign_line(text)


def check_export(
    path: Path, closings: Mapping[str, Callable[[str], bytes]], key: Ed25519PublicKey | None
) -> SealedFile:
    """Check a file against its seal. closings: how each format wraps it. key: that it must have been signed by.

    Errors: NotSealed, with a sentence; OSError.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        tail = file.read()
        found = None
        start = tail.rfind(MAGIC.encode() + b" ")
        if start >= 0:
            found = _SEAL.match(tail, start)
        if found is None:
            raise NotSealed("it has no seal that can be read: it was cut off, its end was changed, or it is no export")
        seal, form = found[0].decode(), found[1].decode()
        closing = closings[form](seal) if form in closings else None
        if closing is None or not tail.endswith(closing) or tail.rfind(closing) > start:
            raise NotSealed("what stands around its seal is not what was written, or something was added behind it")
        hashed = _hash(file, size - len(closing))
    hashed.update(seal.partition(" sha256=")[0].encode())
    if hashed.hexdigest() != found[12].decode():
        raise NotSealed("its content is not what was exported: something in it was changed, added, removed or moved")
    signed_by = _check_signature(seal, found[11].decode(), key)
    entries, first, last, batch, archived_to = (int(found[n]) for n in (2, 3, 4, 6, 8))
    told = _filter(found[9].decode())
    if bool(entries) < bool(first) or first > last or (batch == 0 and entries):
        raise NotSealed("its seal contradicts itself: no export has such numbers")
    journal, hash_hex, exported = (found[n].decode() for n in (5, 7, 10))
    return SealedFile(form, entries, first, last, journal, batch, hash_hex, archived_to, told, exported, signed_by)


def _filter(text: str) -> dict[str, object]:
    """What was asked for. Only what an export writes is taken: anything else was made by something else."""
    try:
        asked = msgspec.json.decode(unquote(text, errors="strict"), type=_Asked)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise NotSealed("its seal names no filter that an export could have had") from None
    told = msgspec.to_builtins(asked)
    if quote(json.dumps(told, ensure_ascii=False, separators=(",", ":")), safe="") != text:
        raise NotSealed("its seal names its filter in other words than an export does")
    return dict(told)


def _check_signature(seal: str, key_text: str, key: Ed25519PublicKey | None) -> str:
    if key_text == UNSIGNED:
        if " sig=" in seal:
            raise NotSealed("its seal has a signature and names no key")
        if key is not None:
            raise NotSealed("it is not signed: nobody can say who made it")
        return ""
    try:
        own = public_of(key_text)
        check_line(seal, own)
    except SigningError as error:
        raise NotSealed(str(error)) from None
    if key is not None and public_hex(key) != key_text:
        raise NotSealed(f"it is signed by key {fingerprint(own)}, not by {fingerprint(key)}")
    return fingerprint(own)


class _Readable(Protocol):
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def read(self, size: int, /) -> bytes: ...


def _hash(file: _Readable, size: int) -> hashlib._Hash:
    """SHA-256 over the first bytes of a file."""
    digest = hashlib.sha256()
    file.seek(0)
    while size > 0:
        content = file.read(min(size, _SLICE))
        if not content:
            raise NotSealed("it was changed while it was read")
        digest.update(content)
        size -= len(content)
    return digest
