"""The doorman: who may log in to the OPC UA server, by password or by certificate.

What must stay true: somebody unknown costs as long as a wrong password, and the client learns from neither which it was;
so many failures of one name in a while lock this name out for a while, known or not, and no more than that many guesses
are ever made in it, however many come at once; a guess that is broken off counts. scrypt runs in two threads of its own
at most, and those who wait are bounded: the next one is told BUSY, and its guess doesn't count.

Lock-outs are in memory: a restart forgets them. Log-ins by certificate are not locked out by wrong passwords (a signature
can't be guessed), so the holder of one can't be kept out by a stranger.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from protocols.opcua import certificates as certs
from protocols.opcua.passwords import LONGEST, NOBODY, Kept
from protocols.opcua.user_file import (
    MOST_USERS,
    ROLES,
    Account,
    BrokenUserFile,
    NoSuchUser,
    UserError,
    UserFile,
)

__all__ = [
    "ROLES",
    "Account",
    "BrokenUserFile",
    "Doorman",
    "LoginRefused",
    "NoSuchUser",
    "User",
    "UserError",
    "UserFile",
    "Why",
]

MOST_AT_ONCE = 2
MOST_WAITING = 32
"""Log-ins by password that are under way or wait, of all names."""
MOST_OF_ONE_NAME = 16
LONGEST_NAME = 64
"""No user's name is longer; of a longer one the beginning is remembered."""
MOST_NAMES = MOST_USERS + 1000
"""Names whose failures are remembered; the one that failed longest ago is forgotten first, users of the file last."""


class Why(enum.StrEnum):
    """Why somebody was not let in."""

    UNKNOWN = "unknown"
    WRONG_PASSWORD = "wrong_password"
    WRONG_CERTIFICATE = "wrong_certificate"
    LOCKED = "locked"
    LOCKED_OUT = "locked_out"
    NO_ROLE = "no_role"
    BUSY = "busy"
    BROKEN_FILE = "broken_file"


class LoginRefused(Exception):
    """Somebody was not let in. The text is a sentence for the journal; a client is told nothing but that it failed.

    locks_out: this failure was the last one that was free, and the name is locked out from now on.
    """

    def __init__(self, why: Why, sentence: str, locks_out: bool = False) -> None:
        super().__init__(sentence)
        self.why = why
        self.locks_out = locks_out


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who was let in."""

    name: str
    roles: frozenset[str]
    by: Kept | str | None = field(default=None, compare=False, repr=False)
    """What let them in: the password as it is kept, or the thumbprint of a certificate, which is good until then."""
    until: datetime | None = field(default=None, compare=False)


@dataclass(slots=True)
class _Tries:
    """The failures of one name: when they were, and until when it is locked out (times of the monotonic clock)."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    under_way: int = 0
    failed: deque[float] = field(default_factory=deque)
    out_until: float = 0.0


class Doorman:
    """Lets users in. For one event loop.

    lock_out_after failures of one name within lock_out_s seconds lock it out for lock_out_s seconds.
    """

    def __init__(
        self,
        users: UserFile,
        lock_out_after: int,
        lock_out_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._users = users
        self._lock_out_after = lock_out_after
        self._lock_out_s = lock_out_s
        self._monotonic = monotonic
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._under_way = 0
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="scrypt")

    def close(self) -> None:
        """No more log-ins by password."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def by_password(self, name: str, password: str) -> User:
        """Let in by name and password. Raises LoginRefused."""
        shown = certs.short(name[:LONGEST_NAME])
        with self._one_more(name[:LONGEST_NAME], shown) as tries:
            async with tries.lock:  # one guess at a name after the other, so that none slips by before the lock-out
                self._check_locked_out(tries, shown)
                account = self._accounts().get(name)
                # Counted before it is made, and taken back if it was right: breaking off wins no free guess.
                locks_out = self._failed(tries)
                if not await self._fits(account, password):
                    raise _refused_password(account, shown, locks_out)
                tries.failed.clear()
                tries.out_until = 0.0
        assert account is not None  # nobody's password fits nobody
        return _let_in(account, account.password)

    async def by_certificate(self, der: bytes, now: datetime) -> User:
        """Let in by a certificate whose key the client has proved to hold (that is for the caller to see to).

        now: real time, UTC. Raises LoginRefused.
        """
        try:
            certificate = certs.parse(der)
            certs.check_strength(certificate)
            certs.check_time(certificate, now)
            certs.check_use(certificate, certs.Use.PERSON)
        except certs.CertificateRefused as refused:
            raise LoginRefused(Why.WRONG_CERTIFICATE, f"a user's certificate was refused: {refused}") from None
        name = certs.thumbprint(der)
        account = next((one for one in self._accounts().values() if name in one.certificates), None)
        if account is None:
            whose = certs.subject_of(certificate)
            raise LoginRefused(Why.UNKNOWN, f"certificate {name[:16]} of '{whose}' is no user's")
        return _let_in(account, name, certificate.not_valid_after_utc)

    def still(self, user: User, now: datetime) -> bool:
        """Whether somebody who was let in would be let in now, by the same password or certificate and with the same roles.
        now: real time, UTC. A user file that can't be read throws
        nobody out: it lets nobody in, and is to be put right with somebody there to see it."""
        try:
            account = self._accounts().get(user.name)
        except LoginRefused:
            return True
        if account is None or account.locked or frozenset(account.roles) != user.roles:
            return False
        if user.until is not None and now > user.until:
            return False
        return user.by is None or user.by == account.password or user.by in account.certificates

    def locked_out(self) -> tuple[str, ...]:
        """Names that are locked out now, as they were given."""
        now = self._monotonic()
        return tuple(name for name, tries in self._tries.items() if tries.out_until > now)

    def _accounts(self) -> Mapping[str, Account]:
        try:
            return self._users.accounts()
        except BrokenUserFile as error:
            raise LoginRefused(Why.BROKEN_FILE, str(error)) from None

    async def _fits(self, account: Account | None, password: str) -> bool:
        kept = account.password if account is not None else None
        if len(password) > LONGEST:
            kept, password = None, ""  # as slow as any other, and not slower
        loop = asyncio.get_running_loop()
        fits = await loop.run_in_executor(self._threads, (kept or NOBODY).fits, password)
        return fits and kept is not None

    @contextmanager
    def _one_more(self, name: str, shown: str) -> Iterator[_Tries]:
        """Count one that is under way. Raises LoginRefused BUSY."""
        tries = self._tries.get(name)
        if self._under_way >= MOST_WAITING or (tries is not None and tries.under_way >= MOST_OF_ONE_NAME):
            raise LoginRefused(Why.BUSY, f"too many log-ins at once; '{shown}' was not looked at")
        if tries is None:
            self._make_room()
            tries = self._tries[name] = _Tries()
        self._tries.move_to_end(name)
        self._under_way += 1
        tries.under_way += 1
        try:
            yield tries
        finally:
            self._under_way -= 1
            tries.under_way -= 1
            if not tries.under_way and not tries.failed:
                self._tries.pop(name, None)

    def _make_room(self) -> None:
        """Forget the failures of one name that is no user's."""
        if len(self._tries) >= MOST_NAMES:
            known = self._accounts()
            idle = (one for one, other in self._tries.items() if not other.under_way and one not in known)
            forgotten = next(idle, None)
            if forgotten is not None:
                del self._tries[forgotten]

    def _check_locked_out(self, tries: _Tries, shown: str) -> None:
        left = tries.out_until - self._monotonic()
        if left > 0:
            raise LoginRefused(
                Why.LOCKED_OUT, f"'{shown}' is locked out for {left:.0f} s more, after too many failures"
            )

    def _failed(self, tries: _Tries) -> bool:
        """Count a failure; True if it locks the name out."""
        now = self._monotonic()
        while tries.failed and now - tries.failed[0] > self._lock_out_s:
            tries.failed.popleft()
        tries.failed.append(now)
        if len(tries.failed) < self._lock_out_after:
            return False
        tries.out_until = now + self._lock_out_s
        return True


def _refused_password(account: Account | None, shown: str, locks_out: bool) -> LoginRefused:
    told = "; the name is locked out now" if locks_out else ""
    if account is None:
        return LoginRefused(Why.UNKNOWN, f"there is no user '{shown}'{told}", locks_out)
    if account.password is None:
        return LoginRefused(Why.WRONG_PASSWORD, f"'{shown}' has no password, only certificates{told}", locks_out)
    return LoginRefused(Why.WRONG_PASSWORD, f"the password of '{shown}' was wrong{told}", locks_out)


def _let_in(account: Account, by: Kept | str | None, until: datetime | None = None) -> User:
    if account.locked:
        raise LoginRefused(Why.LOCKED, f"'{account.name}' is locked by an administrator")
    if not account.roles:
        raise LoginRefused(Why.NO_ROLE, f"'{account.name}' has no role")
    return User(account.name, frozenset(account.roles), by, until)
