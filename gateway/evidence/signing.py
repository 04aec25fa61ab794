"""The device's own key, and what it signs: heads of the journal's hash chain, and exports.

An Ed25519 key of its own, for the certificate of the OPC UA server is renewed, and old signatures must be checkable for
as long as the evidence counts. It is made at the first start, readable by the daemon's user alone; its public half lies
beside it, and belongs to be kept elsewhere: who could exchange both could sign anything.

A signed head is one line of text, which a log, an OPC UA variable and a sheet of paper can carry::

    gridlatch-head-1 batch=543 seq=9120 hash=0c50… time_us=1768377600000000 key=9f2c41d07be8a653 sig=mK3…

The signature (base64) covers the bytes of the line before " sig=". What must stay true: a key once made is never replaced
by the software of its own accord: where one is known to have been (by its public half, or by the journal), a new one is
made by a person's command alone; a private key that does not fit the public half beside it signs nothing. On a crash here:
the key is in place whole (it is renamed into place) or is made at the next start.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from gateway.evidence.errors import SigningError

KEY_FILE: Final = "device.key"
PUBLIC_FILE: Final = "device.pub"
_HEAD: Final = re.compile(
    r"gridlatch-head-1 batch=([0-9]{1,18}) seq=([0-9]{1,18}) hash=([0-9a-f]{64}) time_us=([0-9]{1,18})"
    r" key=([0-9a-f]{16})"
)


class Head(Protocol):
    """Where the chain ends."""

    @property
    def batch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def hash_hex(self) -> str: ...
    @property
    def time_us(self) -> int: ...


@dataclass(frozen=True, slots=True)
class SignedHead:
    """What a signed line says. key: the fingerprint of the key that it names."""

    batch: int
    seq: int
    hash_hex: str
    time_us: int
    key: str


class Signer:
    """The private half. public: the other one; fingerprint: 16 hexadecimal digits by which people tell keys apart."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key()
        self.fingerprint = fingerprint(self.public)

    @classmethod
    def open(cls, folder: Path, known: str = "") -> Signer:
        """The key of this folder; made, with its public half beside it, where there never was one.

        known: fingerprint of the key that this device had at its last start, empty if none is on record.
        Errors: SigningError (there was a key and it is gone; what is there is no Ed25519 key; the halves don't fit),
        OSError.
        """
        path, public = folder / KEY_FILE, folder / PUBLIC_FILE
        if not path.exists():
            if public.exists() or known:
                told = f"{PUBLIC_FILE} is there" if public.exists() else f"the journal knows key {known}"
                raise SigningError(
                    f"{path} is gone, and {told}: put it back from a backup; if it is lost for good, make a new one by "
                    "'gridlatch audit key --new'"
                )
            return cls.make(folder)
        signer = cls.load(path)
        if not public.exists():
            _put(public, _pem(signer.public), 0o644)
        return signer

    @classmethod
    def make(cls, folder: Path) -> Signer:
        """A new key, where there is none. The public half of the one before stays, under its fingerprint.

        Errors: SigningError (there is a key), OSError.
        """
        path, public = folder / KEY_FILE, folder / PUBLIC_FILE
        if path.exists():
            raise SigningError(f"{path} is there: a key that can sign is not replaced")
        if public.exists():
            try:
                public.rename(public.with_name(f"device-{fingerprint(load_public(public))}.pub"))
            except SigningError:
                public.rename(public.with_name("device-unreadable.pub"))
        made = Ed25519PrivateKey.generate()
        _put(path, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
        _put(public, _pem(made.public_key()), 0o644)
        return cls(made)

    @classmethod
    def load(cls, path: Path) -> Signer:
        """A key that is there, and fits the public half beside it if that is there. Errors: SigningError, OSError."""
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise SigningError(f"{path} holds no key that can be read (PEM, without a password)") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningError(f"{path} holds a key of another kind than Ed25519")
        signer, public = cls(key), path.with_name(PUBLIC_FILE)
        if public.exists() and (told := fingerprint(load_public(public))) != signer.fingerprint:
            raise SigningError(
                f"{path} is damaged or was exchanged: it is key {signer.fingerprint}, and {PUBLIC_FILE} beside it is that "
                f"of key {told}; put back the one that is wrong"
            )
        return signer

    def sign(self, head: Head) -> str:
        """A head as a signed line."""
        line = f"gridlatch-head-1 batch={head.batch} seq={head.seq} hash={head.hash_hex} time_us={head.time_us}"
        return self.sign_line(f"{line} key={self.fingerprint}")

    def sign_line(self, line: str) -> str:
        """The line with " sig=" and the signature of all before it."""
        return f"{line} sig={base64.b64encode(self._key.sign(line.encode())).decode()}"


def _pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def public_hex(key: Ed25519PublicKey) -> str:
    """The key itself in 64 hexadecimal digits."""
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def public_of(text: str) -> Ed25519PublicKey:
    """The key that ``public_hex`` wrote. Errors: SigningError."""
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except ValueError:
        raise SigningError("what stands there for a key is none") from None


def load_public(path: Path) -> Ed25519PublicKey:
    """A public key file (PEM). Errors: SigningError, OSError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        raise SigningError(f"{path} holds no public key that can be read (PEM, BEGIN PUBLIC KEY)") from None
    if not isinstance(key, Ed25519PublicKey):
        raise SigningError(f"{path} holds a public key of another kind than Ed25519")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the key's 32 bytes."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]


def read_head(line: str) -> SignedHead:
    """What a signed line says, its signature not looked at. Errors: SigningError."""
    found = _HEAD.fullmatch(line.strip().partition(" sig=")[0])
    if found is None:
        raise SigningError(
            "this is no signed head: it begins with gridlatch-head-1 and holds batch, seq, hash, time_us and key"
        )
    batch, seq, hash_hex, time_us, key = found.groups()
    return SignedHead(int(batch), int(seq), hash_hex, int(time_us), key)


def check_line(line: str, key: Ed25519PublicKey) -> str:
    """The signed part of a line, once its signature was found good. Errors: SigningError."""
    signed, separator, signature = line.strip().rpartition(" sig=")
    if not separator:
        raise SigningError("the line has no signature")
    try:
        raw = base64.b64decode(signature, validate=True)
        if base64.b64encode(raw).decode() != signature:  # other texts mean the same bytes: only one is what was signed
            raise binascii.Error
        key.verify(raw, signed.encode())
    except (InvalidSignature, ValueError):
        raise SigningError(f"the signature is not that of key {fingerprint(key)} over this text") from None
    return signed


def _put(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole, or not at all, with these permissions from its first moment on."""
    new = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        if os.geteuid() == 0:  # what root makes here, the daemon's user must be able to read
            owner = path.parent.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
