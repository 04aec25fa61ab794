"""The open batch: what turns have decided and the journal has not seen yet.

Turns go on while the writer is at work; what they decide gathers here in order. The writer seals it, makes it durable, and
only then are its effects let go: activities started, clients answered. Messages that were sent and handled within one
batch never reach the disk.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.durable.mailbox import Content, encode_content
from gateway.durable.store import Batch, InstanceRow, MessageRow, RecordRow

Effect = Callable[[], None]


class Outbox:
    """One batch in the making. number: batches count up from 1 within a process."""

    __slots__ = ("_messages", "batch", "dirty", "effects", "lost", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.batch = Batch()
        self.dirty: set[str] = set()
        self.effects: list[Effect] = []
        self.lost: list[Callable[[BaseException], None]] = []
        self._messages: dict[int, tuple[str, Content]] = {}

    @property
    def empty(self) -> bool:
        """True when there is nothing to write and nobody waits."""
        return self.batch.empty and not self._messages and not self.dirty and not self.effects

    def record(self, seq: int, instance: str, kind: str, time_us: int, payload: bytes) -> None:
        """Append a record."""
        self.batch.records.append(RecordRow(seq, instance, kind, time_us, payload))
        self.batch.time_us = time_us

    def add_message(self, message_id: int, target: str, content: Content) -> None:
        """A message is under way."""
        self._messages[message_id] = (target, content)

    def remove_message(self, message_id: int) -> None:
        """A message was handled."""
        if self._messages.pop(message_id, None) is None:
            self.batch.messages_removed.add(message_id)

    def seal(self, rows: Callable[[set[str]], dict[str, InstanceRow]]) -> Batch:
        """The batch for the journal, with the rows of all instances that it changed."""
        for message_id, (target, content) in self._messages.items():
            self.batch.add_message(MessageRow(message_id, target, encode_content(content)))
        self.batch.instances = rows(self.dirty)
        return self.batch
