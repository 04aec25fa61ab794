"""The command line's grammar: which commands there are, what they take, and what their help says."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, TypeAlias

from gateway import __version__
from gateway.cli.audit import add_list
from gateway.cli.commands import DECISIONS
from gateway.cli.evidence_parser import add_evidence
from gateway.cli.journal import add_journal
from gateway.cli.site_parser import add_certs, add_users

if TYPE_CHECKING:
    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DEFAULT_SITE = "/etc/gridlatch"

_EPILOG = """\
exit codes:
  0  done
  1  failed
  2  wrong usage or wrong configuration
  3  not found: no such instance, feeder, tier, orchestrator
  4  refused, finished already, or exists already: nothing was changed
  5  the daemon is not reachable: nothing was sent
  6  outcome unknown: look before you ask again

All times are shown in UTC (Z). Each command tells more with --help.
"""


def _text(value: str) -> str:
    if not value.strip():
        raise argparse.ArgumentTypeError("may not be empty")
    return value


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{value!r} is no number of seconds from 0 to 86400")
    return seconds


def _wait(value: str) -> float:
    seconds = _seconds(value)
    if not 1 <= seconds <= 300:
        raise argparse.ArgumentTypeError(f"{value!r} is no number of seconds from 1 to 300")
    return seconds


def _count(value: str) -> int:
    if not value.isascii() or not value.isdecimal() or not 1 <= int(value) <= 20_000:
        raise argparse.ArgumentTypeError(f"{value!r} is no number from 1 to 20000")
    return int(value)


def _client_options(acts: bool) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("reaching the daemon")
    group.add_argument("--site", metavar="DIR", help=f"the site's folder ($GRIDLATCH_SITE, else {DEFAULT_SITE})")
    group.add_argument("--socket", metavar="PATH", help="the daemon's control socket, instead of the site's")
    group.add_argument("--json", action="store_true", help="print the exact result as JSON")
    if acts:
        group.add_argument("--actor", metavar="NAME", type=_text, help="who decides this (the login user)")
    return options


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar. ``command`` and ``command2`` of the parsed options name what was chosen."""
    parser = argparse.ArgumentParser(
        prog="gridlatch",
        description="Load shedding as durable procedures: the gateway's daemon and its command line.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gridlatch {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    ask, act = [_client_options(acts=False)], [_client_options(acts=True)]

    run = commands.add_parser("run", help="run the daemon of a site, in the foreground")
    run.add_argument("site", metavar="SITE", help="the site's folder")
    check = commands.add_parser("check", help="check a site's configuration and tell every problem at once")
    check.add_argument("site", metavar="SITE", help="the site's folder")
    check.add_argument("--json", action="store_true", help="print the result as JSON")

    lint = commands.add_parser("lint", help="find in orchestrators what replay can't bear, such as the wall clock")
    lint.add_argument("modules", metavar="MODULE", nargs="+", help="a module on the path, or a .py file")
    lint.add_argument("--json", action="store_true", help="print the result as JSON")
    _add_replay(commands)
    commands.add_parser("status", parents=ask, help="load, mode, procedure, breakers, links at one glance")
    timers = commands.add_parser("timers", parents=ask, help="durable timers that run")
    timers.add_argument("--limit", type=_count, help="at most so many")
    _add_instances(
        commands.add_parser("instances", help="runs of procedures: list, show, start, raise, suspend, terminate, …")
    )
    _add_entities(commands.add_parser("entities", help="things with a memory: list, show, clean"))
    _add_breakers(commands.add_parser("breakers", help="breakers: list, show, open, close, block, unblock"))

    why = commands.add_parser(
        "why", parents=ask, help="why a breaker was opened or closed: by whom, on which measurement"
    )
    why.add_argument("feeder", metavar="FEEDER")
    override = commands.add_parser("override", parents=act, help="an operator's decision on the procedure that runs")
    override.add_argument(
        "decision",
        choices=DECISIONS,
        metavar="DECISION",
        help="cancel (stop, leave all as it is), cancel-and-restore, hold (freeze all timers), resume, "
        "skip (end the present wait, or leave out --feeder), force-open or force-close (with --feeder)",
    )
    override.add_argument("--instance", metavar="ID", help="the procedure it is for (the one that runs)")
    override.add_argument("--feeder", help="the feeder to skip or to force")
    _add_reason(override)
    override.add_argument("--expires", type=_seconds, metavar="S", help="void if not taken up within S seconds")

    mode = commands.add_parser("mode", parents=act, help="monitor (writes nothing to the field) or armed")
    mode.add_argument("mode", choices=("monitor", "armed"))
    _add_reason(mode)
    release = commands.add_parser("release", parents=act, help="let outputs go after a hold at restart")
    _add_reason(release)
    report = commands.add_parser("report", parents=ask, help="the event report, as one HTML page")
    report.add_argument("--out", metavar="FILE", help="write it there (default: standard output)")
    audit = commands.add_parser("audit", help="the journal as evidence: list, verify, export, report, key")
    audit_commands = audit.add_subparsers(dest="command2", metavar="COMMAND", required=True)
    listing = audit_commands.add_parser("list", parents=ask, help="who did what, or was refused it; newest first")
    _add_span(listing, "only what was recorded at this time or later")
    listing.add_argument("--limit", type=_count, help="at most so many (100)")
    add_list(listing)
    add_evidence(audit_commands, ask)
    add_journal(commands, ask, act, _text, DEFAULT_SITE)
    add_certs(commands, DEFAULT_SITE)
    add_users(commands, DEFAULT_SITE)
    return parser


def _add_replay(commands: Subparsers) -> None:
    replay = commands.add_parser(
        "replay",
        help="would recorded histories go the same way with the code as it is now? (before an upgrade)",
        description="Runs recorded histories against the stock procedures and those of the site, as they are now, and says "
        "which would diverge, where and why. Only reads; a daemon may be running. Exit codes: 0 all go the same way, "
        "1 some do not, 2 wrong usage or nothing to read.",
    )
    replay.add_argument("site", nargs="?", metavar="SITE", help="the site's folder: its journal and its programs")
    source = replay.add_mutually_exclusive_group()
    source.add_argument("--journal", metavar="FILE", help="this journal (or a copy of one) instead of the site's")
    source.add_argument("--export", metavar="FILE", help="a file of 'instances export' instead of a journal")
    replay.add_argument(
        "--program",
        metavar="MODULE",
        action="append",
        default=[],
        help="a module or .py file besides those of the site, and in the place of one of the same name",
    )
    replay.add_argument("--name", help="only of this orchestrator")
    replay.add_argument("--instance", metavar="ID", action="append", default=[], help="only this one, finished or not")
    replay.add_argument("--finished", action="store_true", help="also those that have ended")
    replay.add_argument("--json", action="store_true", help="print the exact result as JSON")


def _add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="TEXT", required=True, type=_text, help="why; it stands in the record")


def _add_instances(parser: argparse.ArgumentParser) -> None:
    ask, act = [_client_options(acts=False)], [_client_options(acts=True)]
    commands = parser.add_subparsers(dest="command2", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", parents=ask, help="instances in the order of their ids")
    listing.add_argument("--status", help="only these, as in --status Running")
    listing.add_argument("--name", help="only of this orchestrator")
    listing.add_argument("--prefix", help="only ids that begin so")
    _add_span(listing, "only those created at this time or later")
    _add_page(listing, "instance")
    show = commands.add_parser("show", parents=ask, help="one instance; --timeline tells its story")
    show.add_argument("instance", metavar="ID")
    more = show.add_mutually_exclusive_group()
    more.add_argument("--history", action="store_true", help="also every event since its start")
    more.add_argument("--timeline", action="store_true", help="its story: each step, how long it took, what came of it")
    start = commands.add_parser("start", parents=act, help="start a procedure by the name of its orchestrator")
    start.add_argument("name", metavar="NAME", help="the orchestrator")
    start.add_argument("--input", metavar="JSON", help="its input; @FILE reads it from a file")
    start.add_argument("--id", dest="instance", metavar="ID", help="its instance id (a new one)")
    start.add_argument("--version", metavar="V", help="which of several versions of its code (the highest)")
    event = commands.add_parser("raise", parents=act, help="send an external event to an instance")
    event.add_argument("instance", metavar="ID")
    event.add_argument("event", metavar="EVENT", help="its name, such as OperatorOverride")
    event.add_argument("--data", metavar="JSON", help="what it carries; @FILE reads it from a file")
    export = commands.add_parser("export", parents=ask, help="histories to a file of JSON lines, for 'replay'")
    export.add_argument("instances", metavar="ID", nargs="*")
    export.add_argument("--all", action="store_true", help="of all orchestrations")
    export.add_argument("--out", metavar="FILE", help="write them there (default: standard output)")
    export.add_argument("--journal", metavar="FILE", help="read this journal (or a copy of one), ask no daemon")
    for name, text in (
        ("terminate", "end an instance at once; breakers stay as they are"),
        ("suspend", "let an instance stand still; what comes is kept for it"),
        ("resume", "let a suspended instance go on"),
        ("rewind", "take a failed instance back to before its failure, and let it go on"),
    ):
        action = commands.add_parser(name, parents=act, help=text)
        action.add_argument("instance", metavar="ID")
        _add_reason(action)
    restart = commands.add_parser("restart", parents=act, help="start an instance anew, with its input")
    restart.add_argument("instance", metavar="ID")
    restart.add_argument(
        "--same-id", action="store_true", help="under its own id, once it has finished (else a new one)"
    )
    _add_reason(restart)
    purge = commands.add_parser(
        "purge", parents=act, help="remove finished instances; their records stay in the journal"
    )
    purge.add_argument("instance", metavar="ID", nargs="?")
    _add_span(purge, "instead of an ID: all those created at this time or later")
    purge.add_argument("--status", help="only these, as in --status Completed")
    _add_reason(purge)


def _add_span(parser: argparse.ArgumentParser, since: str) -> None:
    parser.add_argument("--since", metavar="TIME", help=f"{since}, as 2026-01-14T08:30Z")
    parser.add_argument("--until", metavar="TIME", help="and at this time or earlier")


def _add_entities(parser: argparse.ArgumentParser) -> None:
    ask, act = [_client_options(acts=False)], [_client_options(acts=True)]
    commands = parser.add_subparsers(dest="command2", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", parents=ask, help="entities in the order of their ids")
    listing.add_argument("--name", help="only those whose kind begins so, as in --name breaker")
    _add_span(listing, "only those that changed at this time or later")
    _add_page(listing, "entity")
    show = commands.add_parser("show", parents=ask, help="one entity: its state, and its last operations")
    show.add_argument("entity", metavar="ID", help="such as @substation@Northgate")
    clean = commands.add_parser("clean", parents=act, help="remove empty entities, release locks whose owner is gone")
    _add_reason(clean)


def _add_breakers(parser: argparse.ArgumentParser) -> None:
    ask, act = [_client_options(acts=False)], [_client_options(acts=True)]
    commands = parser.add_subparsers(dest="command2", metavar="COMMAND", required=True)
    listing = commands.add_parser("list", parents=ask, help="breakers in the order of their feeders' names")
    listing.add_argument("--position", choices=("open", "closed", "intermediate", "bad", "unknown"))
    listing.add_argument("--tier", help="only feeders of this tier")
    listing.add_argument("--outcome", help="only breakers whose last command ended so, as in --outcome failed")
    listing.add_argument("--prefix", help="only feeders whose names begin so")
    _add_page(listing, "feeder")
    show = commands.add_parser("show", parents=ask, help="all about one breaker")
    show.add_argument("feeder", metavar="FEEDER")
    for name, text in (
        ("open", "open one breaker and wait for its readback"),
        ("close", "close one breaker and wait for its readback"),
        ("block", "take a breaker out of all commands"),
        ("unblock", "give a blocked breaker back"),
    ):
        action = commands.add_parser(name, parents=act, help=text)
        action.add_argument("feeder", metavar="FEEDER")
        _add_reason(action)
        if name in ("open", "close"):
            action.add_argument(
                "--force",
                action="store_true",
                help="insist: operate beyond the cap of operations an hour, open a critical feeder",
            )
        action.add_argument("--wait", type=_wait, default=15.0, metavar="S", help="wait so long for the outcome (15)")


def _add_page(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--limit", type=_count, help="at most so many")
    parser.add_argument("--after", metavar=what.upper(), help=f"go on after this {what}")
