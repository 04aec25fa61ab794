"""Damaged files: bits flipped in the write-ahead log and in the database, and the log cut off anywhere.

What is damaged is found at the start, or by the daily check (SQLite's integrity check, the chain from its first batch), or
it does no harm: the journal holds, in full, what it held. The database's own checks are no witness for its log: a damaged
frame drops everything after it in silence, and only the mark beside the journal shows that. That is the control here:
without the mark the same flips lose batches, and nobody says so.
"""

# The loop has nothing else to do here: blocking on files is harmless.
# ruff: noqa: ASYNC240

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from crash.figures import figure
from crash.storage.crash_states import State, lay_out
from crash.storage.given import Given
from crash.storage.judged import compare, read_all, write_step

from journal import Journal, JournalError

STEPS = 50
LARGE = 1_500
DB, WAL, MARK = "journal.db", "journal.db-wal", "journal.db.mark"
WAL_HEAD_BYTES, FRAME_HEAD_BYTES, PAGE_BYTES = 32, 24, 4096

AT_START, DAILY, HARMLESS, PREFIX = "refused at the start", "found by the daily check", "harmless", "a prefix"
UNSEEN, UNSEEN_ROW = "unseen", "unseen in a row of a projection"


async def lived(folder: Path, given: Given, steps: int, *, closed: bool, archive: bool = False) -> State:
    """What a journal leaves: while it is open (all in the log), or after it was closed (all in the database)."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    journal = await Journal.open(folder / DB)
    for number in range(steps):
        await write_step(journal, given, number)
    if archive:
        assert await journal.archive(given.moment(steps // 2).last_time_us, folder) is not None
    if closed:
        await journal.close()
    files = {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith(("-shm", ".lock"))}
    await journal.close()
    return files


async def outcome(state: State, folder: Path, given: Given, steps: int, *, go_on: bool = False) -> str:
    """What became of damaged files that held so many steps. Whatever is raised but the journal's own errors passes."""
    lay_out(state, folder)
    path = folder / DB
    try:
        journal = await Journal.open(path)
    except JournalError:
        return AT_START
    try:
        found = await compare(journal, given, steps, steps)
        if not found.complaints:
            return HARMLESS
        if (await journal.verify()).ok and not await journal.check():
            if not (await compare(journal, given, 0, steps)).complaints:
                return PREFIX
            held = (await read_all(journal)).records == given.records[: given.moment(steps).last_seq]
            return UNSEEN_ROW if held else UNSEEN
        return DAILY
    except JournalError:
        return AT_START
    finally:
        await journal.close()


def flipped(content: bytes, at: int, bit: int) -> bytes:
    """The same with one bit changed."""
    changed = bytearray(content)
    changed[at] ^= 1 << bit
    return bytes(changed)


async def flip(memory: Path, seed: int, name: str, flips: int | None) -> None:
    """Flip so many bits (None: one in every byte) of a file, and judge each time; then the control."""
    started, dice = time.perf_counter(), random.Random(seed)
    given, steps = Given(seed, large=LARGE), STEPS if flips else 12
    files = await lived(memory / "lived", given, steps, closed=name == DB, archive=name == DB)
    places = dice.choices(range(len(files[name])), k=flips) if flips else range(len(files[name]))
    (memory / "flipped").mkdir()
    seen: Counter[str] = Counter()
    wrong = []
    for at in places:
        bit = dice.randrange(8)
        result = await outcome({**files, name: flipped(files[name], at, bit)}, memory / "flipped", given, steps)
        seen[result] += 1
        if result in (PREFIX, UNSEEN, UNSEEN_ROW):
            wrong.append(f"seed {seed}: bit {bit} of byte {at} of {name}: {result}")
    seconds = time.perf_counter() - started
    control = (
        await without_mark(memory, files, given, steps, dice) if name == WAL else await without_checks(memory, seed)
    )
    told = ", ".join(f"{number} {what}" for what, number in seen.most_common())
    figure(f"bit flips in {name}", seen.total(), len(wrong), seed, seconds, f"{control}; {told}")
    assert not wrong, "\n".join(wrong[:5])
    assert seen[AT_START] > 0.02 * seen.total()


async def without_mark(memory: Path, files: State, given: Given, steps: int, dice: random.Random) -> str:
    """The control: no mark beside the journal."""
    bare = {name: content for name, content in files.items() if name != MARK}
    silent = 0
    for _ in range(40):
        damaged = flipped(files[WAL], dice.randrange(len(files[WAL])), dice.randrange(8))
        silent += await outcome({**bare, WAL: damaged}, memory / "flipped", given, steps) == PREFIX
    assert silent, "without the mark no flip lost anything: this harness is blind"
    return f"without the mark: {silent} of 40 unseen"


async def without_checks(memory: Path, seed: int) -> str:
    """The control: a reader that believes whatever SQLite's own quick check lets through."""
    given, dice, folder = Given(seed, large=LARGE), random.Random(seed), memory / "flipped"
    files = await lived(memory / "lived", given, STEPS, closed=True)
    believed = 0
    for _ in range(100):
        lay_out({DB: flipped(files[DB], dice.randrange(len(files[DB])), dice.randrange(8))}, folder)
        believed += not same_records(folder / DB, given)
    assert believed, "no flip changed a record: this harness is blind"
    return f"quick_check alone: {believed} of 100 unseen"


def same_records(path: Path, given: Given) -> bool:
    """Whether the records are those that were given, or SQLite's quick check complains."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        try:
            if connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
                return True
            found = connection.execute(
                "SELECT seq, instance, kind, time_us, payload FROM records ORDER BY seq"
            ).fetchall()
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            return True
    return found == given.records[: len(found)] and len(found) == given.moment(STEPS).last_seq


async def test_a_flipped_bit_in_the_log_is_found(memory: Path, seed: int) -> None:
    await flip(memory, seed, WAL, 2_000)


async def test_a_flipped_bit_in_the_database_is_found(memory: Path, seed: int) -> None:
    await flip(memory, seed, DB, 2_000)


@pytest.mark.soak
async def test_every_byte_of_a_log_is_flipped(memory: Path, seed: int) -> None:
    await flip(memory, seed, WAL, None)


@pytest.mark.soak
async def test_every_byte_of_a_database_is_flipped(memory: Path, seed: int) -> None:
    await flip(memory, seed, DB, None)


async def test_a_log_cut_off_anywhere_is_found_and_without_the_mark_it_is_a_prefix(memory: Path, seed: int) -> None:
    await cut_off(memory, seed, 12, beside=2)


@pytest.mark.soak
async def test_a_longer_log_cut_off_anywhere(memory: Path, seed: int) -> None:
    await cut_off(memory, seed, 120, beside=40)


async def cut_off(memory: Path, seed: int, steps: int, beside: int) -> None:
    """At each frame's edge, and some bytes beside it."""
    started, dice, given = time.perf_counter(), random.Random(seed), Given(seed, large=LARGE)
    files = await lived(memory / "lived", given, steps, closed=False)
    whole = len(files[WAL])
    edges = range(WAL_HEAD_BYTES, whole + 1, FRAME_HEAD_BYTES + PAGE_BYTES)
    cuts = {0, whole, *edges}
    for edge in edges:
        cuts.update((edge - 1, edge + 1, *(edge + dice.randrange(PAGE_BYTES) for _ in range(beside))))
    (memory / "cut").mkdir()
    seen: Counter[str] = Counter()
    wrong, silent = [], 0
    for cut in sorted(cut for cut in cuts if 0 <= cut <= whole):
        shortened = {**files, WAL: files[WAL][:cut]}
        result = await outcome(shortened, memory / "cut", given, steps)
        seen[result] += 1
        if result not in (AT_START, HARMLESS):
            wrong.append(f"seed {seed}: cut at {cut} of {whole}: {result}")
        if cut % 3 == 0 or cut in edges:
            bare = {DB: shortened[DB], WAL: shortened[WAL]}
            result = await outcome(bare, memory / "cut", given, steps)
            silent += result == PREFIX
            if result not in (PREFIX, HARMLESS):
                wrong.append(f"seed {seed}: without a mark, cut at {cut} of {whole}: {result}")
    assert silent, "without the mark no cut lost anything: this harness is blind"
    seconds = time.perf_counter() - started
    figure("WAL cut off", seen.total(), len(wrong), seed, seconds, f"without the mark: {silent} unseen prefixes")
    assert not wrong, "\n".join(wrong[:5])
