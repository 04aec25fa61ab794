"""A program: a journal whose Nth write, flush, truncation, … fails; then a life after it, a power cut, and the verdict.

    python -m crash.storage.faulty_lives FOLDER SEED MODE RUNS

Each run: a life, with an archiving in its middle, in which one call (or every one from it on) fails; a second life,
without faults, that goes on from what is there; then a judgement of what the files show, and of what a power cut after it
could leave, where whatever a failed flush covered may be gone for good. Prints one JSON line for each violation, and a
last one with the figures. RUNS: about so many, evenly strided; 0 for every N. MODE: "honest"; for the controls "early"
(acknowledges before it commits) and "lying" (flushes say that they were done, and were not).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import random
import shutil
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

from crash.storage.crash_states import Disk, State, lay_out, read_log
from crash.storage.given import Given
from crash.storage.judged import Found, judge, write_step
from crash.storage.preload import LIE, SHORT, Call, Preloaded

from journal import ArchiveFailed, Journal, JournalError, JournalWriteError

STEPS = 14
ERRORS = {
    Call.WRITE: (errno.EIO, errno.ENOSPC, SHORT),
    Call.FLUSH: (errno.EIO, errno.ENOSPC),
    Call.TRUNCATE: (errno.EIO,),
    Call.RENAME: (errno.EIO, errno.ENOSPC),
    Call.OPEN: (errno.EIO, errno.EMFILE, errno.ENOSPC),
    Call.REMOVE: (errno.EIO,),
}
POWER_CUTS = 2
"""States after each run that are judged, beside what the files show."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Which call fails, how, and whether all of its kind that follow do."""

    call: Call
    at: int
    error: int
    lasting: bool

    def __str__(self) -> str:
        how = {SHORT: "short", LIE: "not done"}.get(self.error) or errno.errorcode[self.error]
        return f"{self.call.name} {self.at} {how}{' from then on' if self.lasting else ''}"


def set_checkpoints(connection: sqlite3.Connection) -> None:
    """Often enough for some in each life."""
    connection.execute("PRAGMA wal_autocheckpoint = 14")


async def live(path: Path, given: Given, first: int, mode: str, preloaded: Preloaded) -> list[str]:
    """One life: open, write, close. Complaints about how it took its faults."""
    complaints: list[str] = []
    try:
        journal = await Journal.open(path)
    except JournalError:
        return []
    number = first
    try:
        await journal._write.run(set_checkpoints)
        while number < first + STEPS:
            if mode == "early":
                preloaded.acknowledge(number + 1)
            try:
                await write_step(journal, given, number)
            except JournalWriteError:
                complaints += await not_stopped(journal, given, number)
                break
            number += 1
            preloaded.acknowledge(number)
            if number == first + STEPS // 2:
                with contextlib.suppress(ArchiveFailed):  # the journal goes on without it
                    await journal.archive(given.moment(number - 2).last_time_us, path.parent)
    except (JournalError, sqlite3.Error):
        pass  # archiving, or the pragma of this test, which is not the journal's own call
    with contextlib.suppress(JournalError):
        await journal.close()
    return complaints


async def not_stopped(journal: Journal, given: Given, number: int) -> list[str]:
    """After a failed write all that follows must be refused."""
    try:
        await write_step(journal, given, number)
    except JournalWriteError:
        return []
    return [f"step {number} failed, and was accepted when it was given again"]


def in_a_process(
    folder: Path, log: Path, given: Given, first: int, mode: str, fault: Fault | None
) -> dict[str, object]:
    """Live in a process of its own, as a daemon would, with its end whatever is left open; its report."""
    report = log.with_suffix(".json")
    child = os.fork()
    if not child:
        status = 1
        try:
            preloaded = Preloaded()
            preloaded.watch(folder, log)
            if fault is not None:
                preloaded.fail(fault.call, fault.at, fault.error, lasting=fault.lasting)
            complaints: list[str] = []
            try:
                complaints = asyncio.run(
                    asyncio.wait_for(live(folder / "journal.db", given, first, mode, preloaded), 30)
                )
            except Exception as error:  # noqa: BLE001  whatever it was: no error of the journal's own family may pass
                complaints = [f"an error of no kind that is promised: {type(error).__name__}: {error}"]
            calls = {call.name: preloaded.calls(call) for call in Call}
            failed = preloaded.failed()
            preloaded.watch(None)
            report.write_text(json.dumps({"complaints": complaints, "calls": calls, "failed": failed}))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"a life with {fault} ended with {status}")
    return dict(json.loads(report.read_text()))


def run(
    folder: Path, given: Given, mode: str, fault: Fault | None, dice: random.Random
) -> tuple[dict[str, object], list[str]]:
    """One run: the first life's report, and all complaints."""
    live_in, cut_to, log = folder / "live", folder / "cut", folder / "log"
    for place in (live_in, cut_to):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    log.unlink(missing_ok=True)
    report = in_a_process(live_in, log, given, 0, mode, fault)
    complaints = list(report["complaints"])  # type: ignore[call-overload]
    disk, steps = after(log, live_in), None
    for what, state in (("power cut at once", disk.nothing_more()), ("reopened", live_copy(live_in))):
        found = asyncio.run(verdict(state, cut_to, given, disk.acknowledged))
        complaints += [f"{what}: {complaint}" for complaint in found.complaints]
        steps = found.steps
    if steps is None:
        return report, complaints
    second = in_a_process(live_in, log, given, steps, "honest", None)
    complaints += [f"in the life after: {complaint}" for complaint in second["complaints"]]  # type: ignore[attr-defined]
    disk = after(log, live_in)
    states = [live_copy(live_in), disk.nothing_more(), *(disk.any_state(dice) for _ in range(POWER_CUTS - 1))]
    for number, state in enumerate(states):
        what = f"power cut {number} after the next life" if number else "after the next life"
        found = asyncio.run(verdict(state, cut_to, given, disk.acknowledged))
        complaints += [f"{what}: {complaint}" for complaint in found.complaints]
    return report, complaints


def after(log: Path, folder: Path) -> Disk:
    """The disk after all that the log tells."""
    disk = Disk(folder)
    for entry in read_log(log):
        disk.take(entry)
    return disk


def live_copy(folder: Path) -> State:
    """What the files show."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith("-shm")}


async def verdict(state: State, folder: Path, given: Given, acknowledged: int) -> Found:
    """Lay it out and judge it."""
    lay_out(state, folder)
    return await judge(folder / "journal.db", given, acknowledged, 2 * STEPS, go_on=False)


def faults(calls: dict[str, int], runs: int, mode: str) -> list[Fault]:
    """Every Nth call of each kind with each error, alternately once and lasting; strided down to about ``runs``."""
    if mode == "lying":
        return [Fault(Call.FLUSH, at, LIE, lasting=True) for at in range(1, calls[Call.FLUSH.name] + 1)][:runs]
    every = [
        Fault(call, at, error, lasting=(at + number) % 2 == 0)
        for call, errors in ERRORS.items()
        for at in range(1, calls[call.name] + 1)
        for number, error in enumerate(errors)
    ]
    rare = [fault for fault in every if calls[fault.call.name] <= 8]
    common = [fault for fault in every if calls[fault.call.name] > 8]
    stride = max(1, len(common) // max(1, runs - len(rare))) if runs else 1
    return rare + common[::stride]


def main() -> None:
    """All runs."""
    folder, seed, mode, runs = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    given, dice = Given(seed, large=1_500), random.Random(seed)
    counted, complaints = run(folder, given, "honest", None, dice)
    if complaints:
        sys.exit(f"without any fault: {complaints}")
    tried = violations = happened = 0
    for fault in faults(counted["calls"], runs, mode):  # type: ignore[arg-type]
        report, complaints = run(folder, given, mode, fault, dice)
        tried += 1
        happened += bool(report["failed"])
        if complaints:
            violations += 1
            print(json.dumps({"fault": str(fault), "complaints": complaints}), flush=True)
    print(json.dumps({"tried": tried, "happened": happened, "violations": violations}))


if __name__ == "__main__":
    main()
