"""From a log of writes to the states that a loss of power may leave: a pure model of a disk behind a page cache.

What the model says (as POSIX does, which promises less than any one file system gives): what was written to a file since
its last flush may be there or not, write by write, in any choice, and torn: a part of its 512-byte sectors. A change of
size counts as a write. A name (made, replaced, removed) is durable once its folder was flushed; until then any choice of
such changes may be there. After a failed flush what it covered may be lost though a later flush succeeds.
The shared-memory file (``-shm``) is no durable content: it never survives.
"""

from __future__ import annotations

import enum
import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

SECTOR = 512
_HEAD = struct.Struct("=IIQI")


class Operation(enum.IntEnum):
    """Entries of the log, numbered as in the library."""

    OPENED = 1
    WRITTEN = 2
    TRUNCATED = 3
    FLUSHED = 4
    FLUSH_FAILED = 5
    RENAMED = 6
    REMOVED = 7
    ACKNOWLEDGED = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One call. number: an offset, a size, the flags of an opening, or the steps acknowledged."""

    operation: Operation
    file: int
    number: int
    data: bytes


def read_log(path: Path) -> list[Entry]:
    """All entries of a log."""
    content = path.read_bytes()
    entries, at = [], 0
    while at < len(content):
        operation, file, number, length = _HEAD.unpack_from(content, at)
        at += _HEAD.size + length
        entries.append(Entry(Operation(operation), file, number, content[at - length : at]))
    return entries


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes at an offset."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resize:
    """A change of size."""

    size: int


Change: TypeAlias = Write | Resize


def apply(content: bytearray, change: Change) -> None:
    """Carry out a change; a gap is filled with zeros."""
    if isinstance(change, Resize):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data


class Fate(enum.Enum):
    """Of a change to a file."""

    PENDING = "not flushed yet"
    DURABLE = "flushed, but it follows what is doubtful"
    DOUBTFUL = "its flush failed, and no later one covers it"


@dataclass(slots=True, eq=False)
class Inode:
    """A file: what is durable for certain, and what was done to it since, in order."""

    durable: bytearray = field(default_factory=bytearray)
    since: list[tuple[Change, Fate]] = field(default_factory=list)

    @property
    def open_ended(self) -> bool:
        """A power cut could leave it in more than one way."""
        return any(fate is not Fate.DURABLE for _, fate in self.since)

    def flushed(self) -> None:
        """What was pending is durable."""
        self.since = [(change, Fate.DURABLE if fate is Fate.PENDING else fate) for change, fate in self.since]
        while self.since and self.since[0][1] is Fate.DURABLE:
            apply(self.durable, self.since.pop(0)[0])

    def flush_failed(self) -> None:
        """What was pending may be lost, whatever follows."""
        self.since = [(change, Fate.DOUBTFUL if fate is Fate.PENDING else fate) for change, fate in self.since]

    def left(self, survivor: Callable[[int, Change], Change | None]) -> bytes:
        """What is on the disk; survivor: what of a change that need not be there is (by number and change)."""
        content = bytearray(self.durable)
        for number, (change, fate) in enumerate(self.since):
            there = change if fate is Fate.DURABLE else survivor(number, change)
            if there is not None:
                apply(content, there)
        return bytes(content)


Survivor: TypeAlias = Callable[[int, Change], Change | None]
Naming: TypeAlias = dict[str, Inode | None]
"""One change of names, whole or not at all; None: removed."""
Names: TypeAlias = dict[str, Inode]
State: TypeAlias = dict[str, bytes]
"""What is on the disk, by the name of the file."""


class Disk:
    """What a power cut could leave after each entry. Files of one folder; names are those within it."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self.durable_names: Names = {}
        self.pending_names: list[Naming] = []
        self.acknowledged = 0
        self._names: Names = {}
        self._opened: dict[int, Inode | None] = {}

    def take(self, entry: Entry) -> bool:
        """Follow one call; whether it changed what a cut could leave, or what it must."""
        match entry.operation:
            case Operation.OPENED:
                return self._open(entry)
            case Operation.WRITTEN:
                return self._change(entry.file, Write(entry.number, entry.data))
            case Operation.TRUNCATED:
                return self._change(entry.file, Resize(entry.number))
            case Operation.FLUSHED:
                self._flush(self._opened[entry.file])
            case Operation.FLUSH_FAILED:
                if (inode := self._opened[entry.file]) is not None:
                    inode.flush_failed()
            case Operation.RENAMED:
                old, new = (self._name(path) for path in os.fsdecode(entry.data).split("\n"))
                return self._rename({new: self._names[old], old: None})
            case Operation.REMOVED:
                return self._rename({self._name(os.fsdecode(entry.data)): None})
            case Operation.ACKNOWLEDGED:
                self.acknowledged = max(self.acknowledged, entry.number)
        return True

    def _open(self, entry: Entry) -> bool:
        path = os.fsdecode(entry.data)
        if path == self._folder:
            self._opened[entry.file] = None
            return False
        name = self._name(path)
        inode = self._names.get(name)
        made = inode is None
        if inode is None:
            assert entry.number & os.O_CREAT, f"{path} was opened, but never made"
            inode = Inode()
            self._rename({name: inode})
        self._opened[entry.file] = inode
        if entry.number & os.O_TRUNC and not made:
            inode.since.append((Resize(0), Fate.PENDING))
        return made and _survives(name)

    def _change(self, file: int, change: Change) -> bool:
        inode = self._opened[file]
        assert inode is not None, "a folder was written to"
        inode.since.append((change, Fate.PENDING))
        return any(held is inode and _survives(name) for name, held in self._names.items())

    def _flush(self, inode: Inode | None) -> None:
        if inode is None:
            for naming in self.pending_names:
                _rename(self.durable_names, naming)
            self.pending_names = []
        else:
            inode.flushed()

    def _rename(self, naming: Naming) -> bool:
        _rename(self._names, naming)
        self.pending_names.append(naming)
        return any(_survives(name) for name in naming)

    def _name(self, path: str) -> str:
        folder, name = os.path.split(path)
        assert folder == self._folder, f"{path} lies outside of what is modelled"
        return name

    def state(self, named: Callable[[], bool], survivors: Callable[[Inode], Survivor]) -> State:
        """One state: which changes of names hold, and what of the pending changes of each file is there."""
        names = dict(self.durable_names)
        for naming in self.pending_names:
            if named():
                _rename(names, naming)
        return {name: inode.left(survivors(inode)) for name, inode in sorted(names.items()) if _survives(name)}

    def nothing_more(self) -> State:
        """Only what was flushed."""
        return self.state(lambda: False, lambda _: _none)

    def everything(self) -> State:
        """As if all had been flushed."""
        return self.state(lambda: True, lambda _: _whole)

    def alone(self, only: Inode) -> State:
        """All names, and what was written to one file, but to no other."""
        return self.state(lambda: True, lambda inode: _whole if inode is only else _none)

    def any_state(self, dice: random.Random) -> State:
        """A random choice of names and writes, some torn."""
        names, writes, prefix = dice.choice((0.0, 0.5, 1.0)), dice.choice((0.2, 0.5, 0.8, 0.95)), dice.random() < 0.3

        def survivors(inode: Inode) -> Survivor:
            if prefix:
                cut = dice.randrange(len(inode.since) + 1)
                return lambda number, change: change if number < cut else _torn(change, dice) if number == cut else None
            return lambda _, change: (
                (change if dice.random() < 0.8 else _torn(change, dice)) if dice.random() < writes else None
            )

        return self.state(lambda: dice.random() < names, survivors)

    def states(self, dice: random.Random) -> Iterator[State]:
        """Without an end: the two extremes, then one file alone flushed, then random choices."""
        yield self.nothing_more()
        yield self.everything()
        named = dict(self.durable_names)
        for naming in self.pending_names:
            _rename(named, naming)
        for name, inode in sorted(named.items()):
            if inode.open_ended and _survives(name):
                yield self.alone(inode)
        while True:
            yield self.any_state(dice)


def crash_states(
    entries: list[Entry], folder: Path, dice: random.Random, per_point: int, chance: float = 1.0
) -> Iterator[tuple[int, State, int]]:
    """Cuts after a call: (number of calls before it, what is on the disk, steps acknowledged before it).

    At most ``per_point`` different states after each call, and none after some calls, by ``chance``. A state that was met
    before with as much acknowledged is left out.
    """
    disk = Disk(folder)
    met: set[tuple[int, int]] = set()
    for number, entry in enumerate(entries, 1):
        if not disk.take(entry) or dice.random() >= chance:
            continue
        fresh = 0
        for tries, state in enumerate(disk.states(dice), 1):
            key = (disk.acknowledged, hash(tuple(state.items())))
            if key not in met:
                met.add(key)
                fresh += 1
                yield number, state, disk.acknowledged
            if fresh >= per_point or tries >= per_point * 2 + 5:
                break


def lay_out(state: State, folder: Path) -> None:
    """Let a folder hold this state and nothing else."""
    for left in folder.iterdir():
        left.unlink()
    for name, content in state.items():
        (folder / name).write_bytes(content)


def _survives(name: str) -> bool:
    return not name.endswith("-shm")


def _rename(names: Names, naming: Naming) -> None:
    for name, inode in naming.items():
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode


def _none(_: int, __: Change) -> None:
    return None


def _whole(_: int, change: Change) -> Change:
    return change


def _torn(change: Change, dice: random.Random) -> Change:
    """A write of which only some sectors in a row reached the disk (its beginning or its end)."""
    if isinstance(change, Resize):
        return change
    cut = change.offset + dice.randrange(len(change.data) + 1)
    cut = min(max(cut // SECTOR * SECTOR - change.offset, 0), len(change.data))
    return (
        Write(change.offset, change.data[:cut])
        if dice.random() < 0.5
        else Write(change.offset + cut, change.data[cut:])
    )
