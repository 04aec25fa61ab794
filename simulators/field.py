"""What all simulated devices have in common, whatever protocol they speak: a name, an address, faults, and figures.

What must stay true: a fault that a device can't have is refused before anything is changed.
"""

from __future__ import annotations

import enum
from collections.abc import Coroutine, Mapping
from typing import Protocol

from simulators.modbus import Garble, Listener


class DeviceFault(enum.StrEnum):
    """What can be wrong with a whole device.

    SILENT takes connections and requests and answers nothing. UNREACHABLE listens no more, and resets its connections.
    MALFORMED spoils each reply (``how``: a Garble; on OPC UA every reply fails the check of its signature). DELAY acts
    at once and answers ``value`` seconds late.

    On OPC UA alone: SKEWED_CLOCK puts ``value`` seconds (less than 0: behind) on all its time-stamps. STALE goes on
    showing what it showed, with the time-stamps of then, whatever its breakers do. MISSED_PUBLISH loses everything that
    its subscriptions had to tell, and their signs of life. CERTIFICATE restarts with another one (``how``: a Forgery).
    These three happen once, and leave nothing to be cleared: DROP_SESSION and DROP_SUBSCRIPTION end all of them and tell
    nobody; RESTART is away for ``value`` seconds (RESTART_S) and numbers its namespaces anew.
    """

    SILENT = "silent"
    UNREACHABLE = "unreachable"
    MALFORMED = "malformed"
    DELAY = "delay"
    SKEWED_CLOCK = "skewed_clock"
    STALE = "stale"
    MISSED_PUBLISH = "missed_publish"
    CERTIFICATE = "certificate"
    DROP_SESSION = "drop_session"
    DROP_SUBSCRIPTION = "drop_subscription"
    RESTART = "restart"


class Forgery(enum.StrEnum):
    """Certificates that a device may show in place of its own: its own key's but EXPIRED, or for another application
    (WRONG_URI), or of another key (UNTRUSTED)."""

    EXPIRED = "expired"
    WRONG_URI = "wrong_uri"
    UNTRUSTED = "untrusted"


RESTART_S = 0.5
MOMENTS = frozenset({DeviceFault.DROP_SESSION, DeviceFault.DROP_SUBSCRIPTION, DeviceFault.RESTART})
ANY_PROTOCOL = frozenset({DeviceFault.SILENT, DeviceFault.UNREACHABLE, DeviceFault.MALFORMED, DeviceFault.DELAY})
HOWS: Mapping[DeviceFault, frozenset[str]] = {
    DeviceFault.MALFORMED: frozenset(Garble),
    DeviceFault.CERTIFICATE: frozenset(Forgery),
}
"""What ``how`` may say, for the faults that have it."""


Later = Coroutine[None, None, None]


class FieldDevice(Protocol):
    """One simulated device on the network. requests, writes: asked of it since the start; writes count calls too."""

    @property
    def name(self) -> str: ...

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def possible(self) -> frozenset[DeviceFault]:
        """The faults that it can have."""

    @property
    def is_open(self) -> bool:
        """Whether connections are taken."""

    @property
    def connections(self) -> int:
        """Open connections."""

    @property
    def requests(self) -> int: ...

    @property
    def writes(self) -> int: ...

    async def open(self) -> None:
        """Listen. Raises OSError if the address can't be had."""

    def close(self) -> None:
        """Stop listening and reset every connection; what it knows of its clients stays."""

    async def end(self) -> None:
        """Power off."""

    def put(self, fault: DeviceFault, value: float | None, how: str | None) -> Later | None:
        """Have this fault from now on. What it gives back has still to be run; it raises OSError if it can't listen."""

    def lift(self, fault: DeviceFault) -> Later | None:
        """Have this fault no more; nothing if it had not. As for put."""

    def present(self) -> dict[str, object]:
        """Its faults, by name, as ``links`` shows them."""


class ModbusField:
    """A Modbus unit with its listener."""

    possible = ANY_PROTOCOL

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._device = listener.device

    @property
    def name(self) -> str:
        return self._device.name

    @property
    def host(self) -> str:
        return self._listener.host

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def is_open(self) -> bool:
        return self._listener.is_open

    @property
    def connections(self) -> int:
        return len(self._listener.connections)

    @property
    def requests(self) -> int:
        return self._device.requests

    @property
    def writes(self) -> int:
        return self._device.writes

    async def open(self) -> None:
        await self._listener.open()

    def close(self) -> None:
        self._listener.close()

    async def end(self) -> None:
        self.close()

    def put(self, fault: DeviceFault, value: float | None, how: str | None) -> Later | None:
        faults = self._device.faults
        match fault:
            case DeviceFault.SILENT:
                faults.silent = True
            case DeviceFault.MALFORMED:
                faults.garble = Garble(how or Garble.WRONG_FUNCTION)
            case DeviceFault.DELAY:
                faults.delay_s = value or 0.0
            case DeviceFault.UNREACHABLE:
                self.close()
            case _:
                raise ValueError(f"{fault} is no fault of a Modbus device")
        return None

    def lift(self, fault: DeviceFault) -> Later | None:
        faults = self._device.faults
        match fault:
            case DeviceFault.SILENT:
                faults.silent = False
            case DeviceFault.MALFORMED:
                faults.garble = None
            case DeviceFault.DELAY:
                faults.delay_s = 0.0
            case DeviceFault.UNREACHABLE:
                return None if self.is_open else self.open()
            case _:
                pass
        return None

    def present(self) -> dict[str, object]:
        faults = self._device.faults
        return {"silent": faults.silent, "malformed": faults.garble, "delay_s": faults.delay_s}
