"""The subscription of one session: made in slices, heard in a loop of its own, and watched.

What must stay true: each value that the device had to tell is taken, or the loss is known: a gap in the sequence numbers
asks for a read of everything. A subscription that says nothing for ``patience_s`` (a lost
one, or a half-open connection) ends the session, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import cast

from asyncua import ua

from protocols.errors import FieldError, MalformedReply
from protocols.link import spawn
from protocols.opcua.client import Session
from protocols.opcua.faults import name_of

ITEMS_AT_ONCE = 200
"""Items made in one request: a small device takes its time for each."""
LIFETIME = 10
"""The subscription outlives so many missed signs of life."""

Values = Callable[[list[tuple[int, ua.DataValue]]], None]
Beat = Callable[[datetime | None], None]


class Subscription:
    """One subscription. values: hears of (handle, value) pairs. beat: of each sign of life, with the device's clock.
    missed: hears that something may have been lost."""

    def __init__(self, session: Session, values: Values, beat: Beat, missed: Callable[[], None]) -> None:
        self._session = session
        self._values = values
        self._beat = beat
        self._missed = missed
        self._id = 0
        self._next = 0
        self._interval_ms = 0.0
        self.patience_s = 0.0

    async def create(self, interval_s: float, alive_s: float, timeout_s: float) -> None:
        """Make it, without items. alive_s: a sign of life is wanted this often. Raises FieldError."""
        request = ua.CreateSubscriptionRequest()
        wanted = request.Parameters
        wanted.RequestedPublishingInterval = interval_s * 1000
        wanted.RequestedMaxKeepAliveCount = max(1, int(alive_s / interval_s))
        wanted.RequestedLifetimeCount = LIFETIME * wanted.RequestedMaxKeepAliveCount
        wanted.MaxNotificationsPerPublish = 0
        wanted.PublishingEnabled = True
        made = (await self._session.ask(request, ua.CreateSubscriptionResponse)).Parameters
        self._id = made.SubscriptionId
        self._interval_ms = made.RevisedPublishingInterval
        beat_s = made.RevisedPublishingInterval / 1000 * max(1, made.RevisedMaxKeepAliveCount)
        self.patience_s = 2 * beat_s + timeout_s

    async def add(self, items: Sequence[tuple[int, ua.NodeId]]) -> list[tuple[int, int]]:
        """Watch these (handle, node) pairs; those refused, with their status codes. Raises FieldError."""
        request = ua.CreateMonitoredItemsRequest()
        request.Parameters.SubscriptionId = self._id
        request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
        request.Parameters.ItemsToCreate = [self._item(handle, node) for handle, node in items]
        results = (await self._session.ask(request, ua.CreateMonitoredItemsResponse)).Results
        if len(results) != len(items):
            raise MalformedReply(f"{len(results)} answers came for {len(items)} items")
        return [
            (handle, result.StatusCode.value)
            for (handle, _), result in zip(items, results, strict=True)
            if not result.StatusCode.is_good()
        ]

    def listen(self) -> None:
        """Hear from it until the session ends."""
        self._session.spawn(spawn(self._listen(), "subscription"))

    def _item(self, handle: int, node: ua.NodeId) -> ua.MonitoredItemCreateRequest:
        item = ua.MonitoredItemCreateRequest()
        item.ItemToMonitor = ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value)
        item.MonitoringMode = ua.MonitoringMode.Reporting
        wanted = item.RequestedParameters
        wanted.ClientHandle = cast(ua.UInt32, handle)
        wanted.SamplingInterval = self._interval_ms
        # The newest value is what counts: a queue of one holds it, however long the device could not send.
        wanted.QueueSize = cast(ua.UInt32, 1)
        wanted.DiscardOldest = True
        # A status or a time-stamp alone is news, too: which of them is believed hangs on it.
        wanted.Filter = ua.DataChangeFilter(Trigger=ua.DataChangeTrigger.StatusValueTimestamp)
        return item

    async def _listen(self) -> None:
        acks: list[ua.SubscriptionAcknowledgement] = []
        while True:
            request = ua.PublishRequest()
            request.Parameters.SubscriptionAcknowledgements = acks
            try:
                told = (await self._session.ask(request, ua.PublishResponse, self.patience_s)).Parameters
            except FieldError as error:
                self._session.give_up(f"the subscription fell silent: {error}")
                return
            acks = []
            message = told.NotificationMessage
            if told.SubscriptionId != self._id or message is None:
                continue
            self._beat(message.PublishTime)
            if message.NotificationData:
                if self._next and message.SequenceNumber != self._next:
                    self._missed()
                self._next = message.SequenceNumber % 0xFFFFFFFF + 1
                acks = [ua.SubscriptionAcknowledgement(self._id, message.SequenceNumber)]
            for data in message.NotificationData or ():
                if isinstance(data, ua.StatusChangeNotification):
                    self._session.give_up(f"the device ended the subscription: {name_of(data.Status.value)}")
                    return
                if isinstance(data, ua.DataChangeNotification):
                    self._values([(item.ClientHandle, item.Value) for item in data.MonitoredItems])
