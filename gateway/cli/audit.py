"""``gridlatch audit list``: its grammar, its request, and the daemon's answer with one line for each record.

What must stay true: nothing that somebody called themselves or wrote can pass for another column, line or person: names
that are not plain words stand in quotation marks, and what can't be printed is escaped. Pure.
"""

from __future__ import annotations

import argparse
import json
import re

from gateway.cli.fields import MISSING, Fields, moment_us, table
from gateway.control_client import JsonValue

SHOWN = {"op", "event", "pid", "actor", "peer", "object", "inputs", "reason", "refused", "detail"}
SHOWN |= {"status", "message", "outputs"}
"""What of a record has its place in the line; all else stands behind the operation."""
ARGUMENTS_WIDTH = 160
SHORT = 8
"""Characters of a session and of a thumbprint."""
_WORD = re.compile(r"[A-Za-z0-9_.@:\[\]-]+")


def add_list(listing: argparse.ArgumentParser) -> None:
    """The options of ``audit list`` beside those of every list."""
    listing.add_argument("--user", metavar="NAME", help="only of this user, or of who gave this name")
    listing.add_argument("--op", metavar="PREFIX", help="only operations that begin so, as in --op opcua.login")
    listing.add_argument("--refused", action="store_true", help="only what was refused, turned away, or failed")
    listing.add_argument("--before", metavar="SEQ", type=_seq, help="go on before this record")


def arguments(options: argparse.Namespace) -> dict[str, JsonValue]:
    """The arguments of the request."""
    names = ("since", "until", "user", "op", "before", "limit")
    args = {name: value for name in names if (value := getattr(options, name)) is not None}
    return {**args, "refused": True} if options.refused else args


def _seq(value: str) -> int:
    if not value.isascii() or not value.isdecimal() or not 1 <= int(value) < 2**63:
        raise argparse.ArgumentTypeError(f"{value!r} is no number of a record")
    return int(value)


def audit_lines(result: Fields) -> list[str]:
    """The newest first, and how to go on."""
    rows = [_row(one) for one in result.parts("records")]
    lines = table(("SEQ", "TIME", "WHO", "FROM", "WHAT"), rows, right=("SEQ",)) if rows else ["No record fits so far."]
    before = result.number("next")
    if before is None:
        lines = lines if rows else ["No record fits."]
        older = result.raw("archived_in")
        return [*lines, "", f"Older records are archived in {result.text('archived_in')}."] if older else lines
    return [*lines, "", f"There may be more: --before {before:.0f}"]


def _row(one: Fields) -> tuple[str, str, str, str, str]:
    told = one.part("told")
    peer = told.part("peer")
    who = "gateway" if one.raw("kind") == "gateway" else _who(told, peer)
    # What became of it comes last: it is a free text, behind which nothing can be forged.
    reason = f"because {quoted(told.raw('reason'))}" if told.raw("reason") else ""
    says = [_what(one, told), reason, _outcome(one, told)]
    return (one.text("seq"), moment_us(one.raw("time_us")), who, _origin(told, peer), "; ".join(filter(None, says)))


def _who(told: Fields, peer: Fields) -> str:
    """Who was let in, the name that they gave where it is another one, and in which role."""
    actor, user = str(told.raw("actor") or ""), str(peer.raw("user") or "")
    given = actor.removesuffix(f" ({user})")
    words = name(user or actor) + (f" as {name(given)}" if user and given not in ("", user) else "")
    one_role = peer.raw("role")
    roles = [one_role] if one_role else _list(peer.raw("roles"))
    return words + (f" ({', '.join(name(role) for role in roles)})" if roles else "")


def _list(value: JsonValue) -> list[JsonValue]:
    return list(value) if isinstance(value, list) else []


def _origin(told: Fields, peer: Fields) -> str:
    """By which way: a session with its certificate and address, or a process on the machine."""
    if peer.raw("via"):
        words = [name(peer.raw("via")), name(peer.raw("address"))]
        words += [
            f"{key[:4]} {name(str(peer.raw(key))[:SHORT])}" for key in ("session", "certificate") if peer.raw(key)
        ]
        return " ".join(words)
    if peer.raw("pid"):
        return f"socket pid {name(peer.raw('pid'))}"
    if told.raw("address"):
        return name(told.raw("address"))
    return f"pid {name(told.raw('pid'))}" if told.raw("pid") else "-"


def _what(one: Fields, told: Fields) -> str:
    """The operation with its object and arguments."""
    op = f"gateway.{told.text('event')}" if one.raw("kind") == "gateway" else told.raw("op")
    inputs = told.part("inputs")
    given = {key: told.raw(key) for key in told if key not in SHOWN}
    given |= {key: inputs.raw(key) for key in inputs if key not in ("Reason", "Comment")}
    words = " ".join(f"{name(key)}={name(value)}" for key, value in given.items() if value not in (None, "", []))
    if len(words) > ARGUMENTS_WIDTH:
        words = f"{words[:ARGUMENTS_WIDTH]}… (--json tells all)"
    subject = name(told.raw("object")) if told.raw("object") else ""
    return " ".join(filter(None, (name(op), subject, words)))


def _outcome(one: Fields, told: Fields) -> str:
    """What became of it, as far as this record knows; what is asked is recorded ahead of what comes of it."""
    if told.raw("refused"):
        return f"REFUSED: {escaped(told.raw('refused'))}"
    if told.raw("status"):
        status = "ok" if told.raw("status") == "ok" else str(told.raw("status")).upper()
        return escaped(f"{status}: {told.raw('message')}" if told.raw("message") else status)
    if told.raw("detail"):
        return ("REFUSED: " if one.flag("refused") else "") + escaped(told.raw("detail"))
    if one.flag("refused"):
        return "REFUSED"
    return "asked" if told.part("peer").raw("pid") or told.part("peer").raw("role") else ""


def name(value: JsonValue) -> str:
    """A name or value as it is if it is one plain word; else in quotation marks."""
    if value is None or value == "":
        return "-"
    if isinstance(value, dict | list | bool):
        return escaped(json.dumps(value, ensure_ascii=False))
    text = str(value)
    return text if _WORD.fullmatch(text) and text not in ("-", MISSING) else quoted(text)


def quoted(value: JsonValue) -> str:
    """A text in quotation marks, with nothing in it that could end them."""
    return '"' + escaped(str(value).replace("\\", "\\\\").replace('"', '\\"')) + '"'


def escaped(value: JsonValue) -> str:
    """A text whose characters that can't be printed are told by their numbers, as in ``\\x1b``."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
