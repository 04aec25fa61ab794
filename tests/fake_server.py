"""An operators' server in memory: it takes what the gateway tells, as the real one does, and refuses what that refuses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from protocols.opcua.surface import Alarm, Backend, Change, Event, Object, Sample, SessionInfo, Surface


class FakeServer:
    """Satisfies ``surface.Server``. values: object → variable → sample. broken: raised by whatever is asked for next."""

    def __init__(self, surface: Surface, backend: Backend | None = None) -> None:
        self.backend = backend
        self.variables = {one.name: {variable.name for variable in one.variables} for one in surface.types}
        self.types = {one.key: one.type for one in surface.objects}
        self.values: dict[str, dict[str, Sample]] = {one.key: {} for one in surface.objects}
        self.calls: list[list[Change]] = []
        self.events: list[Event] = []
        self.alarms: list[Alarm] = []
        self.there: list[SessionInfo] = []
        self.broken: Exception | None = None
        self.life: list[str] = []

    async def start(self) -> None:
        """See OperatorServer."""
        self._check()
        self.life.append("started")

    async def stop(self) -> None:
        """See OperatorServer."""
        self.life.append("stopped")

    def change(self, changes: Iterable[Change]) -> None:
        """See Server."""
        self._check()
        taken = list(changes)
        for one in taken:
            if one.variable not in self.variables[self.types[one.object]]:
                raise KeyError(one.variable)
            self.values[one.object][one.variable] = one.sample
        self.calls.append(taken)

    def add(self, objects: Sequence[Object]) -> None:
        """See Server."""
        self._check()
        for one in objects:
            if one.key in self.types:
                raise ValueError(f"there is a {one.key} already")
            self.types[one.key] = one.type
            self.values[one.key] = {}

    def remove(self, keys: Sequence[str]) -> None:
        """See Server."""
        for key in keys:
            self.types.pop(key, None)
            self.values.pop(key, None)

    def event(self, event: Event) -> None:
        """See Server."""
        self.events.append(event)

    def alarm(self, alarm: Alarm) -> None:
        """See Server."""
        self.alarms.append(alarm)

    def sessions(self) -> list[SessionInfo]:
        """See Server."""
        return self.there

    def certificate_expires_us(self) -> int:
        """See Server."""
        return 1_900_000_000_000_000

    def told(self, key: str) -> dict[str, Any]:
        """The values of an object, without their qualities."""
        return {name: sample.value for name, sample in self.values[key].items()}

    def forget_calls(self) -> None:
        """Look only at what comes from now on."""
        self.calls.clear()

    @property
    def changes(self) -> list[tuple[str, str, Any]]:
        """Object, variable and value of each change that was told, in order."""
        return [(one.object, one.variable, one.sample.value) for call in self.calls for one in call]

    def _check(self) -> None:
        if self.broken is not None:
            broken, self.broken = self.broken, None
            raise broken
