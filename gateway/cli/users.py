"""``gridlatch users``: who may log in to the OPC UA server, and as what. Asks no daemon.

What must stay true: a password comes from a prompt (twice) or from standard input, never from an argument that other
users of the machine could see; nothing that is printed holds a password or its hash.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from pathlib import Path

from gateway.cli.commands import UsageError
from gateway.cli.fields import table
from gateway.cli.site_files import FAILED, NOT_FOUND, REFUSED, complain, operators_of, tell
from protocols.opcua.pki import CertificateRefused, NotFound, Pki, PkiError, thumbprint_of_file
from protocols.opcua.users import Account, BrokenUserFile, NoSuchUser, UserError, UserFile

_LONGEST_LINE = 4096


def users(options: argparse.Namespace, default_site: str) -> int:
    """Run one of the commands; gives its exit code. Raises UsageError."""
    operators = operators_of(options, default_site)
    file, pki = UserFile(operators.users_file), Pki(operators.pki_dir)
    try:
        return _COMMANDS[options.command2](options, file, pki)
    except (NoSuchUser, NotFound) as error:
        return complain(str(error), NOT_FOUND)
    except (BrokenUserFile, PkiError) as error:
        return complain(str(error), FAILED)
    except (UserError, CertificateRefused) as error:
        return complain(f"refused: {error}; nothing was changed", REFUSED)


def _list(options: argparse.Namespace, file: UserFile, pki: Pki) -> int:
    accounts = file.list()
    rows = [(one.name, ", ".join(one.roles) or "none", _ways(one), "LOCKED" if one.locked else "") for one in accounts]
    lines = table(("USER", "ROLES", "LOGS IN BY", ""), rows)
    if not rows:
        lines = ["No user yet, so nobody can log in: gridlatch users add NAME --role OPERATOR"]
    return tell(options, {"users": [_json(one) for one in accounts]}, lines)


def _add(options: argparse.Namespace, file: UserFile, pki: Pki) -> int:
    certificate = _thumbprint(options.certificate, pki) if options.certificate else None
    by_password = certificate is None or options.password_stdin
    password = _password(options, options.name) if by_password else None
    account = file.add(options.name, password, options.role, certificate)
    return tell(
        options, _json(account), [f"{account.name} may log in as {', '.join(account.roles)}, by {_ways(account)}."]
    )


def _passwd(options: argparse.Namespace, file: UserFile, pki: Pki) -> int:
    if options.name not in file.accounts():
        raise NoSuchUser(f"there is no user {options.name!r}")
    account = file.passwd(options.name, _password(options, options.name))
    return tell(options, _json(account), [f"{account.name} has a new password, from the next log-in on."])


def _role(options: argparse.Namespace, file: UserFile, pki: Pki) -> int:
    account = file.role(options.name, options.role)
    return tell(options, _json(account), [f"{account.name} is {', '.join(account.roles)} from the next log-in on."])


def _lock(options: argparse.Namespace, file: UserFile, pki: Pki) -> int:
    account = file.lock(options.name)
    return tell(options, _json(account), [f"{account.name} is locked and can't log in any more."])


_LOCK_OUT = "A lock-out after failed log-ins is another thing: it ends by itself, after lock_out_s of [operators]."


def _unlock(options: argparse.Namespace, file: UserFile, pki: Pki) -> int:
    account = file.unlock(options.name)
    return tell(options, _json(account), [f"{account.name} is not locked. {_LOCK_OUT}"])


def _remove(options: argparse.Namespace, file: UserFile, pki: Pki) -> int:
    file.remove(options.name)
    return tell(options, {"name": options.name, "removed": True}, [f"{options.name} is no user any more."])


def _certificate(options: argparse.Namespace, file: UserFile, pki: Pki) -> int:
    thumbprint = _thumbprint(options.certificate, pki)
    account = file.certificate(options.name, thumbprint, remove=options.remove)
    done = "no longer logs in" if options.remove else "logs in"
    return tell(options, _json(account), [f"Certificate {thumbprint[:16]} {done} {account.name}."])


_COMMANDS: dict[str, Callable[[argparse.Namespace, UserFile, Pki], int]] = {
    "list": _list,
    "add": _add,
    "passwd": _passwd,
    "role": _role,
    "lock": _lock,
    "unlock": _unlock,
    "remove": _remove,
    "certificate": _certificate,
}


def _password(options: argparse.Namespace, name: str) -> str:
    """What the person types, twice, or the first line of standard input. Raises UsageError."""
    if options.password_stdin:
        line = sys.stdin.readline(_LONGEST_LINE)
        if not line:
            raise UsageError("--password-stdin: nothing came on standard input")
        return line.rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the password at; give it with --password-stdin")
    password = getpass.getpass(f"Password of {name}: ")
    if getpass.getpass("Once more: ") != password:
        raise UsageError("the two passwords differ; nothing was changed")
    return password


def _thumbprint(given: str, pki: Pki) -> str:
    """Of a file, of 64 digits, or of a certificate that knocked and lies in rejected or trusted."""
    path = Path(given)
    if path.exists():
        return thumbprint_of_file(path)
    digits = given.replace(":", "").replace(" ", "").lower()
    if len(digits) == 64 and set(digits) <= set("0123456789abcdef"):
        return digits
    found = pki.find(given)
    assert found.facts is not None  # it was found by its thumbprint
    return found.facts.thumbprint


def _ways(account: Account) -> str:
    ways = ["password"] if account.password is not None else []
    number = len(account.certificates)
    if number:
        ways.append("certificate" if number == 1 else f"{number} certificates")
    return " and ".join(ways) or "nothing"


def _json(account: Account) -> dict[str, object]:
    return {
        "name": account.name,
        "roles": list(account.roles),
        "password": account.password is not None,
        "certificates": list(account.certificates),
        "locked": account.locked,
    }
