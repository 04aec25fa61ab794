"""The model of the disk, by itself: what may be there after a power cut, and what must."""

from __future__ import annotations

import os
import random
from pathlib import Path

from crash.storage.crash_states import Disk, Entry, Operation, State, crash_states

FOLDER = Path("/watched")


def opened(file: int, name: str, flags: int = os.O_CREAT) -> Entry:
    return Entry(Operation.OPENED, file, flags, os.fsencode(FOLDER / name))


def folder_opened(file: int) -> Entry:
    return Entry(Operation.OPENED, file, os.O_RDONLY, os.fsencode(FOLDER))


def written(file: int, offset: int, data: bytes) -> Entry:
    return Entry(Operation.WRITTEN, file, offset, data)


def flushed(file: int) -> Entry:
    return Entry(Operation.FLUSHED, file, 0, b"")


def disk_after(*entries: Entry) -> Disk:
    disk = Disk(FOLDER)
    for entry in entries:
        disk.take(entry)
    return disk


def possible(*entries: Entry) -> set[tuple[tuple[str, bytes], ...]]:
    """Many of the states after the last entry."""
    disk, dice = disk_after(*entries), random.Random(1)
    return {tuple(disk.any_state(dice).items()) for _ in range(500)}


def test_a_file_is_there_for_certain_once_it_and_its_folder_are_flushed() -> None:
    steps = [opened(1, "a"), written(1, 0, b"text"), folder_opened(2)]
    assert disk_after(*steps).nothing_more() == {}
    assert disk_after(*steps, flushed(1)).nothing_more() == {}, "without its name it is lost"
    assert disk_after(*steps, flushed(2)).nothing_more() == {"a": b""}
    assert disk_after(*steps, flushed(1), flushed(2)).nothing_more() == {"a": b"text"}


def test_writes_that_were_not_flushed_may_survive_in_any_choice() -> None:
    made = [opened(1, "a"), folder_opened(2), flushed(2)]
    states = possible(*made, written(1, 0, b"x" * 512), written(1, 512, b"y" * 512))
    seen: list[State] = [dict(state) for state in states]
    assert {"a": b""} in seen
    assert {"a": b"x" * 512} in seen
    assert {"a": bytes(512) + b"y" * 512} in seen, "the later one alone"
    assert {"a": b"x" * 512 + b"y" * 512} in seen


def test_a_torn_write_leaves_whole_sectors() -> None:
    made = [opened(1, "a"), folder_opened(2), flushed(2)]
    sizes = {len(dict(state)["a"]) for state in possible(*made, written(1, 0, b"x" * 2048))}
    assert sizes == {0, 512, 1024, 1536, 2048}


def test_what_a_failed_flush_covered_stays_in_doubt_and_what_follows_does_not() -> None:
    failed = [
        opened(1, "a"),
        folder_opened(2),
        flushed(2),
        written(1, 0, b"old"),
        Entry(Operation.FLUSH_FAILED, 1, 0, b""),
    ]
    disk = disk_after(*failed, written(1, 3, b"new"), flushed(1))
    assert disk.nothing_more() == {"a": b"\0\0\0new"}
    assert disk.everything() == {"a": b"oldnew"}


def test_names_replaced_and_removed_come_back_until_the_folder_is_flushed() -> None:
    made = [opened(1, "a"), written(1, 0, b"a"), flushed(1), opened(2, "b"), written(2, 0, b"b"), flushed(2)]
    made += [folder_opened(3), flushed(3)]
    renamed = Entry(Operation.RENAMED, 0, 0, os.fsencode(FOLDER / "b") + b"\n" + os.fsencode(FOLDER / "a"))
    assert possible(*made, renamed) == {(("a", b"a"), ("b", b"b")), (("a", b"b"),)}, "whole or not at all"
    assert disk_after(*made, renamed, flushed(3)).nothing_more() == {"a": b"b"}
    removed = Entry(Operation.REMOVED, 0, 0, os.fsencode(FOLDER / "b"))
    assert possible(*made, removed) == {(("a", b"a"), ("b", b"b")), (("a", b"a"),)}


def test_shared_memory_never_survives_and_acknowledgements_are_counted() -> None:
    entries = [opened(1, "j-shm"), written(1, 0, b"x"), opened(2, "j"), Entry(Operation.ACKNOWLEDGED, 0, 3, b"")]
    cuts = list(crash_states(entries, FOLDER, random.Random(1), per_point=5))
    assert all("j-shm" not in state for _, state, _ in cuts)
    assert [acknowledged for _, _, acknowledged in cuts] == [0, 0, 3, 3], "each state once with what must be in it"
