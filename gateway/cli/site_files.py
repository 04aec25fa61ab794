"""What ``gridlatch certs`` and ``gridlatch users`` have in common: they work on the files of a site, without its daemon.

What must stay true: one command is one change of one file, or none; what the daemon needs is read again by it when the
next client comes. Nothing here asks the daemon, so it works on a box that is still to be taken into service.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from config import ConfigErrors, Operators, load_operators
from gateway.cli.commands import UsageError

OK, FAILED, USAGE, NOT_FOUND, REFUSED = 0, 1, 2, 3, 4


def operators_of(options: argparse.Namespace, default_site: str) -> Operators:
    """The table [operators] of the site that was named. Raises UsageError."""
    site = Path(options.site or os.environ.get("GRIDLATCH_SITE") or default_site)
    if not site.exists():
        raise UsageError(f"there is no site at {site}; say --site DIR or set GRIDLATCH_SITE")
    try:
        operators = load_operators(site)
    except ConfigErrors as errors:
        raise UsageError(f"the site at {site} can't be read:\n{errors}") from None
    if operators is None:
        raise UsageError(
            f"the site at {site} has no table [operators], so it has no OPC UA server: "
            'add [operators] with host = "0.0.0.0" (see gridlatch check)'
        )
    return operators


def complain(message: str, code: int) -> int:
    """Say what went wrong; gives the exit code back."""
    print(f"gridlatch: {message}", file=sys.stderr)
    return code


def tell(options: argparse.Namespace, result: dict[str, object], lines: list[str]) -> int:
    """Print the result as JSON or as lines for a person."""
    text = json.dumps(result, indent=2, ensure_ascii=False) if options.json else "\n".join(lines)
    encoding = sys.stdout.encoding or "ascii"
    print(text.encode(encoding, errors="replace").decode(encoding))
    return OK
