"""``gridlatch``: the command line.

``run``, ``check``, ``replay``, ``certs``, ``users`` and some of ``journal`` work on a site's folder; every other command
asks the running daemon over its control socket, and needs nothing of the site but the socket's path. What must stay true:
results go to standard output and everything else to standard error; the exit code tells what to do next (see
``ExitCode``); ``--json`` prints the daemon's result as it is. A crash or Ctrl-C here changes nothing in the daemon.

Everything that takes long to import is imported where it is used: ``gridlatch status`` is typed often.
"""

from __future__ import annotations

import argparse
import enum
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.cli.commands import BUILDERS, Request, UsageError
from gateway.cli.evidence_parser import needs_files
from gateway.cli.journal import OFFLINE, WITHOUT_DAEMON
from gateway.cli.parser import DEFAULT_SITE, build_parser
from gateway.cli.site_paths import socket_of
from gateway.control_client import Code, ControlError, DaemonSilent, DaemonUnreachable, JsonValue, call


class ExitCode(enum.IntEnum):
    """What a script that calls ``gridlatch`` can act upon."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    UNKNOWN_OUTCOME = 6
    INTERRUPTED = 130


_EXIT_OF_CODE = {
    Code.BAD_REQUEST: ExitCode.USAGE,
    Code.NOT_FOUND: ExitCode.NOT_FOUND,
    Code.GONE: ExitCode.REFUSED,
    Code.EXISTS: ExitCode.REFUSED,
    Code.REFUSED: ExitCode.REFUSED,
    Code.UNKNOWN_OUTCOME: ExitCode.UNKNOWN_OUTCOME,
    Code.TOO_LARGE: ExitCode.FAILED,
    Code.UNAVAILABLE: ExitCode.FAILED,
    Code.INTERNAL: ExitCode.FAILED,
}
# How a field command or an operator's command may end, as its result says it; any other word is a refusal.
_EXIT_OF_OUTCOME = {
    "done": ExitCode.OK,
    "failed": ExitCode.FAILED,
    "unknown": ExitCode.UNKNOWN_OUTCOME,
    "pending": ExitCode.UNKNOWN_OUTCOME,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code. Wrong usage ends in SystemExit(2), as argparse does it."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        code = _run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who read our output (head, less) has gone: nothing to tell, and nothing may be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except OSError as error:
        if error.filename is not None:
            raise
        # Files have names and connections errors of their own: this is standard output, on a disk that is full.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _complain(f"standard output can't be written: {error.strerror}", ExitCode.FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted; what was asked of the daemon goes on there", ExitCode.INTERRUPTED)
    return code


def _run(options: argparse.Namespace) -> int:
    if options.command in ("run", "check"):
        from gateway.cli import local

        return local.run(options) if options.command == "run" else local.check(options)
    if options.command == "lint":
        from gateway.cli.lint import lint

        return lint(options)
    if options.command == "replay":
        from gateway.cli import histories

        return histories.replay(options, DEFAULT_SITE)
    if options.command in ("certs", "users"):
        return _run_on_files(options)
    if options.command == "journal" and options.command2 in OFFLINE:
        return _journal_offline(options)
    if options.command == "audit" and needs_files(options):
        return _evidence(options)
    command = " ".join(word for word in (options.command, getattr(options, "command2", None)) if word)
    acts = False
    try:
        if command == "instances export":
            return _export(options)
        request = BUILDERS[command](options)
        acts = request.acts
        result = call(socket_of(options, DEFAULT_SITE), request.op, request.args, request.timeout_s)
    except UsageError as error:
        return _complain(str(error), ExitCode.USAGE)
    except ControlError as error:
        return _complain(error.message, _EXIT_OF_CODE[error.code])
    except DaemonSilent as error:
        if acts:
            return _complain(f"{error}. OUTCOME UNKNOWN: look before you ask again", ExitCode.UNKNOWN_OUTCOME)
        return _complain(str(error), ExitCode.UNREACHABLE)
    except DaemonUnreachable as error:
        if command in WITHOUT_DAEMON and options.socket is None:
            return _journal_offline(options)
        if command == "audit verify" and options.socket is None:
            return _evidence(options)
        return _complain(str(error), ExitCode.UNREACHABLE)
    written = _show(command, options, result)
    return written or _exit_of(request, result)


def _run_on_files(options: argparse.Namespace) -> int:
    """Certificates and users: files of the site, without the daemon."""
    from gateway.cli.certs import certs
    from gateway.cli.users import users

    try:
        return (certs if options.command == "certs" else users)(options, DEFAULT_SITE)
    except UsageError as error:
        return _complain(str(error), ExitCode.USAGE)


def _journal_offline(options: argparse.Namespace) -> int:
    """The journal's file itself, which no daemon owns."""
    from gateway.cli.journal_offline import run

    try:
        return run(options, DEFAULT_SITE)
    except UsageError as error:
        return _complain(str(error), ExitCode.USAGE)


def _evidence(options: argparse.Namespace) -> int:
    """The record as evidence: files, without the daemon."""
    from gateway.cli.evidence import run

    try:
        return run(options, DEFAULT_SITE)
    except UsageError as error:
        return _complain(str(error), ExitCode.USAGE)


def _export(options: argparse.Namespace) -> int:
    """Histories to a file: asked of the daemon one by one, or read out of a journal without it."""
    from gateway.cli import histories

    if options.journal is not None:
        return histories.export(options, _nobody)
    socket = socket_of(options, DEFAULT_SITE)
    return histories.export(options, lambda one: call(socket, one.op, one.args, one.timeout_s))


def _nobody(request: Request) -> JsonValue:
    raise UsageError("a journal is read without a daemon")


def _show(command: str, options: argparse.Namespace, result: JsonValue) -> int:
    """Print the result; gives an exit code other than 0 if that fails."""
    if options.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return ExitCode.OK
    if command == "report":
        return _write_report(options.out, result)
    from gateway.cli.status import ansi_paint, plain_paint
    from gateway.cli.text import lines_of

    colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    lines = lines_of(command, result, ansi_paint if colours else plain_paint)
    encoding = sys.stdout.encoding or "ascii"
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text.encode(encoding, errors="replace").decode(encoding))
    return ExitCode.OK


def _write_report(out: str | None, result: JsonValue) -> int:
    from gateway.cli.fields import Fields

    html = Fields(result).raw("html")
    if not isinstance(html, str):
        return _complain("the daemon's answer holds no report", ExitCode.FAILED)
    if out is None:
        sys.stdout.write(html)
        return ExitCode.OK
    try:
        Path(out).write_text(html, encoding="utf-8")
    except OSError as error:
        return _complain(f"{out} can't be written: {error.strerror}", ExitCode.FAILED)
    print(f"The report is in {out}")
    return ExitCode.OK


def _exit_of(request: Request, result: JsonValue) -> int:
    """A request may be answered well and say that what it asked for did not happen."""
    from gateway.cli.fields import Fields

    fields = Fields(result)
    if request.op in ("breakers.open", "breakers.close"):
        return _EXIT_OF_OUTCOME.get(fields.text("outcome"), ExitCode.REFUSED)
    if request.op == "override" and not fields.flag("accepted"):
        return ExitCode.REFUSED
    if request.op in ("audit.verify", "journal.check") and not fields.flag("ok"):
        return ExitCode.FAILED
    return ExitCode.OK


def _complain(message: str, code: ExitCode) -> int:
    print(f"gridlatch: {message}", file=sys.stderr)
    return code
