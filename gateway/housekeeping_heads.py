"""The head of the journal's hash chain, signed by the device's key and sent out at intervals: log, status, OPC UA.

Who keeps a head elsewhere can prove later that the journal was cut off or rewritten behind it, and the signature proves
that this device said so. What must stay true: a head is sent out only for a batch that is on disk; one that can't be
signed goes out unsigned, and that is told. Nothing is kept here: after a crash the next head is sent out at the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gateway.clock import wall_now
from gateway.durable.codec import Json
from gateway.housekeeping_seam import Head

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

FIRST_S = 0.5
"""A new journal is looked at so often until something is in it."""


@dataclass(frozen=True, slots=True)
class SentHead:
    """A head as it was sent out. line: signed, as ``audit verify --head`` takes it; empty if it could not be signed."""

    batch: int
    seq: int
    hash_hex: str
    line: str
    at: str

    def told(self) -> dict[str, Json]:
        """For those who ask."""
        return {"batch": self.batch, "seq": self.seq, "hash": self.hash_hex, "signed": self.line, "at": self.at}


class Heads:
    """Sends heads. sent: the last one; None before the first. failed: why it could not be signed; empty if it was.
    other_key: that the key is not the one of the last start, as a sentence; empty if it is."""

    def __init__(
        self, head: Callable[[], Head], sign: Callable[[Head], str], every_s: Callable[[], float], other_key: str = ""
    ) -> None:
        self.sent: SentHead | None = None
        self.failed = ""
        self.other_key = other_key
        self._head = head
        self._sign = sign
        self._every_s = every_s

    async def run(self) -> None:
        """Send one now and then, until cancelled."""
        while not self._head().batch:  # noqa: ASYNC110 - nobody tells; of an empty journal there is nothing to prove
            await asyncio.sleep(FIRST_S)
        while True:
            self.send()
            await asyncio.sleep(self._every_s())

    def send(self) -> SentHead:
        """Send the present head."""
        head = self._head()
        line = ""
        try:
            line = self._sign(head)
            self.failed = ""
        except Exception as error:  # noqa: BLE001 - whatever a library of signatures does here, control goes on
            self.failed = str(error)
            log.error("journal_head_unsigned", error=str(error))
        self.sent = SentHead(head.batch, head.seq, head.hash_hex, line, wall_now().isoformat(timespec="seconds"))
        log.info("journal_head", batch=head.batch, seq=head.seq, hash=head.hash_hex, signed=line)
        return self.sent
