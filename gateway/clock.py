"""The one place that asks for the time.

Engine time is anchored once, at the start, to the wall clock, and from then on runs with the time since boot
(``CLOCK_BOOTTIME``, which counts suspended time too): a step of the wall clock moves no running timer. It never runs
backwards, also not across a restart: it starts no earlier than the journal's last record.

A site that is simulated may run its engine time at another rate: ``origin + rate × (wall − wall_origin)``. Both ends
of that line are fixed in the site's file, so a daemon that restarts finds itself where the simulation is by then.

All engine times are integers: microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import ctypes
import struct
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime; a naive one is taken as UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // _MICROSECOND


def from_us(time_us: int) -> datetime:
    """The aware UTC datetime of an engine time."""
    return EPOCH + timedelta(microseconds=time_us)


def iso(time_us: int) -> str:
    """RFC 3339 text of an engine time, in UTC with milliseconds."""
    return from_us(time_us).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wall_now() -> datetime:
    """Real time, UTC, also where engine time is simulated: what certificates are measured by."""
    return datetime.now(UTC)


def local_zone() -> tzinfo:
    """The machine's own time zone, with the offset that holds now: for reports that people read."""
    return datetime.now().astimezone().tzinfo or UTC


class Clock(Protocol):
    """Engine time and the way from it to real seconds."""

    def now_us(self) -> int:
        """Engine time now, microseconds since 1970."""

    def real_seconds_until(self, due_us: int) -> float:
        """How long to wait, in real seconds (at least 0), until engine time is due_us."""


class SystemClock:
    """Engine time of a running daemon.

    rate, origin_us, wall_origin_us: the line of a simulated site (see above); left out, engine time is wall time.
    not_before_us: the journal's last time.
    """

    def __init__(
        self,
        *,
        rate: float = 1.0,
        origin_us: int | None = None,
        wall_origin_us: int | None = None,
        not_before_us: int = 0,
    ) -> None:
        if not rate > 0:
            raise ValueError(f"the clock's rate must be above 0, not {rate}")
        self.rate = rate
        self._boot_anchor_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._wall_anchor_us = time.time_ns() // 1000
        self._origin_us = origin_us
        self._wall_origin_us = wall_origin_us
        self._anchor_us = max(self._wall_line(), not_before_us)

    def _wall_line(self) -> int:
        wall_us = time.time_ns() // 1000
        if self._origin_us is None or self._wall_origin_us is None:
            return wall_us
        return self._origin_us + int(self.rate * (wall_us - self._wall_origin_us))

    def now_us(self) -> int:
        """Engine time now."""
        elapsed_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._boot_anchor_ns
        return self._anchor_us + int(elapsed_ns * self.rate) // 1000

    def real_seconds_until(self, due_us: int) -> float:
        """Real seconds until engine time is due_us."""
        return max(0.0, (due_us - self.now_us()) / 1e6 / self.rate)

    def wall_step_s(self) -> float:
        """How far the wall clock has been stepped since the start, in real seconds (against the time since boot)."""
        elapsed_us = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._boot_anchor_ns) // 1000
        return (time.time_ns() // 1000 - self._wall_anchor_us - elapsed_us) / 1e6


class ManualClock:
    """A clock that stands until it is told to go on; for tests."""

    def __init__(self, now_us: int = 1_764_000_000_000_000) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        """The time it was set to."""
        return self._now_us

    def advance(self, seconds: float) -> None:
        """Go on by so many seconds."""
        self._now_us += int(seconds * 1e6)

    def real_seconds_until(self, due_us: int) -> float:
        """0 once due, else a short nap: who waits looks again."""
        return 0.0 if due_us <= self._now_us else 0.001


def synchronized() -> bool | None:
    """True when the machine's clock is disciplined by a time service, False when it is not, None when nobody can tell.

    Source: adjtimex(2), STA_UNSYNC in ``timex.status``; where a hardened service may not call it, the mark that
    systemd-timesyncd leaves.
    """
    if _TIMESYNC_MARK.exists():
        return True
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
        if libc.adjtimex(buffer) < 0:
            return None
    except (OSError, AttributeError):
        return None
    status: int = struct.unpack_from("i", buffer, _TIMEX_STATUS_AT)[0]
    return not status & _STA_UNSYNC


_TIMESYNC_MARK = Path("/run/systemd/timesync/synchronized")
# struct timex of 64-bit Linux: modes (int, padded), offset, freq, maxerror, esterror (long each), status (int), …
_TIMEX_BYTES = 208
_TIMEX_STATUS_AT = 40
_STA_UNSYNC = 0x40
