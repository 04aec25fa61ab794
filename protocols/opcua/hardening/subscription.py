"""Subscriptions and their monitored items: what is sent to whom, when, and how much of it waits.

What must stay true:

* A subscription belongs to one session; it ends with it.
* A value that a client may not read is never queued for it; an event that it may not see neither.
* Queues are bounded. Where one overflows, the client sees the overflow bit with the value before (or after) the gap.
* A message holds at most ``MaxNotificationsPerPublish`` notifications (and never more than our own limit); the rest
  follows in further messages, each with its own publish request.

Rules: OPC UA Part 4, 5.12 and 5.13. Sampling is by exception: a value is queued when it is written.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from asyncua import ua

from protocols.opcua.hardening.limits import Limits
from protocols.opcua.services import Where

if TYPE_CHECKING:
    from protocols.opcua.hardening.session import Session

_OVERFLOW = 0x0480
"""InfoType DataValue, Overflow (Part 4, table of status code bits)."""
_NO_TIMES = {
    ua.TimestampsToReturn.Source: ("ServerTimestamp",),
    ua.TimestampsToReturn.Server: ("SourceTimestamp",),
    ua.TimestampsToReturn.Both: (),
    ua.TimestampsToReturn.Neither: ("ServerTimestamp", "SourceTimestamp"),
}


@dataclass(slots=True)
class Backlog:
    """How many entries wait beyond the first one of each item, of all sessions; most: how many may."""

    most: int
    waiting: int = 0


def stamped(value: ua.DataValue, times: ua.TimestampsToReturn) -> ua.DataValue:
    """The value with the time-stamps that were asked for."""
    away: dict[str, Any] = {name: None for name in _NO_TIMES[times] if getattr(value, name) is not None}
    if away:
        return dataclasses.replace(value, **away)
    return value


class Item:
    """One monitored item. where: for events alone."""

    __slots__ = (
        "attribute",
        "deadband",
        "discard_oldest",
        "end",
        "handle",
        "id",
        "last",
        "mode",
        "node",
        "queue",
        "ready",
        "select",
        "size",
        "subscription",
        "times",
        "trigger",
        "where",
    )

    def __init__(self, subscription: Subscription, item_id: int, node: ua.NodeId, times: ua.TimestampsToReturn) -> None:
        self.subscription = subscription
        self.id = item_id
        self.node = node
        self.attribute = ua.AttributeIds.Value
        self.times = times
        self.handle = 0
        self.mode = ua.MonitoringMode.Reporting
        self.size = 1
        self.discard_oldest = True
        self.trigger = ua.DataChangeTrigger.StatusValue
        self.deadband = 0.0
        self.queue: list[Any] = []
        self.ready = False
        self.last: ua.DataValue | None = None
        self.end: Callable[[], None] = _nothing
        self.where: Where | None = None
        self.select: Sequence[ua.SimpleAttributeOperand] = ()

    def put(self, value: ua.DataValue) -> None:
        """A new value was written."""
        if self.mode == ua.MonitoringMode.Disabled or not self._passes(value):
            return
        self.last = value
        self._enqueue(stamped(value, self.times))

    def happen(self, event: Any) -> None:
        """An event that this client may see happened."""
        if self.mode == ua.MonitoringMode.Disabled or self.where is None or not self.where.eval(event):
            return
        self._enqueue(ua.EventFieldList(ClientHandle=self.handle, EventFields=event.to_event_fields(self.select)))

    def _passes(self, value: ua.DataValue) -> bool:
        last = self.last
        if last is None or value.StatusCode != last.StatusCode:
            return True
        if self.trigger == ua.DataChangeTrigger.Status:
            return False
        if self.trigger == ua.DataChangeTrigger.StatusValueTimestamp and value.SourceTimestamp != last.SourceTimestamp:
            return True
        if value.Value == last.Value:
            return False
        if self.deadband > 0 and value.Value is not None and last.Value is not None:
            new, old = value.Value.Value, last.Value.Value
            if isinstance(new, int | float) and isinstance(old, int | float):
                return not abs(new - old) <= self.deadband
        return True

    def _enqueue(self, entry: Any) -> None:
        queue = self.queue
        backlog = self.subscription.backlog
        if len(queue) >= self.size or (queue and backlog.waiting >= backlog.most):
            queue.pop(0 if self.discard_oldest else -1)
            backlog.waiting -= bool(queue)
            if self.size > 1 and isinstance(entry, ua.DataValue):
                if self.discard_oldest and queue:
                    queue[0] = _overflowed(queue[0])
                else:
                    entry = _overflowed(entry)
        backlog.waiting += bool(queue)
        queue.append(entry)
        if not self.ready and self.mode == ua.MonitoringMode.Reporting:
            self.ready = True
            self.subscription.ready.append(self)

    def pop(self) -> Any:
        """The entry that waits longest."""
        entry = self.queue.pop(0)
        self.subscription.backlog.waiting -= bool(self.queue)
        return entry

    def clear(self) -> None:
        """Forget what waits."""
        self.subscription.backlog.waiting -= max(len(self.queue) - 1, 0)
        self.queue.clear()


def _nothing() -> None:
    """The end of an item that watches nothing."""


def _overflowed(value: ua.DataValue) -> ua.DataValue:
    code = value.StatusCode.value if value.StatusCode is not None else 0
    return dataclasses.replace(value, StatusCode=ua.StatusCode(ua.UInt32(code | _OVERFLOW)))


def _notifications(message: ua.NotificationMessage) -> int:
    return sum(
        len(getattr(data, "MonitoredItems", ()) or getattr(data, "Events", ())) for data in message.NotificationData
    )


class Subscription:
    """One subscription; the ``Publisher`` sends for it."""

    def __init__(self, subscription_id: int, session: Session, limits: Limits, backlog: Backlog) -> None:
        self.id = subscription_id
        self.backlog = backlog
        self.session = session
        self.limits = limits
        self.items: dict[int, Item] = {}
        self.event_items: dict[int, Item] = {}
        self.ready: deque[Item] = deque()
        self.enabled = True
        self.interval_ms = 1000.0
        self.keep_alive = 10
        self.lifetime = 30
        self.most = limits.notifications_per_publish
        self.sequence = 1
        self.sent: dict[int, ua.NotificationMessage] = {}
        self.first = True
        self.quiet_cycles = 0
        self.served_at = 0.0
        self.timer: Any = None
        self.closed = False
        self._next_item = 1

    def revise(self, parameters: Any) -> None:
        """Take the numbers of a create or modify request, within our limits (NaN counts as "fast")."""
        limits = self.limits
        wished = float(parameters.RequestedPublishingInterval)
        least, most = limits.publishing_interval_min_ms, limits.publishing_interval_max_ms
        self.interval_ms = min(max(wished, least), most) if wished == wished else least
        self.keep_alive = min(max(int(parameters.RequestedMaxKeepAliveCount), 1), limits.keep_alive_max)
        longest = max(int(limits.lifetime_max_s * 1000 / self.interval_ms), 3 * self.keep_alive)
        self.lifetime = min(max(int(parameters.RequestedLifetimeCount), 3 * self.keep_alive), longest)
        asked = int(parameters.MaxNotificationsPerPublish)
        self.most = min(asked, limits.notifications_per_publish) if asked else limits.notifications_per_publish

    def new_item(self, node: ua.NodeId, times: ua.TimestampsToReturn) -> Item:
        """An item that isn't yet in the subscription."""
        item = Item(self, self._next_item, node, times)
        self._next_item += 1
        return item

    def add(self, item: Item) -> None:
        """Take an item in."""
        self.items[item.id] = item
        self.session.items += 1

    def remove(self, item_id: int) -> bool:
        """Take it out; False when there is none."""
        item = self.items.pop(item_id, None)
        if item is None:
            return False
        self.event_items.pop(item_id, None)
        self.session.items -= 1
        item.end()
        item.clear()
        item.mode = ua.MonitoringMode.Disabled
        return True

    def set_mode(self, item: Item, mode: ua.MonitoringMode) -> None:
        """Another monitoring mode; what was queued stays unless it is Disabled."""
        item.mode = mode
        if mode == ua.MonitoringMode.Disabled:
            item.clear()
            item.last = None
        elif mode == ua.MonitoringMode.Reporting and item.queue and not item.ready:
            item.ready = True
            self.ready.append(item)

    def close(self) -> None:
        """End it: no item watches anything after this."""
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
        for item_id in list(self.items):
            self.remove(item_id)
        self.ready.clear()
        self.sent.clear()

    @property
    def has_news(self) -> bool:
        """Whether there is something to send."""
        return self.enabled and bool(self.ready)

    def message(self, now: datetime) -> tuple[ua.NotificationMessage, bool]:
        """The next message (a keep-alive when there is nothing to say), and whether more is waiting."""
        message = ua.NotificationMessage()
        message.PublishTime = now
        message.SequenceNumber = self.sequence
        values, events = self._take() if self.enabled else ([], [])
        if values:
            message.NotificationData.append(ua.DataChangeNotification(MonitoredItems=values))
        if events:
            message.NotificationData.append(ua.EventNotificationList(Events=events))
        if message.NotificationData:
            self.keep(message)
        return message, self.has_news

    def keep(self, message: ua.NotificationMessage) -> None:
        """Keep a message for Republish, up to a number of them."""
        self.sent[message.SequenceNumber] = message
        self.sequence = self.sequence % 0xFFFFFFFF + 1
        limits = self.limits
        kept = sum(map(_notifications, self.sent.values()))
        while len(self.sent) > limits.unacknowledged or (
            len(self.sent) > 1 and kept > limits.unacknowledged_notifications
        ):
            kept -= _notifications(self.sent.pop(next(iter(self.sent))))

    def _take(self) -> tuple[list[Any], list[Any]]:
        values: list[Any] = []
        events: list[Any] = []
        room = self.most
        while room and self.ready:
            item = self.ready[0]
            reporting = item.mode == ua.MonitoringMode.Reporting
            while room and item.queue and reporting:
                entry = item.pop()
                room -= 1
                if item.where is None:
                    values.append(ua.MonitoredItemNotification(ClientHandle=item.handle, Value=entry))
                else:
                    events.append(entry)
            if item.queue and reporting:
                break
            item.ready = False
            self.ready.popleft()
        return values, events
