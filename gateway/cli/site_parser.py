"""The grammar of the commands that work on a site's files for OPC UA: certificates and users."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

ROLES = ("VIEWER", "OPERATOR", "ENGINEER", "SECADM", "AUDITOR")
_MOST_YEARS = 20


def _years(value: str) -> int:
    if not value.isascii() or not value.isdecimal() or not 1 <= int(value) <= _MOST_YEARS:
        raise argparse.ArgumentTypeError(f"{value!r} is no number of years from 1 to {_MOST_YEARS}")
    return int(value)


def _site_options(default_site: str) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--site", metavar="DIR", help=f"the site's folder ($GRIDLATCH_SITE, else {default_site})")
    options.add_argument("--json", action="store_true", help="print the exact result as JSON")
    return options


def add_certs(commands: Subparsers, default_site: str) -> None:
    """``gridlatch certs ...``."""
    group = commands.add_parser(
        "certs",
        help="certificates of OPC UA: list, show, trust, crl, reject, new, renew",
        description="Whom the OPC UA server trusts, and the gateway's own certificate. Works on the site's files, with or "
        "without a daemon; what is trusted or rejected holds from the next connection on.",
    )
    parsers = group.add_subparsers(dest="command2", metavar="COMMAND", required=True)
    common = _site_options(default_site)
    common.add_argument("--pki", metavar="DIR", help="this folder of certificates instead of the one in [operators]")
    parents = [common]
    parsers.add_parser("list", parents=parents, help="own, trusted, issuers, and the last ones that were turned away")
    show = parsers.add_parser("show", parents=parents, help="all about one certificate")
    show.add_argument("certificate", metavar="THUMBPRINT", nargs="?", help="which one (the gateway's own)")
    trust = parsers.add_parser("trust", parents=parents, help="let an application in, or those of an authority")
    trust.add_argument("certificate", metavar="THUMBPRINT|FILE", help="one that was turned away, or a DER or PEM file")
    trust.add_argument("--issuer", action="store_true", help="an authority that only completes chains")
    crl = parsers.add_parser("crl", parents=parents, help="take in an authority's revocation list")
    crl.add_argument("file", metavar="FILE", help="a DER or PEM file")
    reject = parsers.add_parser("reject", parents=parents, help="trust a certificate no longer")
    reject.add_argument("certificate", metavar="THUMBPRINT")
    new = parsers.add_parser("new", parents=parents, help="make the gateway a new key and certificate")
    new.add_argument("--host", metavar="NAME", action="append", help="a name or address clients use; may be repeated")
    new.add_argument("--uri", metavar="URI", help="the application's URI (the site's)")
    renew = parsers.add_parser(
        "renew", parents=parents, help="give the gateway's certificate new dates, with the same key"
    )
    for parser in (new, renew):
        parser.add_argument("--years", type=_years, default=5, metavar="N", help="how long it will be good (5)")


def add_users(commands: Subparsers, default_site: str) -> None:
    """``gridlatch users ...``."""
    group = commands.add_parser(
        "users",
        help="users of OPC UA: list, add, passwd, role, lock, unlock, remove, certificate",
        description="Who may log in to the OPC UA server. Works on the site's files, with or without a daemon; a change "
        "holds from the next log-in on. There is no user and no password to begin with.",
    )
    parsers = group.add_subparsers(dest="command2", metavar="COMMAND", required=True)
    parents = [_site_options(default_site)]
    parsers.add_parser("list", parents=parents, help="all users")
    add = parsers.add_parser("add", parents=parents, help="a new user; asks for the password")
    passwd = parsers.add_parser("passwd", parents=parents, help="another password")
    role = parsers.add_parser("role", parents=parents, help="these roles instead of the present ones")
    lock = parsers.add_parser("lock", parents=parents, help="let a user log in no longer")
    unlock = parsers.add_parser("unlock", parents=parents, help="let a locked user log in again")
    remove = parsers.add_parser("remove", parents=parents, help="forget a user")
    certificate = parsers.add_parser("certificate", parents=parents, help="let a certificate log a user in")
    for parser in (add, passwd, role, lock, unlock, remove, certificate):
        parser.add_argument("name", metavar="NAME")
    add.add_argument(
        "--role",
        metavar="ROLE",
        action="append",
        required=True,
        choices=ROLES,
        help=f"{', '.join(ROLES)}; may be repeated",
    )
    add.add_argument(
        "--certificate",
        metavar="FILE|THUMBPRINT",
        help="log in by this certificate; no password unless --password-stdin",
    )
    for parser in (add, passwd):
        parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    role.add_argument("role", metavar="ROLE", nargs="+", choices=ROLES, help=", ".join(ROLES))
    certificate.add_argument(
        "certificate", metavar="FILE|THUMBPRINT", help="a DER or PEM file, or a SHA-256 thumbprint"
    )
    certificate.add_argument("--remove", action="store_true", help="no longer")
