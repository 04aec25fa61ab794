"""What commands do without a daemon: read recorded histories out of a journal (or a copy), and load the code of a site.

Beside the daemon the one file that opens a journal, and it only ever reads one: a daemon may be running on it or not.
What must stay true: an instance that can't be read is told as such, and does not hide the others. A crash here changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from config.models import Site
from gateway.durable import Registry
from gateway.durable.exported import RecordedHistory, recorded
from gateway.durable.instances import ORCHESTRATION, TERMINAL
from gateway.durable.store import InstanceRow
from gateway.programs import load_programs
from gateway.shedding.application import register_orchestrators
from journal import JournalCorrupt, JournalError, JournalFile

PAGE = 500


class OfflineError(Exception):
    """A journal can't be read; the text says which and why. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An instance of which there is a row, and no history that this version can read."""

    instance: str
    name: str
    status: str
    why: str


def code_of(site: Site | None, programs: Sequence[str]) -> Registry:
    """All orchestrators as they are now: the stock ones, those of the site, and these modules (or .py files).

    A module that is called like one of the site takes its place, as an upgrade would. Errors: ProgramError.
    """
    registry = Registry(on_finding=lambda _: None)  # that is what "lint" is for
    register_orchestrators(registry)
    load_programs(registry, tuple(programs), Path.cwd())  # first: what they import is found beside them
    if site is not None:
        given = {Path(name).name for name in programs}
        kept = tuple(name for name in site.gateway.programs if Path(name).name not in given)
        load_programs(registry, kept, site.path)
    return registry


def journal_of(site: Site) -> Path:
    """Where the journal of a site lies."""
    return site.gateway.state_dir / "journal.db"


def histories_of(
    journal: Path, *, instances: Sequence[str] = (), name: str | None = None, finished: bool = True
) -> Iterator[RecordedHistory | Unreadable]:
    """Orchestrations of a journal, in the order of their ids; finished: also those that have ended.

    instances: only these; one that is not there is left out. Errors: OfflineError.
    """
    try:
        with JournalFile.open(journal) as file:
            for instance in instances or _ids(file, name, finished):
                found = _read(file, instance)
                if found is not None and name in (None, found.name):
                    yield found
    except (JournalError, OSError) as error:
        raise OfflineError(str(error)) from error


def _ids(file: JournalFile, name: str | None, finished: bool) -> Iterator[str]:
    after: str | None = None
    while True:
        page = file.instances(kind=ORCHESTRATION, name=name, limit=PAGE, after=after)
        yield from (row[0] for row in page if finished or row[3] not in TERMINAL)
        if len(page) < PAGE:
            return
        after = page[-1][0]


def _read(file: JournalFile, instance: str) -> RecordedHistory | Unreadable | None:
    row = InstanceRow(instance, "", "", "", "", 0, 0, 0, b"")
    try:
        found = file.instance(instance)
        if found is None or found[0][1] != ORCHESTRATION:
            return None
        row = InstanceRow(*found[0])
        return recorded(row, found[1])
    except (JournalCorrupt, msgspec.MsgspecError) as error:
        return Unreadable(instance, row.name, row.status, str(error))
