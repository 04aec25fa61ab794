"""The orchestrations and timers that operators see: the newest, the next; come and gone as objects of the surface.

What must stay true: both lists are bounded, however many there are, and so is what comes and goes in one round, so that a
thousand procedures that start at once are no burden; what is shown is committed. A crash here loses nothing: the lists
are made anew, without the orchestrations that ended before the start.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from gateway.durable import Engine
from gateway.durable.codec import Json, unpack_plain
from gateway.durable.instances import Orchestration, decode_state
from gateway.durable.preview import preview
from gateway.durable.store import InstanceRow
from gateway.operator import names
from gateway.operator.breaker_values import sample
from gateway.operator.station_values import Values
from protocols.opcua.surface import Change, Object, Sample, Server

SHOWN_AT_MOST = 200
CHANGED_AT_MOST = 25
"""Objects that come, and that go, in one round."""
TOUCHED_AT_MOST = 10_000
"""Orchestrations that may have changed between two rounds; of more, those that changed first are forgotten."""
CUSTOM_STATUS_AT_MOST = 1_000


class Listing:
    """Objects of one kind below one object; knows what was told of them."""

    def __init__(self, parent: str, type_name: str) -> None:
        self._parent = parent
        self._type = type_name
        self._told: dict[str, Values] = {}

    def __len__(self) -> int:
        return len(self._told)

    def forget(self, server: Server) -> None:
        """Begin anew: nothing is shown."""
        server.remove(list(self._told))
        self._told.clear()

    def show(self, server: Server, wanted: Mapping[str, tuple[str, Values]]) -> None:
        """Bring the list towards what is wanted: key → name and values; those that matter most come first."""
        gone = list(islice((key for key in self._told if key not in wanted), CHANGED_AT_MOST))
        if gone:
            server.remove(gone)
            for key in gone:
                del self._told[key]
        room = min(SHOWN_AT_MOST - len(self._told), CHANGED_AT_MOST)
        come = list(islice((key for key in wanted if key not in self._told), room))
        if come:
            server.remove(come)  # what a round left there that failed
            server.add([Object(key, wanted[key][0], self._parent, self._type) for key in come])
            self._told.update((key, {}) for key in come)
        changes = [change for key, told in self._told.items() if key in wanted for change in _differ(key, told, wanted)]
        if changes:
            server.change(changes)


def _differ(key: str, told: Values, wanted: Mapping[str, tuple[str, Values]]) -> Iterable[Change]:
    now = wanted[key][1]
    for name, one in now.items():
        if told.get(name) != one:
            told[name] = one
            yield Change(key, name, one)


class Orchestrations:
    """The newest orchestrations: those that live, and those that ended since the start."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._listing = Listing(names.ORCHESTRATIONS, names.ORCHESTRATION_TYPE)
        self._rows: dict[str, InstanceRow] = {}
        self._touched: dict[str, InstanceRow] = {}
        self._values: dict[str, tuple[InstanceRow, Values]] = {}

    def forget(self, server: Server) -> None:
        """Begin anew, with those that live."""
        self._listing.forget(server)
        self.mark(one for one in self._engine.instances.values() if isinstance(one, Orchestration))

    def mark(self, changed: Iterable[Orchestration]) -> None:
        """These have a new committed row."""
        for one in changed:
            if one.row is None:
                continue
            if one.id in self._rows:
                self._rows[one.id] = one.row
                continue
            self._touched[one.id] = one.row
            if len(self._touched) > TOUCHED_AT_MOST:
                del self._touched[next(iter(self._touched))]

    def round(self, server: Server) -> Values:
        """Show the newest; the values of their parent object."""
        if self._touched:
            all_rows = {**self._rows, **self._touched}
            newest = heapq.nlargest(SHOWN_AT_MOST, all_rows.values(), key=lambda row: (row.created_us, row.instance))
            self._rows = {row.instance: row for row in newest}
            self._touched = {}
            self._values = {instance: kept for instance, kept in self._values.items() if instance in self._rows}
        wanted = {
            names.orchestration_key(instance): (instance, self._of(instance, row))
            for instance, row in self._rows.items()
        }
        self._listing.show(server, wanted)
        return {"Live": sample(self._live()), "Shown": sample(len(self._listing))}

    def _of(self, instance: str, row: InstanceRow) -> Values:
        known = self._values.get(instance)
        if known is None or known[0] is not row:
            self._values[instance] = known = (row, orchestration_values(row))
        return known[1]

    def _live(self) -> int:
        return sum(1 for one in self._engine.instances.values() if isinstance(one, Orchestration))


def orchestration_values(row: InstanceRow) -> Values:
    """The values of a committed orchestration."""
    state = decode_state(row.state)
    return {
        "Name": sample(row.name),
        "Status": sample(row.status),
        "CustomStatus": Sample(_in_words(unpack_plain(state.custom_status))),
        "Started": Sample(row.created_us),
        "Updated": Sample(row.updated_us),
        "Version": sample(state.version),
        "Parent": sample(row.parent),
    }


def _in_words(status: Json) -> str:
    """The sentence of a custom status, else what it says in short; empty for none."""
    if status is None:
        return ""
    sentence = status.get("sentence") if isinstance(status, dict) else status
    words = sentence if isinstance(sentence, str) else preview(status, CUSTOM_STATUS_AT_MOST)
    return words[:CUSTOM_STATUS_AT_MOST]


class Timers:
    """The durable timers that are due next."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._listing = Listing(names.TIMERS, names.TIMER_TYPE)

    def forget(self, server: Server) -> None:
        """Begin anew."""
        self._listing.forget(server)

    def next(self) -> Sequence[tuple[int, str, int]]:
        """Due time, instance and task id of those that may be shown."""
        return self._engine.timers.first(SHOWN_AT_MOST)

    def round(self, server: Server, following: Sequence[tuple[int, str, int]]) -> Values:
        """Show these, all of which are on disk; the values of their parent object."""
        now_us = self._engine.now_us()
        wanted = {
            names.timer_key(instance, task_id): (f"{instance} {task_id}", timer_values(instance, due_us, now_us))
            for due_us, instance, task_id in following
        }
        self._listing.show(server, wanted)
        return {"Pending": sample(len(self._engine.timers)), "Shown": sample(len(self._listing))}


def timer_values(instance: str, due_us: int, now_us: int) -> Values:
    """The values of a timer."""
    left_s = max(0.0, (due_us - now_us) / 1e6)
    step_s = 1.0 if left_s <= 120.0 else 10.0
    remaining_s = math.ceil(left_s / step_s) * step_s
    return {"Instance": sample(instance), "Due": Sample(due_us), "Remaining": sample(remaining_s)}
