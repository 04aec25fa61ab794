"""Passwords: what is a fit one, and how it is kept (scrypt, RFC 7914, salted, with its parameters beside it).

A kept password is ``scrypt$n$r$p$salt$hash`` (salt and hash in base64). What must stay true: the password itself is never
stored nor logged; comparing takes the same time whatever differs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import unicodedata
from dataclasses import dataclass

SHORTEST, LONGEST = 12, 256
"""Characters of a password."""
# 32 MB and some 0.1 s of one core for each guess.
_N, _R, _P = 2**15, 8, 1
_MOST_N, _MOST_R, _MOST_P = 2**17, 16, 4
_KEPT = re.compile(
    r"scrypt\$([0-9]{1,7})\$([0-9]{1,3})\$([0-9]{1,3})\$([A-Za-z0-9+/=]{8,128})\$([A-Za-z0-9+/=]{8,128})"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A password as it is kept."""

    n: int
    r: int
    p: int
    salt: bytes
    hash: bytes

    def fits(self, password: str) -> bool:
        """True if it is this password. Takes tenths of a second and 32 MB: call it in a thread."""
        return hmac.compare_digest(_scrypt(password, self.n, self.r, self.p, self.salt, len(self.hash)), self.hash)

    def __str__(self) -> str:
        salt, hashed = (base64.b64encode(part).decode() for part in (self.salt, self.hash))
        return f"scrypt${self.n}${self.r}${self.p}${salt}${hashed}"

    def __repr__(self) -> str:
        return "Kept(...)"


NOBODY = Kept(_N, _R, _P, b"nobody's salt...", bytes(32))
"""What the password of somebody unknown is compared with: it costs the same, and never fits."""


def keep(password: str) -> Kept:
    """A password as it is to be kept, with a new salt."""
    salt = os.urandom(16)
    return Kept(_N, _R, _P, salt, _scrypt(password, _N, _R, _P, salt, 32))


def read_kept(text: str) -> Kept:
    """A kept password out of its text. Raises ValueError, also for parameters that would take the machine down."""
    found = _KEPT.fullmatch(text)
    if found is None:
        raise ValueError("this is no kept password")
    n, r, p = (int(found[group]) for group in (1, 2, 3))
    if not (2**14 <= n <= _MOST_N and n & (n - 1) == 0 and 8 <= r <= _MOST_R and 1 <= p <= _MOST_P):
        raise ValueError(f"n = {n}, r = {r}, p = {p} are no parameters of scrypt that are used here")
    try:
        salt, hashed = (base64.b64decode(found[group], validate=True) for group in (4, 5))
    except binascii.Error as error:
        raise ValueError(f"salt or hash is no base64: {error}") from None
    if len(salt) < 16 or len(hashed) < 32:
        raise ValueError("salt or hash is too short")
    return Kept(n, r, p, salt, hashed)


def unfit(password: str, name: str) -> str:
    """Why this can't be the password of the user of this name; empty if it can."""
    if not SHORTEST <= len(password) <= LONGEST:
        return f"a password has {SHORTEST} to {LONGEST} characters, and this one has {len(password)}"
    if not password.isprintable():
        return "a password has no control characters"
    if len(set(password)) < 4:
        return "this password is one and the same few characters again and again"
    plain = password.casefold()
    if plain.replace(name.casefold(), "").strip("0123456789 .-_!") == "":
        return "the user's own name is no password"
    return ""


def _scrypt(password: str, n: int, r: int, p: int, salt: bytes, length: int) -> bytes:
    # One and the same password may be typed as different code points (RFC 8265): compared in NFC. Lone surrogates can
    # come from a client; they fit nothing.
    data = unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(data, salt=salt, n=n, r=r, p=p, maxmem=160 * n * r, dklen=length)
