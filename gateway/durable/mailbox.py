"""The bounded mailbox of one instance."""

from __future__ import annotations

import enum
from collections import deque
from typing import NamedTuple

import msgspec

from gateway.durable import history as h
from gateway.durable.entity import OperationRequest
from gateway.durable.locks import LockRelease, LockRequest

MAX_MESSAGES = 10_000
MESSAGES_PER_TURN = 256

Content = h.Incoming | OperationRequest | LockRequest | LockRelease

encode_content = msgspec.json.Encoder().encode
_content: msgspec.json.Decoder[Content] = msgspec.json.Decoder(Content)
decode_content = _content.decode


class Lane(enum.IntEnum):
    """Which messages go first when many instances are ready."""

    OPERATOR = 0
    RESULT = 1
    OTHER = 2


class Mail(NamedTuple):
    """One message under way; ids grow in the order of sending.

    An id of 0 is a message that is in memory alone until it is handled. task: with it, the activity whose result it is.
    """

    id: int
    content: Content
    task: int = 0


class Mailbox:
    """Messages of one instance in order of arrival.

    Messages between instances of this process are always taken (they are bounded by what was asked for); those from outside
    are refused at MAX_MESSAGES: see ``full``. parked: what has to wait until the instance is resumed or unlocked, and goes
    ahead of what comes then; still a message under way to the journal.
    """

    __slots__ = ("lane", "mails", "parked")

    def __init__(self) -> None:
        self.mails: deque[Mail] = deque()
        self.parked: deque[Mail] = deque()
        self.lane: Lane | None = None

    @property
    def full(self) -> bool:
        """True when nothing more is taken from outside."""
        return len(self.mails) + len(self.parked) >= MAX_MESSAGES

    @property
    def waiting(self) -> int:
        """How many messages have not been handled."""
        return len(self.mails) + len(self.parked)

    def unpark(self) -> None:
        """What was parked comes next, in its order."""
        self.parked.extend(self.mails)
        self.mails, self.parked = self.parked, deque()


class ReadyQueue:
    """Instances with mail, in three lanes."""

    def __init__(self) -> None:
        self._lanes: tuple[deque[tuple[Mailbox, str, Lane]], ...] = (deque(), deque(), deque())

    def add(self, mailbox: Mailbox, instance: str, lane: Lane) -> None:
        """Queue an instance; when it is queued already, it may move to a better lane."""
        if mailbox.lane is not None and mailbox.lane <= lane:
            return
        mailbox.lane = lane
        self._lanes[lane].append((mailbox, instance, lane))

    def pop(self) -> str | None:
        """The next instance, None when nobody is ready."""
        for lane in self._lanes:
            while lane:
                mailbox, instance, number = lane.popleft()
                if mailbox.lane is number:  # else it moved to a better lane, and was served there
                    mailbox.lane = None
                    return instance
        return None

    def __len__(self) -> int:
        return sum(len(lane) for lane in self._lanes)
