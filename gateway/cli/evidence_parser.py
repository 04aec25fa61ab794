"""The grammar of ``gridlatch audit verify | export | report | key``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

FORMATS = ("csv", "jsonl", "comfede", "syslog")
NAME_BYTES_AT_MOST: Final = 200
KINDS_AT_MOST: Final = 50
"""With names no longer than that, so that the seal, which tells them all, is found again at the end of a file."""


def add_evidence(commands: Subparsers, ask: Sequence[argparse.ArgumentParser]) -> None:
    """Add the commands. ask: the options by which a site is found."""
    verify = commands.add_parser(
        "verify",
        parents=ask,
        help="check the journal's hash chain; or files: journals, archives, exports",
        description="Without FILE the daemon checks its journal (without a daemon, the site's is read). With FILEs, "
        "journals, archives and exports are checked by themselves and against each other. What could not be compared (no "
        "mark beside a journal, no key, archives that were not given) is said as 'not checked'. Exit codes: 0 whole as far "
        "as it was checked, 1 not whole, 2 nothing could be checked.",
    )
    verify.add_argument("files", metavar="FILE", nargs="*", type=Path, help="a journal, an archive, an exported file")
    verify.add_argument(
        "--head",
        metavar="LINE",
        help="a head that was kept elsewhere, which must be in the chain: the signed line, or BATCH:HASH",
    )
    verify.add_argument("--key", metavar="FILE", type=Path, help="the device's public key, kept elsewhere (PEM)")
    export = commands.add_parser(
        "export",
        parents=ask,
        help="the record to a file or a syslog collector, sealed and signed",
        description="Reads the journal's file, whether a daemon runs or not. The last line is the seal, by which 'audit "
        "verify' finds any change; it is signed where the device's key can be read.",
    )
    export.add_argument("--format", choices=FORMATS, required=True)
    goal = export.add_mutually_exclusive_group()
    goal.add_argument("-o", "--out", metavar="FILE", type=Path, help="a new file (default: standard output)")
    goal.add_argument("--to", metavar="URL", help="a collector: udp://HOST:PORT, tcp://…, tls://… (syslog only)")
    _add_span(export)
    export.add_argument("--feeder", metavar="F", type=_name, help="its breaker's records, and what names it")
    export.add_argument("--actor", metavar="NAME", type=_name, help="only of this user, or of who gave this name")
    export.add_argument(
        "--kind", metavar="KIND", action="append", default=[], type=_name, help="such as audit, gateway, turn, note"
    )
    export.add_argument("--journal", metavar="FILE", type=Path, help="this journal, copy or archive, not the site's")
    export.add_argument("--tls-ca", metavar="FILE", type=Path, help="whom to trust (PEM), instead of the system's list")
    export.add_argument("--tls-cert", metavar="FILE", type=Path, help="own certificate and key (PEM), if asked for")
    export.add_argument("--max-message", metavar="BYTES", type=_bytes, help="longest syslog message sent (8192)")
    report = commands.add_parser(
        "report", parents=ask, help="a draft of an event report (EOP-004), for a person to check and complete"
    )
    report.add_argument(
        "instance", metavar="INSTANCE", nargs="?", default="", help="the procedure; else a span of time"
    )
    _add_span(report)
    report.add_argument("--format", choices=("eop004",), default="eop004")
    report.add_argument("-o", "--out", metavar="FILE", type=Path, help="a new file (default: standard output)")
    report.add_argument("--journal", metavar="FILE", type=Path, help="this journal, copy or archive, not the site's")
    key = commands.add_parser("key", parents=ask, help="the public key of the device: keep it elsewhere")
    key.add_argument("--new", action="store_true", help="make a new key where the old one is lost for good")


def needs_files(options: argparse.Namespace) -> bool:
    """Whether this audit command reads files instead of asking the daemon."""
    if options.command2 == "verify":
        return bool(options.files) or options.head is not None or options.key is not None
    return options.command2 in ("export", "report", "key")


def _add_span(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", metavar="TIME", type=_moment, help="from this time on, as 2026-01-14T08:30Z")
    parser.add_argument("--until", metavar="TIME", type=_moment, help="and up to this time")


def _name(text: str) -> str:
    if not text or len(text.encode(errors="replace")) > NAME_BYTES_AT_MOST or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text[:80]!a} is no name: it is empty, too long, or not printable")
    return text


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write it as in 2026-01-14, or 2026-01-14T08:30Z"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _bytes(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1_024 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes from 1024 to 1000000")
    return int(text)
