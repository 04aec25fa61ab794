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

from gateway.durable.errors import EntityLockError


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


class CriticalSection:
    """What an orchestration asked for. id: of its request. held: all targets are locked."""

    __slots__ = ("held", "id", "targets")

    def __init__(self, task_id: int, targets: tuple[str, ...]) -> None:
        self.id = task_id
        self.targets = targets
        self.held = False

    def check(self, what: str, target: str | None, wants_lock: bool) -> None:
        """What is not allowed inside. target: the entity, which must (or must not) be a locked one.

        Errors: EntityLockError.
        """
        if not self.held or (target is not None and (target in self.targets) == wants_lock):
            return
        rule = ""
        if target is not None:
            rule = " (only to those locked)" if wants_lock else " (its operations are to be called)"
        raise EntityLockError(f"{what} is not allowed in the critical section of {', '.join(self.targets)}{rule}")


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
