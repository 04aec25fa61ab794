"""``gridlatch journal``: its grammar, its requests, and what a person reads of the answers. Pure.

``stats``, ``check``, ``backup`` and ``archive`` ask the daemon; the first three work on the file itself where no daemon
runs. ``restore``, ``compact`` and ``accept-loss`` are for a journal that no daemon owns, and refuse where one does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gateway.cli.fields import Fields, count, moment
from gateway.control_client import JsonValue

if TYPE_CHECKING:
    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

OFFLINE = frozenset({"restore", "compact", "accept-loss"})
WITHOUT_DAEMON = frozenset({"journal stats", "journal check", "journal backup"})
LONG_S = 540.0
"""How long a journal of years may take beyond an ordinary action, real seconds."""
MB = 1024 * 1024
OF_ARCHIVE = "archive "
"""Complaints about an archive begin so."""
_DESCRIPTION = """\
The journal is what the gateway knows: keep backups of it on another machine, with the site's folder (certificates
and users too) and with the archives. A backup is a whole journal: restore puts it where a daemon will open it.
What is archived can be checked for ever, by itself and in a row with the journal (audit verify)."""


def add_journal(
    commands: Subparsers,
    ask: Sequence[argparse.ArgumentParser],
    act: Sequence[argparse.ArgumentParser],
    text: Callable[[str], str],
    default_site: str,
) -> None:
    """``gridlatch journal ...``. ask, act: options of what asks the daemon; text: a text that says something."""
    words = "the journal's file: stats, check, backup, archive, restore, compact, accept-loss"
    group = commands.add_parser("journal", help=words, description=_DESCRIPTION)
    parsers = group.add_subparsers(dest="command2", metavar="COMMAND", required=True)
    parsers.add_parser("stats", parents=ask, help="size, archives, disk, last check, backup and signed head")
    parsers.add_parser("check", parents=act, help="check the whole file and its hash chain, beside the running daemon")
    backup = parsers.add_parser("backup", parents=act, help="a whole copy, checked, while the daemon goes on")
    where = "a new file, or a folder for one; the daemon writes it (the folder 'backups' beside the journal)"
    backup.add_argument("target", metavar="TARGET", nargs="?", help=where)
    archive = parsers.add_parser("archive", parents=act, help="move old records to a file that can be verified alone")
    archive.add_argument("--before", metavar="DATE", help="those before this day or moment, as 2026-01-14 (keep_days)")
    offline = argparse.ArgumentParser(add_help=False)
    offline.add_argument("--site", metavar="DIR", help=f"the site's folder ($GRIDLATCH_SITE, else {default_site})")
    offline.add_argument("--json", action="store_true", help="print the exact result as JSON")
    offline.add_argument("--actor", metavar="NAME", type=text, help="who decides this (the login user)")
    restore = parsers.add_parser("restore", parents=[offline], help="put a backup where the site has no journal")
    restore.add_argument("backup", metavar="BACKUP", help="a file that 'journal backup' made")
    parsers.add_parser("compact", parents=[offline], help="give back the room that archived records have left")
    loss = parsers.add_parser(
        "accept-loss", parents=[offline], help="go on from a journal whose end is lost: a person decides, and says why"
    )
    loss.add_argument("--reason", metavar="TEXT", required=True, type=text, help="why; it stands in the record")


def arguments(options: argparse.Namespace) -> dict[str, JsonValue]:
    """The arguments of a request."""
    args: dict[str, JsonValue] = {}
    if options.command2 == "backup" and options.target is not None:
        target = Path(options.target).absolute()
        args["target"] = str(target)
        with suppress(OSError):  # what the caller may not see, the daemon may see all the same
            found = (target if target.is_dir() else target.parent).stat()
            args |= {"device": found.st_dev, "inode": found.st_ino}
    if options.command2 == "archive" and options.before is not None:
        args["before"] = options.before
    return args


def stats_lines(result: Fields) -> list[str]:
    """All figures; what is wrong comes first."""
    archived, disk, last = result.part("archived"), result.part("disk"), result.part("last")
    lines = [f"! {one}" for one in result.texts("troubles")]
    lines += [""] if lines else []
    lines += [
        _row("Journal", result.text("path")),
        _row(
            "Head",
            f"batch {count(result.number('batch'))}, {count(result.number('seq'))} records, {result.text('hash')}",
        ),
        _row("Size", _sizes(result)),
        _row("Mark", _mark(result)),
        _row("Archived", _archived(archived)),
    ]
    if disk:
        lines.append(_row("Disk", disk.text("sentence")))
    if last:
        lines.append(_row("Check", _check(last.part("check"))))
        lines += [_row(work.capitalize(), _file(last.part(work))) for work in ("backup", "archive") if last.part(work)]
    commits = result.part("commits")
    if commits:
        figures = f"{count(commits.number('batches'))} since the start, with {count(commits.number('records'))} records"
        times = f"last {commits.text('last_ms')} ms, longest {commits.text('longest_ms')} ms"
        lines.append(_row("Commits", f"{figures}; {times}"))
    head = result.part("signed_head")
    if head:
        lines += [_row("Signed", moment(head.text("at"))), head.text("signed")]
    if result.raw("at_work"):
        lines.append(_row("Now", f"it is being {result.text('at_work')}"))
    return lines


def not_compared(result: Fields) -> list[str]:
    """A line on the records that nothing in the journal could be held against, where there are any."""
    number = result.number("not_compared")
    if not number:
        return []
    return [
        f"Not compared: {count(number)} records that are about to be removed, as they are in an archive. "
        "Check again once the removal is done (gridlatch journal stats), and the archive."
    ]


def check_lines(result: Fields) -> list[str]:
    """Sound, or what is wrong and what to do."""
    size = f"{count(result.number('batches'))} batches, {count(result.number('records'))} records"
    if result.flag("ok"):
        lines = [f"The journal is sound: {size}, checked in {result.text('seconds')} s."]
        if checked := result.number("archives"):
            lines.append(f"So are the {count(checked)} archives in their folder.")
        if elsewhere := result.number("archives_elsewhere"):
            lines.append(
                f"{count(elsewhere)} archives lie elsewhere: check them there (gridlatch audit verify FILE...)."
            )
        return lines + not_compared(result)
    complaints = [f"  {one}" for one in result.texts("complaints")]
    if all(one.startswith(f"  {OF_ARCHIVE}") for one in complaints):
        told = f"The journal is sound ({size}), BUT NOT ITS ARCHIVES:"
        return [told, *complaints, "Put back copies of them that were kept elsewhere."]
    return [
        f"THE JOURNAL IS DAMAGED ({size} read):",
        *complaints,
        "Stop the daemon, and keep all files of this journal (journal.db, -wal, -shm, .mark) aside; then restore a backup:",
        "  cd STATE_DIR && mkdir old && mv journal.db* old/",
        "  gridlatch journal restore BACKUP",
    ]


def backup_lines(result: Fields) -> list[str]:
    """Where it is, and what to keep with it."""
    return [
        f"The backup is in {result.text('file')}: {_mb(result.number('bytes'))}, checked, "
        f"up to batch {count(result.number('batch'))} ({result.text('hash')[:16]}).",
        "Keep it on another machine, with the site's folder, its certificates and users, and the archives.",
    ]


def archive_lines(result: Fields) -> list[str]:
    """What went where."""
    files = result.parts("files")
    if not files:
        return [
            f"Nothing was to be archived: there is nothing from before {moment(result.text('before'))} in the journal."
        ]
    lines = []
    for one in files:
        kept = one.number("kept")
        stays = f"; {count(kept)} records stay in the journal, too, for what lives" if kept else ""
        what = f"{count(one.number('records'))} records (batches {one.text('first_batch')} to {one.text('last_batch')})"
        lines += [f"Archived {what} to {one.text('file')}{stays}.", f"  SHA-256 {one.text('sha256')}"]
    return [*lines, "Archives are never deleted by the gateway. Move them where you keep evidence."]


def restored_lines(result: Fields) -> list[str]:
    """What is there now, and what comes next."""
    return [
        f"Restored {result.text('target')} from {result.text('backup')}: it ends at batch {count(result.number('batch'))}.",
        "What happened after the backup is not in it. Start the daemon: it reads every breaker before anything moves.",
    ]


def compacted_lines(result: Fields) -> list[str]:
    """What was gained."""
    return [
        f"{result.text('path')}: {_mb(result.number('bytes_before'))} before, {_mb(result.number('bytes_after'))} now."
    ]


def loss_lines(result: Fields) -> list[str]:
    """What was given up."""
    if not result.flag("accepted"):
        return ["Nothing is missing: the daemon can be started as it is. Nothing was changed."]
    lines = [f"Accepted: the journal {result.text('what')}."]
    if result.raw("kept_wal"):
        lines.append(f"A copy of the write-ahead log is kept in {result.text('kept_wal')}.")
    return [*lines, "The next start records who accepted it, reads every breaker, and goes on from what is there."]


def _row(label: str, text: str) -> str:
    return f"{label:<10}{text}"


def _sizes(result: Fields) -> str:
    wal = f"write-ahead log {_mb(result.number('wal_bytes'))}"
    return f"{_mb(result.number('file_bytes'))}, of which {_mb(result.number('free_bytes'))} are free again; {wal}"


def _mark(result: Fields) -> str:
    mark = result.part("mark")
    if mark.raw("alarm"):
        return f"DOES NOT FOLLOW: {mark.text('alarm')}"
    if mark.raw("found") in ("none", "unreadable") and not mark.number("batch"):
        which = "there is none" if mark.raw("found") == "none" else "it is unreadable"
        return f"{which}, so whether the end is whole can't be seen (the next start tells it, and makes a new one)"
    behind = (result.number("batch") or 0) - (mark.number("batch") or 0)
    found = {"held": "", "none": ", there was none at the start", "unreadable": ", it was unreadable at the start"}
    where = "names the head" if not behind else f"names batch {mark.text('batch')}"
    return where + found.get(mark.text("found"), "")


def _archived(archived: Fields) -> str:
    batches = archived.number("batches")
    done = f"{count(archived.number('records'))} records in {count(batches)} batches" if batches else "nothing"
    days = archived.number("keep_days")
    if days is None:
        return f"{done} so far"
    rule = f"what is older than {count(days)} days goes" if days else "only when asked for (keep_days = 0)"
    return f"{done} so far; {rule} to {archived.text('folder')}"


def _check(last: Fields) -> str:
    if not last:
        return "none among the newest records"
    found = "sound" if last.flag("ok") else "DAMAGED"
    return f"{moment(last.text('at'))}: {found}, took {last.text('seconds')} s"


def _file(last: Fields) -> str:
    return f"{moment(last.text('at'))}: {last.text('file')}"


def _mb(size: float | None) -> str:
    if size is None:
        return "?"
    if size < MB:
        return count(size / 1024, "kB")
    return f"{size / MB:.1f} MB" if size < 10 * MB else count(size / MB, "MB")
