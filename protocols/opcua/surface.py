"""What an OPC UA surface for people is made of, in words of our own: the seam between a gateway and the server.

The gateway describes its objects, types, methods and events once, then gives values when they change and answers calls;
the server (``server.py``) makes OPC UA of it. Nothing in here knows an OPC UA library, and nothing in here does I/O.

What must stay true:

* An object's key is its place for good: ``Feeder/F0001`` is node ``s=Feeder/F0001`` in our namespace, its variable Pos
  is ``s=Feeder/F0001/Pos``, whatever folder it is shown in. Clients keep these for years.
* What the gateway gives (values, events, answers) is committed: the server sends it out at once.
* The server asks the gateway before it lets anybody read, call or acknowledge, and tells it of everything that a person
  did or tried: the gateway decides and keeps the record, the server enforces.

Times are µs since 1970 UTC.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Scalar = bool | int | float | str | None
Value = Scalar | Sequence[Scalar]
"""A value; None stands for "null" and comes with a quality that is not GOOD, or with a text that is not there."""


class DataType(enum.Enum):
    """Types of values; TIME is engine time as DateTime (µs in here), DBPOS is IEC 61850's double point (an enumeration)."""

    BOOLEAN = "Boolean"
    INT32 = "Int32"
    UINT32 = "UInt32"
    INT64 = "Int64"
    DOUBLE = "Double"
    STRING = "String"
    TIME = "UtcTime"
    DBPOS = "Dbpos"


class Grade(enum.Enum):
    """Quality of a value as OPC UA says it: Good, Uncertain (older than it may be), Bad (never read, or unreadable)."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class Status(enum.Enum):
    """How a call ended, by what the caller should do; the server maps each to one status code.

    OK Good; BAD_ARGUMENT BadInvalidArgument; OUT_OF_RANGE BadOutOfRange; NOT_FOUND BadNotFound; REFUSED BadInvalidState;
    DENIED BadUserAccessDenied; TOO_LARGE BadEncodingLimitsExceeded; TIMEOUT BadTimeout; UNAVAILABLE BadOutOfService;
    TOO_MANY BadTooManyOperations; INTERNAL BadInternalError.
    """

    OK = "ok"
    BAD_ARGUMENT = "bad_argument"
    OUT_OF_RANGE = "out_of_range"
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    DENIED = "denied"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    TOO_MANY = "too_many"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a type. unit: of the value, as text (kW, s, %). history: HistoryRead is answered for it."""

    name: str
    type: DataType
    description: str
    unit: str = ""
    array: bool = False
    history: bool = False


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of a method. optional: an empty text, or NaN for numbers, means "not given"."""

    name: str
    type: DataType
    description: str
    array: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a type. Every method has at least the output Message (a sentence)."""

    name: str
    description: str
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class ObjectType:
    """A type of objects, declared once; its objects share the method nodes."""

    name: str
    description: str
    variables: tuple[Variable, ...]
    methods: tuple[Method, ...] = ()


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder. parent: key of a folder or object, empty for the Objects folder."""

    key: str
    name: str
    parent: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Object:
    """An object. key: see above; parent: as for a folder; type: the name of its ObjectType."""

    key: str
    name: str
    parent: str
    type: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class EventType:
    """A type of events, below BaseEventType, or below AlarmConditionType where alarm is True. fields: beside the standard
    ones (EventId, Time, SourceName, Message, Severity ...)."""

    name: str
    description: str
    fields: tuple[Variable, ...] = ()
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Surface:
    """All that is there at the start. namespace: its URI."""

    namespace: str
    types: tuple[ObjectType, ...]
    event_types: tuple[EventType, ...]
    folders: tuple[Folder, ...]
    objects: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """A value with its quality; time_us: when it was so at the source (0: not known)."""

    value: Value
    grade: Grade = Grade.GOOD
    time_us: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """A variable of an object has this value from now on."""

    object: str
    variable: str
    sample: Sample


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened. type: name of an EventType; source: key of an object; severity 1 to 1000 (OPC UA: above 800
    urgent). fields: of its type."""

    type: str
    source: str
    message: str
    severity: int
    time_us: int
    fields: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alarm:
    """The present state of one alarm condition; key names it for good (``breaker_failed/F0001``).

    active: the trouble is there. acked: somebody has seen it (acked_by says who). An alarm that is neither active nor
    waits for an acknowledgement is forgotten (``retain`` False).
    """

    key: str
    type: str
    source: str
    message: str
    severity: int
    time_us: int
    active: bool
    acked: bool
    acked_by: str = ""
    comment: str = ""
    fields: Mapping[str, Value] = field(default_factory=dict)

    @property
    def retain(self) -> bool:
        """True while people have to see it."""
        return self.active or not self.acked


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is at the other end of a session.

    user: empty for an anonymous reader. roles: their names. certificate: SHA-256 thumbprint of the client's application
    certificate, hexadecimal. session: an id for records, never the authentication token. address: host and port.
    """

    session: str
    user: str
    roles: frozenset[str]
    certificate: str
    address: str
    application: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended. message: a sentence, sent with every status. outputs: all but Message, in the order declared."""

    status: Status
    message: str
    outputs: tuple[Value, ...] = ()


class Doing(enum.Enum):
    """What the server tells of people and programs at its door."""

    LOGIN = "login"
    LOGOUT = "logout"
    LOGIN_REFUSED = "login_refused"
    CERTIFICATE_REFUSED = "certificate_refused"
    CALL_REFUSED = "call_refused"
    READ_REFUSED = "read_refused"
    LOCKED_OUT = "locked_out"
    SESSION_EXPIRED = "session_expired"
    SESSION_REFUSED = "session_refused"
    ATTACK = "attack"
    """Something that no honest client does: a guessed token, a foreign subscription, an oversized chunk."""


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that was done or tried; detail is a sentence. caller is as far as it is known."""

    doing: Doing
    caller: Caller
    detail: str


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Samples oldest first (newest first where that was asked for); next: where to go on, empty at the end."""

    samples: Sequence[Sample]
    next: str = ""


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events of a span, as HistoryPage."""

    events: Sequence[Event]
    next: str = ""


class Backend(Protocol):
    """The gateway, as the server sees it. Called on the event loop."""

    def may_read(self, caller: Caller, type_name: str, variable: str) -> bool:
        """Whether this caller may read (subscribe to, read the history of) this variable of objects of this type."""

    def may_call(self, caller: Caller, type_name: str, method: str) -> bool:
        """Whether this caller may call this method of objects of this type."""

    def may_see_events(self, caller: Caller, event_type: str) -> bool:
        """Whether this caller may subscribe to events and alarms of this type."""

    async def call(
        self, caller: Caller, object_key: str, type_name: str, method: str, inputs: tuple[Value, ...]
    ) -> Answer:
        """Carry out a call whose caller, object, arguments' number and types were checked. Never raises for bad input."""

    async def acknowledge(self, caller: Caller, alarm_key: str, comment: str) -> Answer:
        """Somebody has seen an alarm. The changed alarm comes by ``Server.alarm``."""

    async def history(
        self, object_key: str, variable: str, start_us: int, end_us: int, limit: int, after: str, newest_first: bool
    ) -> HistoryPage:
        """Past values of a span (both ends belong to it), at most limit of them."""

    async def event_history(self, start_us: int, end_us: int, limit: int, after: str, newest_first: bool) -> EventPage:
        """Past events of a span."""

    def tell(self, deed: Deed) -> None:
        """Something was done or tried; it goes into the journal and may become an event."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """One session that is open now."""

    caller: Caller
    since_us: int
    last_request_us: int
    subscriptions: int
    items: int


class Server(Protocol):
    """The running server, as the gateway sees it."""

    def change(self, changes: Iterable[Change]) -> None:
        """These values are so from now on. Cheap where nobody subscribed; KeyError for an unknown object or variable."""

    def add(self, objects: Sequence[Object]) -> None:
        """These objects have come (an orchestration, a timer). Their values follow by ``change``."""

    def remove(self, keys: Sequence[str]) -> None:
        """These objects are gone; unknown keys are ignored."""

    def event(self, event: Event) -> None:
        """Send an event to those who subscribed."""

    def alarm(self, alarm: Alarm) -> None:
        """An alarm came, changed or went."""

    def sessions(self) -> list[SessionInfo]:
        """Who is there now."""

    def certificate_expires_us(self) -> int:
        """When the server's own certificate expires."""
