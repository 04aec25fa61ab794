"""The users of the OPC UA server, in a TOML file that ``gridlatch users`` writes and the daemon only reads.

    [users."ana"]
    roles = ["OPERATOR"]
    password = "scrypt$..."            left out: no log-in by password
    certificates = ["0a1b..."]         SHA-256 thumbprints of certificates that log this user in
    locked = false

What must stay true: there is no user and no password but those that a person made; the file is replaced as a whole, with
everything on disk; a file that is broken in any place, or that others may write, lets nobody in. A change holds from the
next log-in or call on, and ends sessions that would not be let in as they were.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from protocols.opcua.files import alone, make_folder, write_private
from protocols.opcua.passwords import Kept, keep, read_kept, unfit

ROLES = ("VIEWER", "OPERATOR", "ENGINEER", "SECADM", "AUDITOR")
"""Names of IEC 62351-8. What each may do is the gateway's matrix."""
MOST_USERS = 1000
MOST_CERTIFICATES = 10
"""Of one user."""
MOST_BYTES = 2 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_THUMBPRINT = re.compile(r"[0-9a-f]{64}")
_HEAD = "# Users of the OPC UA server. Written by 'gridlatch users'; a change by hand must keep to its form.\n"
_KEYS = {"roles", "password", "certificates", "locked"}


class UserError(Exception):
    """What was asked can't be done; nothing was changed. The text says why."""


class NoSuchUser(UserError):
    """There is no user of this name."""


class BrokenUserFile(UserError):
    """The file can't be read as it is, so nobody can log in, or can't be written; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Account:
    """One user. password: None for one who logs in by certificate only; certificates: SHA-256, hexadecimal."""

    name: str
    roles: tuple[str, ...]
    password: Kept | None = None
    certificates: tuple[str, ...] = ()
    locked: bool = False


class UserFile:
    """The file. Several processes may change one file, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark: tuple[int, int, int, int] | None = None
        self._accounts: Mapping[str, Account] = MappingProxyType({})

    def accounts(self) -> Mapping[str, Account]:
        """All users by name, as the file has them now; a file that isn't there has none. Raises BrokenUserFile."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return MappingProxyType({})
        except OSError as error:
            raise BrokenUserFile(f"{self.path} can't be read: {error.strerror}") from None
        mark = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        if mark != self._mark:
            if stat.st_mode & 0o027:
                raise BrokenUserFile(f"others may write or read {self.path}: look who did, then 'chmod 600' it")
            self._accounts = MappingProxyType(self._read())
            self._mark = mark
        return self._accounts

    def list(self) -> Sequence[Account]:
        """All users in the order of their names. Raises BrokenUserFile."""
        accounts = self.accounts()
        return [accounts[name] for name in sorted(accounts)]

    def add(self, name: str, password: str | None, roles: Sequence[str], thumbprint: str | None = None) -> Account:
        """A new user, who logs in by password, by the certificate of this thumbprint, or both. Raises UserError."""
        if _NAME.fullmatch(name) is None:
            raise UserError(
                f"{name!r} is no user's name: letters, digits and . _ @ - (64 at most, a letter or digit first)"
            )
        fit, kept = _fit_roles(roles), _fit_password(name, password) if password is not None else None
        with self._changing() as accounts:
            same = next((one for one in accounts if one.casefold() == name.casefold()), None)
            if same is not None:
                raise UserError(f"there is a user {same} already")
            if len(accounts) >= MOST_USERS:
                raise UserError(f"there are {MOST_USERS} users already, which is the most")
            account = Account(name, fit, kept)
            if thumbprint is not None:
                account = _with_certificate(accounts, account, thumbprint)
            accounts[name] = account
        return account

    def passwd(self, name: str, password: str) -> Account:
        """Another password. Raises UserError."""
        self._find(self.accounts(), name)
        return self._change(name, password=_fit_password(name, password))

    def role(self, name: str, roles: Sequence[str]) -> Account:
        """These roles instead of those that the user has; none at all: the user can't log in. Raises UserError."""
        return self._change(name, roles=_fit_roles(roles))

    def lock(self, name: str) -> Account:
        """Let a user log in no longer. Raises UserError."""
        return self._change(name, locked=True)

    def unlock(self, name: str) -> Account:
        """Let a locked user log in again. Raises UserError."""
        return self._change(name, locked=False)

    def remove(self, name: str) -> None:
        """Forget a user. Raises UserError."""
        with self._changing() as accounts:
            self._find(accounts, name)
            del accounts[name]

    def certificate(self, name: str, thumbprint: str, remove: bool = False) -> Account:
        """Let a certificate (SHA-256 thumbprint) log this user in, or no longer. Raises UserError."""
        with self._changing() as accounts:
            account = self._find(accounts, name)
            if not remove:
                account = _with_certificate(accounts, account, thumbprint)
            elif thumbprint not in account.certificates:
                raise UserError(f"{name} has no certificate {thumbprint[:16]}")
            else:
                kept = tuple(one for one in account.certificates if one != thumbprint)
                account = replace(account, certificates=kept)
            accounts[name] = account
        return account

    def _change(self, name: str, **what: object) -> Account:
        with self._changing() as accounts:
            account = replace(self._find(accounts, name), **what)  # type: ignore[arg-type]
            accounts[name] = account
        return account

    @staticmethod
    def _find(accounts: Mapping[str, Account], name: str) -> Account:
        account = accounts.get(name)
        if account is None:
            raise NoSuchUser(f"there is no user {name!r}")
        return account

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Account]]:
        """All users, to be changed; written when the block ends well."""
        try:
            make_folder(self.path.parent)
            with alone(self.path.parent):
                accounts = dict(self.accounts())
                yield accounts
                write_private(self.path, _written(accounts).encode())
        except OSError as error:
            raise BrokenUserFile(f"{self.path} can't be written: {error.strerror or error}") from None

    def _read(self) -> dict[str, Account]:
        try:
            with open(self.path, "rb") as file:
                data = file.read(MOST_BYTES + 1)
            if len(data) > MOST_BYTES:
                raise ValueError(f"it has more than {MOST_BYTES} bytes")
            return _accounts_of(tomllib.loads(data.decode("utf-8")))
        except OSError as error:
            raise BrokenUserFile(f"{self.path} can't be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise BrokenUserFile(f"{self.path} is broken, so nobody can log in: {error}") from None


def _accounts_of(document: Mapping[str, object]) -> dict[str, Account]:
    users = document.get("users", {})
    if set(document) - {"users"} or not isinstance(users, dict):
        raise ValueError("it holds something else than the table [users]")
    if len(users) > MOST_USERS:
        raise ValueError(f"it has {len(users)} users; {MOST_USERS} are the most")
    accounts = {name: _account(name, table) for name, table in users.items()}
    thumbprints = [one for account in accounts.values() for one in account.certificates]
    if len(set(thumbprints)) < len(thumbprints):
        raise ValueError("one certificate stands for several users")
    if len({name.casefold() for name in accounts}) < len(accounts):
        raise ValueError("two users' names differ by capitals only")
    return accounts


def _account(name: str, table: object) -> Account:
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name[:80]!r} is no user's name")
    if not isinstance(table, dict) or set(table) - _KEYS:
        raise ValueError(f"user {name} has something else than {', '.join(sorted(_KEYS))}")
    roles, certificates = table.get("roles", []), table.get("certificates", [])
    password, locked = table.get("password"), table.get("locked", False)
    if not isinstance(roles, list) or any(role not in ROLES for role in roles):
        raise ValueError(f"roles of {name} are not out of {', '.join(ROLES)}")
    if not isinstance(certificates, list) or not all(
        isinstance(one, str) and _THUMBPRINT.fullmatch(one) for one in certificates
    ):
        raise ValueError(f"certificates of {name} are no list of SHA-256 thumbprints")
    if len(certificates) > MOST_CERTIFICATES:
        raise ValueError(f"{name} has more than {MOST_CERTIFICATES} certificates")
    if not isinstance(locked, bool):
        raise ValueError(f"locked of {name} is neither true nor false")
    if password is not None and not isinstance(password, str):
        raise ValueError(f"password of {name} is no text")
    try:
        kept = read_kept(password) if password is not None else None
    except ValueError as error:
        raise ValueError(f"password of {name}: {error}") from None
    return Account(name, tuple(roles), kept, tuple(certificates), locked)


def _written(accounts: Mapping[str, Account]) -> str:
    lines = [_HEAD]
    for name in sorted(accounts):
        account = accounts[name]
        lines.append(f'[users."{name}"]')
        lines.append(f"roles = [{_quoted(account.roles)}]")
        if account.password is not None:
            lines.append(f'password = "{account.password}"')
        lines.append(f"certificates = [{_quoted(account.certificates)}]")
        lines.append(f"locked = {str(account.locked).lower()}\n")
    return "\n".join(lines)


def _quoted(words: Sequence[str]) -> str:
    # Names, roles and thumbprints have no character that TOML would want escaped.
    return ", ".join(f'"{word}"' for word in words)


def _with_certificate(accounts: Mapping[str, Account], account: Account, thumbprint: str) -> Account:
    if _THUMBPRINT.fullmatch(thumbprint) is None:
        raise UserError(f"{thumbprint!r} is no SHA-256 thumbprint: 64 hexadecimal digits, lower case")
    for other in accounts.values():
        if other.name != account.name and thumbprint in other.certificates:
            raise UserError(f"this is the certificate of {other.name}; a certificate stands for one user")
    kept = tuple(one for one in account.certificates if one != thumbprint)
    if len(kept) >= MOST_CERTIFICATES:
        raise UserError(f"{account.name} has {MOST_CERTIFICATES} certificates already, which is the most")
    return replace(account, certificates=(*kept, thumbprint))


def _fit_roles(roles: Sequence[str]) -> tuple[str, ...]:
    for role in roles:
        if role not in ROLES:
            raise UserError(f"{role!r} is no role; there are {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in roles)


def _fit_password(name: str, password: str) -> Kept:
    why = unfit(password, name)
    if why:
        raise UserError(why)
    return keep(password)
