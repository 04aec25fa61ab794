"""What is wrong with the journal, its disk or its record-keeping, as sentences for people: pure.

The same troubles stand in ``status``, in the log and in the journal, and are alarms of the operators' OPC UA server. What
must stay true: a trouble has one key for as long as it lasts; another ``occurrence`` is another trouble, though the key is
the same; what is told of the journal is what it says of itself, never a guess. Nothing is kept here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.housekeeping_disk import MB, Pressure, Usage, advice
from gateway.housekeeping_seam import Stats

INTEGRITY = "JournalIntegrityAlarm"
MARK = "JournalMarkAlarm"
WAL = "JournalWalAlarm"
DISK = "DiskSpaceAlarm"
CARE = "JournalCareAlarm"
AUDIT = "AuditTroubleAlarm"
RESTORATION = "RestorationWaitsAlarm"
TYPES = (INTEGRITY, MARK, WAL, DISK, CARE, AUDIT, RESTORATION)
"""Types of alarms, as ``operator/event_types.py`` declares them."""
AFTER_DAMAGE = (
    "stop the daemon, move journal.db, -wal, -shm and .mark aside, and restore a backup (gridlatch journal restore)"
)
OF_ARCHIVE = "archive "
"""Complaints of a check about an archive begin so."""
SHOWN = 3
"""Complaints that are told in one sentence."""
_SEVERITY = {Pressure.WATCH: 500, Pressure.SHORT: 700, Pressure.FULL: 900}


class CareFailed(Exception):
    """Work on the journal was not done; the text says why. The journal is as it was."""


@dataclass(frozen=True, slots=True)
class CareTrouble:
    """One thing that a person should see to. severity: 0 for that of its type."""

    key: str
    type: str
    message: str
    occurrence: str = ""
    severity: int = 0


def of_journal(stats: Stats, opened_at: int) -> Iterator[CareTrouble]:
    """Its write-ahead log and its high-water mark. opened_at: the batch at which the start found it."""
    if stats.wal_alarm:
        size = f"the journal's write-ahead log has {stats.wal_bytes / MB:.0f} MB"
        yield CareTrouble("journal_wal", WAL, f"{size}: a reader that stays open keeps it from being folded in")
    if stats.mark_alarm:
        words = f"the journal's high-water mark does not follow: {stats.mark_alarm}; a lost tail would not be noticed"
        yield CareTrouble("journal_mark", MARK, words)
    unseen = (
        "at the start, so whether the journal's end is whole could not be seen; compare it with a head that was kept"
    )
    unseen += " elsewhere (gridlatch audit verify --head)"
    if stats.mark_found == "unreadable":
        yield CareTrouble("journal_mark_unreadable", MARK, f"the high-water mark was unreadable {unseen}")
    elif stats.mark_found == "none" and opened_at:
        words = f"there was no high-water mark (as after the upgrade to a version that keeps one) {unseen}"
        yield CareTrouble("journal_mark_missing", MARK, words, severity=400)


def of_checks(complaints: Sequence[str]) -> Iterator[CareTrouble]:
    """What the last check of the whole file found."""
    if complaints:
        told = "; ".join(complaints[:SHOWN])
        more = f" and {len(complaints) - SHOWN} more" if len(complaints) > SHOWN else ""
        words = f"the journal is damaged: {told}{more}; {AFTER_DAMAGE}"
        if all(one.startswith(OF_ARCHIVE) for one in complaints):
            words = (
                f"the journal is whole, but not its archives: {told}{more}; put back copies that were kept elsewhere"
            )
        yield CareTrouble("journal_integrity", INTEGRITY, words, told[:200])


def of_losses(losses: Sequence[str]) -> Iterator[CareTrouble]:
    """Losses that a person accepted before this start; each is told until the next start."""
    if losses:
        yield CareTrouble("journal_loss", INTEGRITY, "; ".join(losses[:SHOWN]), losses[-1][:200])


def of_disk(level: Pressure, usage: Usage | None, lost_samples: int) -> Iterator[CareTrouble]:
    """How full it is. lost_samples: of the trends, since the start."""
    if usage is not None and level is not Pressure.NONE:
        words = f"{usage.sentence()}: {advice(level, usage)}"
        yield CareTrouble("disk_space", DISK, words, level.name.lower(), _SEVERITY[level])
    if lost_samples:
        words = f"{lost_samples} samples of the trends could not be written since the start"
        yield CareTrouble("trend_lost", DISK, words, severity=400)


def of_work(failed: dict[str, str]) -> Iterator[CareTrouble]:
    """Work on the journal that failed, and why: it is tried again at its next time. What failed for one reason is one."""
    for why, work in {why: work for work, why in reversed(failed.items())}.items():
        yield CareTrouble(f"journal_{work.replace(' ', '_')}", CARE, f"care of the journal, {work}: {why}")


def of_audit(lost_lines: int, unrecorded: int, unsigned: str, other_key: str = "") -> Iterator[CareTrouble]:
    """Auditing itself. unrecorded: acts without a record. unsigned: why the head can't be signed. other_key: a sentence
    about a key that is not the one of the last start."""
    if unrecorded:
        yield CareTrouble("audit_unrecorded", AUDIT, f"{unrecorded} acts could not be recorded since the start")
    if unsigned:
        yield CareTrouble("audit_unsigned", AUDIT, f"the journal's head can't be signed: {unsigned}")
    if other_key:
        yield CareTrouble("audit_key", AUDIT, other_key)
    if lost_lines:
        yield CareTrouble("audit_log", AUDIT, f"{lost_lines} lines of the log could not be written", severity=600)
