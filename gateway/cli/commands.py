"""What each command asks of the daemon: the operations of the control socket, and how arguments become requests.

The operations and their arguments (all names as on the wire; what may be left out stands in brackets). Each that acts
carries ``actor``, the name that a person gave; the daemon knows the user of the connection besides.

    status                                                     report
    timers          [limit]                                    audit.verify; audit.exported  format filter to actor
    instances.list  [status name prefix since until            instances.start     name [input instance version] actor
                    limit after]                               instances.raise     instance event [data] actor
    instances.show  instance [history]                         instances.terminate | suspend | resume | rewind
    instances.timeline instance [exact]                                            instance reason actor
    instances.export   instance                                instances.restart   instance reason [same_id] actor
    entities.list   [name since until empty limit after]       instances.purge     reason [instance since until
    entities.show   entity                                                         status] actor
    entities.clean  reason actor                               why                 feeder
    breakers.list   [position tier outcome prefix              breakers.open | close | block | unblock
                    limit after]                                                   feeder reason wait_s [force] actor
    breakers.show   feeder                                     override            decision reason [instance feeder
    mode            mode reason actor                                              expires_s] actor
    release         reason actor                               audit.list          [since until user op refused
    journal.stats                                              before limit]
    journal.check   actor                                      journal.archive     [before] actor
    journal.backup  [target, device, inode] actor

What must stay true: an operation that acts is never asked twice, and when its answer is lost the person is told that
the outcome is unknown. Nothing here touches the field or the journal: the daemon does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.cli import audit, journal
from gateway.control_client import JsonValue

READ_TIMEOUT_S = 30.0
"""How long a question may take, real seconds."""
ACT_TIMEOUT_S = 60.0
"""How long an action may take beyond the wait that it was given, real seconds."""

DECISIONS = ("cancel", "cancel-and-restore", "hold", "resume", "skip", "force-open", "force-close")


class UsageError(Exception):
    """An argument that can't be used; the message says what to write instead. Nothing was sent."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request to the daemon. acts: it changes something, so a lost answer is an unknown outcome."""

    op: str
    args: dict[str, JsonValue]
    acts: bool
    timeout_s: float


def _json_text(option: str, text: str) -> JsonValue:
    """The JSON value in an option; ``@file`` reads it from a file."""
    try:
        source = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option}: {text[1:]} can't be read: {error}") from None
    try:
        value: JsonValue = json.loads(source)
    except ValueError as error:
        raise UsageError(
            f"{option}: {text!r} is no JSON ({error}); a text is written with its quotes, as in {option} '\"Tier1\"'"
        ) from None
    return value


def _given(options: argparse.Namespace, *names: str) -> dict[str, JsonValue]:
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _question(op: str, args: Mapping[str, JsonValue] | None = None) -> Request:
    return Request(op, dict(args or {}), acts=False, timeout_s=READ_TIMEOUT_S)


def _action(options: argparse.Namespace, op: str, args: Mapping[str, JsonValue], wait_s: float = 0.0) -> Request:
    return Request(op, {**args, "actor": options.actor or login_user()}, acts=True, timeout_s=ACT_TIMEOUT_S + wait_s)


def login_user() -> str:
    """Who logged in: the user before sudo, else the owner of this process."""
    import os
    import pwd

    uid = os.getuid()
    before_sudo = os.environ.get("SUDO_USER", "")
    if uid == 0 and before_sudo:
        return before_sudo
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _status(options: argparse.Namespace) -> Request:
    return _question("status")


def _timers(options: argparse.Namespace) -> Request:
    return _question("timers", _given(options, "limit"))


def _instances_list(options: argparse.Namespace) -> Request:
    return _question("instances.list", _given(options, "status", "name", "prefix", "since", "until", "limit", "after"))


def _instances_show(options: argparse.Namespace) -> Request:
    if options.timeline:
        return _question("instances.timeline", {"instance": options.instance, "exact": options.json})
    return _question("instances.show", {"instance": options.instance, "history": options.history})


def _instances_start(options: argparse.Namespace) -> Request:
    args: dict[str, JsonValue] = {"name": options.name, **_given(options, "instance", "version")}
    if options.input is not None:
        args["input"] = _json_text("--input", options.input)
    return _action(options, "instances.start", args)


def _instances_raise(options: argparse.Namespace) -> Request:
    args: dict[str, JsonValue] = {"instance": options.instance, "event": options.event}
    if options.data is not None:
        args["data"] = _json_text("--data", options.data)
    return _action(options, "instances.raise", args)


def _instances_act(options: argparse.Namespace) -> Request:
    return _action(options, f"instances.{options.command2}", {"instance": options.instance, "reason": options.reason})


def _instances_restart(options: argparse.Namespace) -> Request:
    args: dict[str, JsonValue] = {"instance": options.instance, "reason": options.reason, "same_id": options.same_id}
    return _action(options, "instances.restart", args)


def _instances_purge(options: argparse.Namespace) -> Request:
    if (options.instance is None) == (options.since is None):
        raise UsageError("purge needs an ID, or --since TIME for all that were created since then (and not both)")
    args = _given(options, "instance", "since", "until", "status")
    return _action(options, "instances.purge", {**args, "reason": options.reason})


def _entities_list(options: argparse.Namespace) -> Request:
    return _question("entities.list", {**_given(options, "name", "since", "until", "limit", "after")})


def _entities_show(options: argparse.Namespace) -> Request:
    return _question("entities.show", {"entity": options.entity})


def _entities_clean(options: argparse.Namespace) -> Request:
    return _action(options, "entities.clean", {"reason": options.reason})


def _breakers_list(options: argparse.Namespace) -> Request:
    return _question("breakers.list", _given(options, "position", "tier", "outcome", "prefix", "limit", "after"))


def _breakers_show(options: argparse.Namespace) -> Request:
    return _question("breakers.show", {"feeder": options.feeder})


def _breakers_act(options: argparse.Namespace) -> Request:
    args: dict[str, JsonValue] = {"feeder": options.feeder, "reason": options.reason, "wait_s": options.wait}
    if getattr(options, "force", False):
        args["force"] = True
    return _action(options, f"breakers.{options.command2}", args, options.wait)


def _why(options: argparse.Namespace) -> Request:
    return _question("why", {"feeder": options.feeder})


def _override(options: argparse.Namespace) -> Request:
    if options.decision.startswith("force-") and options.feeder is None:
        raise UsageError(f"{options.decision} needs a breaker: add --feeder NAME")
    args: dict[str, JsonValue] = {"decision": options.decision, "reason": options.reason}
    args |= _given(options, "instance", "feeder")
    if options.expires is not None:
        args["expires_s"] = options.expires
    return _action(options, "override", args)


def _mode(options: argparse.Namespace) -> Request:
    return _action(options, "mode", {"mode": options.mode, "reason": options.reason})


def _release(options: argparse.Namespace) -> Request:
    return _action(options, "release", {"reason": options.reason})


def _report(options: argparse.Namespace) -> Request:
    return _question("report")


def _audit_list(options: argparse.Namespace) -> Request:
    return _question("audit.list", audit.arguments(options))


def _audit_verify(options: argparse.Namespace) -> Request:
    # The whole chain is read: minutes on a journal of years.
    return Request("audit.verify", {}, acts=False, timeout_s=600.0)


def _journal_stats(options: argparse.Namespace) -> Request:
    return _question("journal.stats")


def _journal_act(options: argparse.Namespace) -> Request:
    return _action(options, f"journal.{options.command2}", journal.arguments(options), journal.LONG_S)


BUILDERS: dict[str, Callable[[argparse.Namespace], Request]] = {
    "status": _status,
    "timers": _timers,
    "instances list": _instances_list,
    "instances show": _instances_show,
    "instances start": _instances_start,
    "instances raise": _instances_raise,
    "instances terminate": _instances_act,
    "instances suspend": _instances_act,
    "instances resume": _instances_act,
    "instances rewind": _instances_act,
    "instances restart": _instances_restart,
    "instances purge": _instances_purge,
    "entities list": _entities_list,
    "entities show": _entities_show,
    "entities clean": _entities_clean,
    "breakers list": _breakers_list,
    "breakers show": _breakers_show,
    "breakers open": _breakers_act,
    "breakers close": _breakers_act,
    "breakers block": _breakers_act,
    "breakers unblock": _breakers_act,
    "why": _why,
    "override": _override,
    "mode": _mode,
    "release": _release,
    "report": _report,
    "audit list": _audit_list,
    "audit verify": _audit_verify,
    "journal stats": _journal_stats,
    "journal check": _journal_act,
    "journal backup": _journal_act,
    "journal archive": _journal_act,
}
"""Command (with its second word, if it has one) → its request."""
