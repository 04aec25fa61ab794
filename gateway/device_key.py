"""Whether the key of the device is the one that it had before: held against the journal at each start.

The journal keeps the fingerprint of the key under a name of its own (so that the last record of it is found at once, and
outlives archives), and in each record of a start. What must stay true: nothing here keeps the daemon from shedding; a key
that was changed, is gone or is damaged is logged at error, recorded, and told in ``status`` and as an alarm of auditing; no
key takes the place of one that is gone unless a person has it made. Nothing is kept here that a crash could lose: a change
whose record was lost is found again at the next start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from gateway.durable.codec import Json
from gateway.housekeeping_seam import Head

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

RECORDED_AS = "device.key"
"""The name under which the journal keeps it."""
KIND = "gateway"


class Log(Protocol):
    """The journal, read only."""

    async def latest(self, instance: str, limit: int = 1_000) -> Sequence[tuple[int, str, str, int, bytes]]:
        """The last records of one name, newest first."""


class Recorder(Protocol):
    """Appends to the journal."""

    def record(self, instance: str, kind: str, payload: object) -> asyncio.Future[None]:
        """One record, behind all that is there."""


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """What was found. fingerprint: of the key that signs, empty if none does; before: of the one on record, empty if none.

    sign: signs a head, or raises SigningError with ``failed``.
    """

    fingerprint: str
    before: str
    public: str
    failed: str
    sign: Callable[[Head], str]

    @property
    def changed(self) -> bool:
        """Another key than the one on record signs."""
        return bool(self.fingerprint and self.before and self.fingerprint != self.before)

    @property
    def warning(self) -> str:
        """That the key was exchanged, for status and alarm; empty if it was not. Why none signs stands in ``failed``."""
        if not self.changed:
            return ""
        return (
            f"the device's key was changed since the last start: it is {self.fingerprint}, and was {self.before}. If "
            "nobody here made a new one, distrust what it signs"
        )

    def record(self, recorder: Recorder, pid: int) -> None:
        """Write down what differs from what is on record, and log it."""
        told: dict[str, Json] = {"pid": pid, "key": self.fingerprint, "before": self.before}
        if self.failed:
            log.error("device_key_unusable", error=self.failed, before=self.before)
            _write(recorder, "", {"event": "device_key_unusable", **told, "detail": self.failed})
        if not self.fingerprint or self.fingerprint == self.before:
            return
        event = "device_key_changed" if self.changed else "device_key"
        if self.changed:
            log.error(event, key=self.fingerprint, before=self.before)
            _write(recorder, "", {"event": event, **told})
        _write(recorder, RECORDED_AS, {"event": event, **told, "public": self.public})


async def device_key(folder: Path, journal: Log, failures: tuple[type[Exception], ...] = ()) -> DeviceKey:
    """The key in this folder, held against the journal. failures: what the journal raises; where its record of the key
    can't be read, nothing is signed and no key is made. Errors: none of these."""
    try:
        newest = await journal.latest(RECORDED_AS, 1)
    except failures as error:
        return _unusable("", f"the journal's record of the device's key can't be read: {error}")
    return found_in(folder, key_told(newest[0][4]) if newest else "")


def found_in(folder: Path, before: str) -> DeviceKey:
    """The key in this folder, made where there never was one. before: the one on record. Errors: none."""
    from gateway.evidence.errors import SigningError
    from gateway.evidence.signing import Signer, public_hex  # its library takes its time to load

    try:
        signer = Signer.open(folder, before)
    except (SigningError, OSError) as error:
        return _unusable(before, str(error))
    return DeviceKey(signer.fingerprint, before, public_hex(signer.public), "", signer.sign)


def _unusable(before: str, why: str) -> DeviceKey:
    from gateway.evidence.errors import SigningError

    def unsigned(_: Head) -> str:
        raise SigningError(why)

    return DeviceKey("", before, "", why, unsigned)


def _write(recorder: Recorder, instance: str, told: dict[str, Json]) -> None:
    # A failed journal ends the daemon elsewhere; here nobody waits for the answer.
    recorder.record(instance, KIND, told).add_done_callback(lambda f: f.cancelled() or f.exception())


def key_told(payload: bytes, which: str = "key") -> str:
    """The fingerprint in a record of a key, or of the one ``before``; empty if there is none that can be read."""
    try:
        told = msgspec.json.decode(payload, type=dict[str, Json])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return str(told.get(which) or "")
