"""External events of one execution: those that nobody has asked for yet, and the waits that nothing has answered yet.

Pure. What must stay true: one event answers one wait; events of a name are taken in the order in which they came, waits
in the order in which they were made; a wait whose time is over eats no later event. Names don't mind case. A crash here:
replay.
"""

from __future__ import annotations

from collections import deque

from gateway.durable import history as h
from gateway.durable.codec import Json, unpack
from gateway.durable.errors import NotSerializableError
from gateway.durable.tasks import EventTask, Raise, TimerTask

MAX_BUFFERED_EVENTS = 10_000
"""Events that wait to be asked for; who raises one more is refused."""


class ExternalEvents:
    """Brings events and waits together. count: events that are kept."""

    def __init__(self, owner: object = None) -> None:
        self.count = 0
        self._owner = owner
        self._kept: dict[str, deque[h.EventRaised]] = {}
        self._waits: dict[str, deque[EventTask]] = {}
        self._timed: dict[int, tuple[EventTask, Json | Raise]] = {}

    def keep(self, event: h.EventRaised) -> None:
        """Keep this event until somebody asks for it."""
        self._kept.setdefault(event.name.lower(), deque()).append(event)
        self.count += 1

    def leftover(self) -> tuple[h.EventRaised, ...]:
        """Events that nobody took, oldest first for each name."""
        return tuple(event for queue in self._kept.values() for event in queue)

    def wait(self, name: str) -> EventTask:
        """A wait: for the oldest event that is kept, or for the next that comes."""
        key = name.lower()
        task = EventTask(0, name, self._owner)
        kept = self._kept.get(key)
        if not kept:
            self._waits.setdefault(key, deque()).append(task)
            return task
        self.count -= 1
        _answer(task, kept.popleft())
        if not kept:
            del self._kept[key]
        return task

    def limit(self, task: EventTask, timer: TimerTask, default: Json | Raise) -> None:
        """When this timer fires, the wait is over and yields the default (``RAISE``: raises TimeoutError)."""
        task.timer = timer
        self._timed[timer.id] = (task, default)

    def raised(self, event: h.EventRaised) -> None:
        """An event came: the oldest wait for it takes it, or it is kept."""
        waits = self._waits.get(event.name.lower())
        if not waits:
            self.keep(event)
            return
        task = waits[0]
        self.forget(task)
        if task.timer is not None and not task.timer.is_completed:
            task.timer.cancel()
        _answer(task, event)

    def timer_cancelled(self, timer_id: int) -> None:
        """This timer limits no wait any more."""
        self._timed.pop(timer_id, None)

    def timer_fired(self, timer_id: int) -> None:
        """End the wait that this timer limits, if it is one of those."""
        timed = self._timed.pop(timer_id, None)
        if timed is None:
            return
        task, default = timed
        self.forget(task)
        task.timed_out = True
        if default is Raise.RAISE:
            task.fail(TimeoutError(f"the event {task.name!r} did not come in time"))
        else:
            task.succeed(default)

    def forget(self, task: EventTask) -> None:
        """This wait takes nothing any more."""
        waits = self._waits[task.name.lower()]
        waits.remove(task)
        if not waits:
            del self._waits[task.name.lower()]


def _answer(task: EventTask, event: h.EventRaised) -> None:
    try:
        task.succeed(unpack(event.data, f"the data of event {event.name}"))
    except NotSerializableError as error:  # an object that can't be rebuilt: who waits can catch that
        task.fail(error)
