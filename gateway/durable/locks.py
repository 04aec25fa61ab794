"""Locks of entities: critical sections of orchestrations.

A request visits the entities one after the other, in the order of their ids, which is the same for everybody: so no two
orchestrations can wait for each other. Each entity that it reaches belongs to the owner from then on, and keeps what
others send until it is released; the last one tells the owner that the section begins. Pure. What must stay true: an
entity has one owner at most, an orchestration that lives; whoever ends, however, gives up its locks in the same batch.
On a crash: owner and entities come back as they were, and requests under way are messages like all others.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import msgspec


class LockRequest(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="LockRequest"):
    """An orchestration wants entities for itself. task: id of its request; place: which of the targets this visits."""

    owner: str
    task: int
    targets: tuple[str, ...]
    place: int = 0


class LockRelease(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="LockRelease"):
    """The owner does not want the entity for itself any more."""

    owner: str
    task: int


class EntityLock:
    """What ``yield context.lock_entities(...)`` gives: ``with`` it, or ``release`` it."""

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """End the critical section; nothing happens when it has ended."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> EntityLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
