"""Every limit of the server for operators, in one place, and what happens when it is reached.

What must stay true: whatever somebody sends or doesn't send, memory and the time of one turn of the loop stay bounded.
Before a log-in the limits are tight (nobody has proved anything yet), after it wide enough for honest clients.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a site says of its server.

    host, port: where to listen (port 0: any). max_sessions: at once, of all users. idle_timeout_s: a session that asks
    for nothing so long ends. anonymous_read: clients with a trusted certificate and no user may look, never act.
    """

    host: str
    port: int
    application_uri: str
    anonymous_read: bool = False
    max_sessions: int = 50
    idle_timeout_s: float = 600.0
    server_name: str = "gridlatch"
    product_uri: str = "urn:gridlatch"
    version: str = "0"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits; sizes in bytes, times in seconds. Beside each the consequence."""

    # Connections
    spare_connections: int = 32
    """Beyond max_sessions. Above: the oldest one that hasn't logged in, of the busiest address, is closed."""
    waiting_per_address: int = 10
    """Not logged in, from one address. Above: refused at once."""
    connections_burst: int = 60
    connections_per_s: float = 10.0
    """New connections of one address: so many at once, then so many a second. Above: refused at once."""
    log_in_s: float = 15.0
    """From the connection to the log-in. Later: closed."""
    stalled_s: float = 20.0
    """A peer that takes no answers so long is closed."""
    write_buffer: int = 1024 * KIB
    """Answers that wait in the socket's buffer. Above: no request is read until it is empty."""

    # Messages
    chunk: int = 64 * KIB
    """One chunk. Above: ERR, closed, before it is buffered."""
    message_before: int = 64 * KIB
    """One message before the log-in. Above: closed."""
    message_after: int = KIB * KIB
    """One message after it. Above: closed."""
    elements: int = 40_000
    """Fields in one message. Above: BadEncodingLimitsExceeded."""
    depth: int = 16
    """Variants in Variants, and structures in structures. Deeper: BadEncodingLimitsExceeded."""
    inline: int = 8 * KIB
    """A longer message is decoded in a thread, one at a time."""
    response: int = 4 * KIB * KIB
    """One answer. Above: BadResponseTooLarge."""
    certificate: int = 16 * KIB
    """A certificate with its chain. Above: refused unread."""
    channel_lifetime_s: float = 3600.0
    """Longest life of keys without renewal. Later: closed."""
    channel_lifetime_min_s: float = 10.0

    # Sessions
    session_timeout_min_s: float = 5.0
    recheck_s: float = 5.0
    """How often sessions are looked at again: whose certificate or user is no longer let in, is thrown out."""
    wrong_tokens: int = 5
    """Requests with a token that isn't this session's. Above: closed."""
    calls_at_once: int = 16
    """Calls and history reads of one session that wait for their answer. Above: BadTooManyOperations."""
    queued_requests: int = 32
    """Of one connection. Above: nothing more is read from the socket until they are done."""

    # Services
    nodes_per_read: int = 1000
    nodes_per_browse: int = 500
    references_per_node: int = 1000
    """Given at once; the rest by BrowseNext."""
    references_per_browse: int = 5000
    continuation_points: int = 20
    """Of one session; above: BadNoContinuationPoints."""
    nodes_per_translate: int = 500
    nodes_per_register: int = 1000
    nodes_per_call: int = 100
    nodes_per_history: int = 100
    items_per_call: int = 1000
    path_elements: int = 20
    path_targets: int = 1000

    # Subscriptions
    subscriptions_per_session: int = 20
    items_per_session: int = 20_000
    items_total: int = 100_000
    """Of all sessions. Above: BadTooManyMonitoredItems."""
    queue_per_item: int = 100
    """Values (events: ten times as many) that wait; above: the oldest (or newest, as the client asked) is dropped and the
    overflow bit is set."""
    backlog: int = 200_000
    """Values and events, beyond one for each item, that wait for all sessions together. Above: queues hold one."""
    notifications_per_publish: int = 500
    unacknowledged: int = 32
    unacknowledged_notifications: int = 5000
    """Messages, and notifications in them, that one subscription keeps for Republish. Above: the oldest is forgotten."""
    publish_requests: int = 100
    """That wait, of one session. Above: the oldest gets BadTooManyPublishRequests."""
    publishing_interval_min_ms: float = 50.0
    publishing_interval_max_ms: float = 60_000.0
    keep_alive_max: int = 1000
    lifetime_max_s: float = 3600.0
    """Without a Publish. Longer: the subscription ends."""
    refresh_every_s: float = 1.0
    """ConditionRefresh of one session; more often: BadRefreshInProgress."""
    refresh_waits_s: float = 5.0
    """How long a refresh waits for room in a full queue. Longer: it drops as queues do."""
    filter_elements: int = 50
    select_clauses: int = 100

    # Telling
    tells_per_address: int = 20
    """Refusals of one address within tell_window_s that are told one by one; the rest is counted and told as a sum."""
    tells: int = 200
    """The same of all addresses."""
    tell_window_s: float = 60.0
