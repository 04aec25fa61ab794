"""The open batch: what turns have decided and the journal has not seen yet.

Turns go on while the writer is at work; what they decide gathers here in order. The writer seals it, makes it durable, and
only then are its effects let go: activities started, clients answered. Messages that were sent and handled within one
batch never reach the disk.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.durable.instances import Instance
from gateway.durable.mailbox import Content, encode_content
from gateway.durable.store import Batch, MessageRow, RecordRow

Effect = Callable[[], None]


class Outbox:
    """One batch in the making.

    number: batches count up from 1 within a process. dirty: instances whose rows are to be written. effects: run once it is
    on disk; lost: run when it can't get there. bytes: size of its records' payloads.
    """

    __slots__ = ("_messages", "batch", "bytes", "dirty", "effects", "lost", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.batch = Batch()
        self.bytes = 0
        self.dirty: dict[str, Instance] = {}
        self.effects: list[Effect] = []
        self.lost: list[Callable[[BaseException], None]] = []
        self._messages: dict[int, tuple[str, Content]] = {}

    @property
    def empty(self) -> bool:
        """True when there is nothing to write and nobody waits."""
        return not (self.effects or self.dirty or self._messages) and self.batch.empty

    def record(self, seq: int, instance: str, kind: str, time_us: int, payload: bytes) -> None:
        """Append a record."""
        self.batch.records.append(RecordRow(seq, instance, kind, time_us, payload))
        self.batch.time_us = time_us
        self.bytes += len(payload)

    def add_message(self, message_id: int, target: str, content: Content) -> None:
        """A message is under way."""
        self._messages[message_id] = (target, content)

    def remove_message(self, message_id: int) -> None:
        """A message was handled."""
        if self._messages.pop(message_id, None) is None:
            self.batch.messages_removed.add(message_id)

    def seal(self) -> Batch:
        """The batch for the journal, with the rows of all instances that it changed, as they are now."""
        for message_id, (target, content) in self._messages.items():
            self.batch.add_message(MessageRow(message_id, target, encode_content(content)))
        self._messages.clear()
        self.batch.instances = {key: instance.to_row() for key, instance in self.dirty.items()}
        return self.batch

    def fail(self, error: BaseException) -> None:
        """It can't get to the disk: tell those who wait for it."""
        for lost in self.lost:
            lost(error)
        self.lost.clear()
