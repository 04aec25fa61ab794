"""``gridlatch journal``, where no daemon owns the journal: restore, compact, accept-loss; and stats, check and backup then.

What must stay true: a journal that a daemon owns is refused, with exit code 4; who does something is noted for the record.
A crash or Ctrl-C here: the journal is as it was, or as the command was to make it.
"""

from __future__ import annotations

import argparse
import os
import pwd
import sys
from collections.abc import Callable
from pathlib import Path

from gateway.cli.commands import login_user
from gateway.cli.fields import Fields
from gateway.cli.journal import (
    backup_lines,
    check_lines,
    compacted_lines,
    loss_lines,
    restored_lines,
    stats_lines,
)
from gateway.cli.site_files import FAILED, NOT_FOUND, OK, REFUSED, complain, tell
from gateway.cli.site_paths import journal_of
from gateway.durable.codec import Json
from gateway.housekeeping_offline import (
    OfflineCareError,
    accept_loss,
    backup,
    check,
    compact,
    restore,
    stats,
)

Told = dict[str, Json]


def run(options: argparse.Namespace, default_site: str) -> int:
    """Carry the command out on the file itself; gives the exit code. Raises UsageError."""
    path = journal_of(options, default_site)
    actor, user = getattr(options, "actor", None) or login_user(), _user()
    work: dict[str, tuple[Callable[[], Told], Callable[[Fields], list[str]]]] = {
        "stats": (lambda: stats(path), stats_lines),
        "check": (lambda: check(path), check_lines),
        "backup": (lambda: backup(path, None if options.target is None else Path(options.target)), backup_lines),
        "restore": (lambda: restore(Path(options.backup), path, actor, user), restored_lines),
        "compact": (lambda: compact(path, actor, user), compacted_lines),
        "accept-loss": (lambda: accept_loss(path, actor, user, options.reason), loss_lines),
    }
    do, lines = work[options.command2]
    if options.command2 in ("stats", "check", "backup"):
        print(f"gridlatch: no daemon answers: this is about the file {path}", file=sys.stderr)
    try:
        told = do()
    except OfflineCareError as error:
        code = REFUSED if error.refused else NOT_FOUND if error.missing else FAILED
        return complain(str(error), code)
    tell(options, {**told}, lines(Fields(told)))
    if unnoted := told.get("unnoted"):
        print(f"gridlatch: done, but {unnoted}", file=sys.stderr)
    return FAILED if told.get("ok") is False else OK


def _user() -> str:
    """Who really does it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
