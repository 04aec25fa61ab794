"""``audit verify FILE…``: journals, archives and exports, each by itself, and each held against the others.

A journal is read from its first batch on; archives are held against each other in their order, and against the journal
that names them; an export by its seal, and its head against the journal or archive of the same identity that is given with
it. A head that was kept elsewhere must be in the chain of one of them. The mark is that beside the journal itself, also
where a link leads to it. What must stay true: what could not be compared is said (``unchecked``), it never counts as good;
texts out of the files are told as printable ones. Only reads; a crash here changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.clock import iso
from gateway.device_key import RECORDED_AS, key_told
from gateway.evidence.entry import visible
from gateway.evidence.errors import CantCheck, NotSealed
from gateway.evidence.formats import CLOSINGS
from gateway.evidence.reading import GZIP, SQLITE, KeptHead, first_bytes
from gateway.evidence.seal import SealedFile, check_export
from journal import (
    Archived,
    ArchiveResult,
    JournalCorrupt,
    JournalError,
    JournalFile,
    JournalNotFound,
    JournalReadError,
    verify_archive,
    verify_file,
)
from journal.chain import genesis
from journal.mark import MarkFound, mark_path, read_mark
from journal.rows import RecordTuple


@dataclass(slots=True)
class Finding:
    """What was found of one file, as sentences. ok: nothing that contradicts. holds: it holds the head that was given.
    unchecked: what could not be compared, hence may be wrong all the same."""

    file: Path
    kind: str
    ok: bool
    says: list[str]
    unchecked: list[str] = field(default_factory=list)
    journal: str = ""
    batch: int = 0
    hash_hex: str = ""
    records: int = 0
    holds: bool = False
    details: dict[str, object] = field(default_factory=dict)


def verify(files: Sequence[Path], head: KeptHead | None, key: Ed25519PublicKey | None) -> list[Finding]:
    """Check files in any order; findings in the order archives, journals, exports. Errors: CantCheck."""
    kinds = [(_kind(file), file) for file in files]
    sealed = [_export(file, key) for kind, file in kinds if kind == "export"]
    heads = [] if head is None else [head]
    heads += [KeptHead(told.batch, told.hash_hex, told.journal, f"{one.file.name}'s") for one, told in sealed if told]
    archives = _archives([file for kind, file in kinds if kind == "archive"], heads)
    journals = [_journal(file, heads, archives) for kind, file in kinds if kind == "journal"]
    chains = [*(finding for finding, _ in archives), *journals]
    for finding, told in sealed:
        if told is None:
            continue
        if head is not None:
            _compare(finding, head)
        if chains and all(chain.journal != told.journal for chain in chains):
            finding.unchecked.append("it comes from another journal than those that were given")
    return [*chains, *(finding for finding, _ in sealed)]


def _kind(file: Path) -> str:
    try:
        start = first_bytes(file)
    except OSError as error:
        raise CantCheck(f"{file} can't be read: {error.strerror}") from error
    if start.startswith(GZIP):
        return "archive"
    return "journal" if start.startswith(SQLITE) else "export"


def _export(file: Path, key: Ed25519PublicKey | None) -> tuple[Finding, SealedFile | None]:
    try:
        told = check_export(file, CLOSINGS, key)
    except OSError as error:
        raise CantCheck(f"{file} can't be read: {error.strerror}") from error
    except NotSealed as error:
        return Finding(file, "export", False, [str(error)]), None
    says = [f"{told.format}, {told.entries} entries, records {told.first} to {told.last}, exported {told.exported}"]
    asked = ", ".join(f"{name} {_words(value)}" for name, value in told.filter.items())
    says.append(f"only: {asked}" if asked else "everything that was there: nothing was left out by a filter")
    if told.archived_to:
        says.append(f"records up to {told.archived_to} had been archived before: only few of them are in it")
    unchecked = []
    if not told.signed_by:
        unchecked.append("who made it: it is not signed, and who changes it can make a new seal")
    elif key is None:
        unchecked.append(f"whose key {told.signed_by} is, by which it is signed (--key FILE)")
    else:
        says.append(f"signed by key {told.signed_by}, the one that was given")
    details: dict[str, object] = {"format": told.format, "filter": dict(told.filter), "signed_by": told.signed_by}
    finding = Finding(file, "export", True, says, unchecked, told.journal, told.batch, told.hash_hex, told.entries)
    if not told.batch and told.hash_hex != genesis(bytes.fromhex(told.journal)).hex():
        finding.ok = False
        says.append("its head is that of no journal: an empty one begins with another hash")
    finding.details = {**details, "exported": told.exported, "archived_to": told.archived_to}
    return finding, told


def _archives(files: Sequence[Path], heads: Sequence[KeptHead]) -> list[tuple[Finding, ArchiveResult | None]]:
    found: list[tuple[Finding, ArchiveResult | None]] = []
    results: list[ArchiveResult] = []
    for file in files:
        try:
            results.append(verify_archive(file))
        except JournalError as error:
            found.append((Finding(file, "archive", False, [visible(str(error))]), None))
        except OSError as error:
            raise CantCheck(f"{file} can't be read: {error.strerror}") from error
    results.sort(key=lambda one: (one.identity, one.first_batch))
    before: ArchiveResult | None = None
    for result in results:
        found.append((_archive(result, before, heads), result))
        before = result
    return found


def _archive(result: ArchiveResult, before: ArchiveResult | None, heads: Sequence[KeptHead]) -> Finding:
    says = [f"batches {result.first_batch} to {result.head.batch}, {result.records} records"]
    unchecked: list[str] = []
    ok = result.ok
    if result.reason is not None:
        says.append(visible(result.reason))
    if before is not None and before.identity == result.identity and ok:
        if before.head.batch + 1 == result.first_batch:
            again = verify_archive(result.file, before)
            ok = again.ok
            says.append(again.reason or f"continues {before.file.name}")
        else:
            unchecked.append(f"does not follow {before.file.name}: what lies between was not given")
    finding = Finding(
        result.file, "archive", ok, says, unchecked, result.identity, result.head.batch, result.head.hash_hex
    )
    finding.records = result.records
    for head in heads:
        if head.may_be_of(result.identity) and result.first_batch <= head.batch <= result.head.batch and ok:
            told = verify_archive(result.file, None, head.as_head())
            _note(finding, head, told.ok, told.reason)
    return finding


def _journal(
    file: Path, heads: Sequence[KeptHead], archives: Sequence[tuple[Finding, ArchiveResult | None]]
) -> Finding:
    state, marked = MarkFound.UNREADABLE, None
    with suppress(JournalReadError):  # told as a mark that could not be compared
        state, marked = read_mark(file.resolve())  # first: what is committed from here on may be more, never less
    try:
        result = verify_file(file)
    except (JournalNotFound, JournalCorrupt) as error:
        return Finding(file, "journal", False, [visible(str(error))])
    except (JournalError, OSError) as error:
        raise CantCheck(str(error)) from error
    says = [f"{result.batches} batches, {result.records} records"]
    finding = Finding(file, "journal", result.ok, says, [], "", result.head.batch, result.head.hash_hex, result.records)
    if not result.ok:
        says.append(f"batch {result.first_bad_batch}: {visible(str(result.reason))}")
        return finding
    if result.not_compared:
        finding.unchecked.append(
            f"{result.not_compared} records are about to be removed, as they are in an archive; nothing here tells whether "
            "they are as written: verify again once the removal is done (gridlatch journal stats), and the archive"
        )
    known: Sequence[Archived] = ()
    try:
        with JournalFile.open(file) as opened:
            known, finding.journal = opened.archives(), opened.identity().hex()
            keys = opened.latest(RECORDED_AS)
    except JournalError as error:
        finding.unchecked.append(f"its archives and keys could not be read: {visible(str(error))}")
    else:
        _tell_keys(finding, keys)
    _hold_archives(finding, known, archives)
    if marked is not None:
        own = KeptHead(marked.head.batch, marked.head.hash_hex, marked.identity.hex(), "the mark's")
        if not own.may_be_of(finding.journal):
            finding.ok = False
            says.append("the mark beside it is that of another journal")
        heads = [*heads, own]
    cut = known[-1].last_batch if known else 0
    for head in heads:
        if not head.may_be_of(finding.journal):
            continue
        if not head.batch:
            _hold_nothing(finding, head)
        elif head.batch < cut:
            finding.unchecked.append(
                f"{head.whose} batch {head.batch} is archived: it is in {_holding(known, head.batch)}"
            )
        else:
            told = verify_file(file, from_batch=max(head.batch, 1), expect=head.as_head())
            _note(finding, head, told.ok, told.reason)
    if marked is None and not finding.holds:
        _tell_no_mark(finding, state, mark_path(file.resolve()))
    return finding


def _tell_no_mark(finding: Finding, state: MarkFound, mark: Path) -> None:
    """Only a mark, or a head that was kept elsewhere, shows that the last batches were cut off."""
    why = "there is no mark" if state is MarkFound.NONE else "the mark is damaged, or can't be read"
    finding.unchecked.append(
        f"whether its last batches were cut off: {why} ({mark.name} beside it); a head that was kept elsewhere (--head) "
        "would show it"
    )


def _hold_nothing(finding: Finding, head: KeptHead) -> None:
    """Batch 0 stands for an empty journal, whose hash is made of its identity alone: any other is no head."""
    begins = finding.journal and genesis(bytes.fromhex(finding.journal)).hex()
    if head.hash_hex == begins:
        finding.says.append(f"begins as {head.whose} head of an empty journal says")
        finding.holds = finding.holds or not head.journal
    else:
        finding.ok = False
        finding.says.append(f"{head.whose} batch 0 is not how it begins")


def _tell_keys(finding: Finding, records: Sequence[RecordTuple]) -> None:
    """Which key signed heads and exports, since which record: by the journal's own word. Oldest first."""
    keys = [
        {"key": key_told(payload), "before": key_told(payload, "before"), "since": seq, "time": iso(time_us)}
        for seq, _, _, time_us, payload in reversed(records)
    ]
    for one in keys:
        words = f"key {visible(str(one['key']))} signs since record {one['since']}, {one['time']}"
        before = (
            f"; A CHANGED KEY, before it was {visible(str(one['before']))}: was that meant?" if one["before"] else ""
        )
        finding.says.append(words + before)
    if keys:
        finding.details["keys"] = keys


def _note(finding: Finding, head: KeptHead, ok: bool, reason: str | None) -> None:
    """What a chain says of a head that was kept elsewhere."""
    finding.ok = finding.ok and ok
    finding.holds = finding.holds or (ok and not head.journal)
    finding.says.append(
        f"holds {head.whose} batch {head.batch}" if ok else f"{head.whose} batch {head.batch}: {visible(str(reason))}"
    )


def _hold_archives(
    finding: Finding, known: Sequence[Archived], archives: Sequence[tuple[Finding, ArchiveResult | None]]
) -> None:
    """Archives that were given must be those that the journal names; which of them were not given is said."""
    given = {result.file_sha256: result for _, result in archives if result is not None}
    missing = [one.file for one in known if one.file_sha256 not in given]
    named = {one.file_sha256 for one in known}
    for digest, result in given.items():
        if result.identity == finding.journal and digest not in named:
            finding.ok = False
            finding.says.append(f"{result.file.name} is not an archive that it names")
    if known and len(missing) < len(known):
        finding.says.append(
            f"{len(known) - len(missing)} of its {len(known)} archives were given, and are those it names"
        )
    if missing:
        words = f"{len(missing)} archives" if missing[1:] else "an archive"
        finding.unchecked.append(f"{words}, {missing[0]}{' …' if missing[1:] else ''}")


def _holding(known: Sequence[Archived], batch: int) -> str:
    return next((one.file for one in known if batch <= one.last_batch), "its archive")


def _compare(finding: Finding, head: KeptHead) -> None:
    """An export knows one head alone: that at its time; its identity says what an empty journal's would be."""
    if not finding.ok or finding.batch != head.batch:
        return
    if finding.hash_hex == head.hash_hex:
        finding.holds = True
        finding.says.append(f"was made at batch {head.batch} as it was seen")
    else:
        finding.ok = False
        finding.says.append(f"was made from another batch {head.batch} than was seen")


def _words(value: object) -> str:
    """A value of a filter as printable text."""
    return visible(", ".join(map(str, value)) if isinstance(value, list) else str(value))
