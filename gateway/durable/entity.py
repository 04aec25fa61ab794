"""The pure core of an entity: (state, operation, now) → state, answer, actions.

An entity is a state with a mailbox. Operations run one at a time, in order of arrival, and each is atomic: when one
raises, its state change, its signals and its activities are as if they had never been, and its caller gets the error.

Beyond Azure's entities, an operation may start an activity whose outcome comes back as another operation of the same
entity, and may leave its caller waiting and answer it from a later operation: that is how a breaker holds a field
command in flight and still hears everything else.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime

import msgspec

from gateway.clock import from_us, to_us
from gateway.durable import history as h
from gateway.durable.codec import MAX_TURN_BYTES, NULL, Json, Raw, pack, unpack
from gateway.durable.errors import FailureDetails, LimitExceededError, describe, traceback_of
from gateway.durable.identity import EntityId, check_instance_id, check_name, check_text, entity_text, name_of

MAX_WAITING_CALLERS = 10_000
CLIENT = "client:"
"""Callers that begin so are no instances, but clients within one process."""
MAX_ACTIONS_PER_OPERATION = 20_000


class OperationRequest(
    msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type", tag="OperationRequest"
):
    """One operation that an entity is asked for. caller and caller_task: whom to answer; empty for a signal. sent_us: when
    it was sent, or was to be told; 0 for one that no restart outlives."""

    name: str
    input: Raw = NULL
    caller: str = ""
    caller_task: int = 0
    sent_us: int = 0


class EntitySnapshot(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """All that an entity is between two operations; what the journal keeps of it.

    state: JSON, null while there is none. next_task: the next activity's id. waiting: callers without an answer yet, by
    token. lock_owner, lock_task: the orchestration that has it for itself, and the id of its lock.
    """

    state: Raw = NULL
    next_task: int = 1
    waiting: dict[str, tuple[str, int]] = {}
    lock_owner: str = ""
    lock_task: int = 0


decode_snapshot = msgspec.json.Decoder(EntitySnapshot).decode
encode_snapshot = msgspec.json.Encoder().encode

_UNSET = object()


class DurableEntityContext:
    """What the author of an entity sees during one operation."""

    __slots__ = (
        "_actions",
        "_bytes",
        "_deferred",
        "_entity",
        "_id",
        "_next_task",
        "_request",
        "_result",
        "_state",
        "_waiting",
        "now_us",
    )

    def __init__(self, entity: EntityCore, request: OperationRequest, now_us: int) -> None:
        self.now_us = now_us
        self._entity = entity
        self._id = entity.id
        self._request = request
        self._state: object = _UNSET
        self._result: Json = None
        self._deferred = False
        self._actions: list[h.EntityAction] = []
        self._bytes = 0
        self._next_task = entity.next_task
        self._waiting: dict[str, tuple[str, int]] | None = None

    @property
    def entity_id(self) -> EntityId:
        """Identity of this entity."""
        return self._id

    @property
    def entity_name(self) -> str:
        """Name of its kind, lower case."""
        return self._id.name

    @property
    def entity_key(self) -> str:
        """Its key."""
        return self._id.key

    @property
    def operation_name(self) -> str:
        """Name of the operation that was asked for."""
        return self._request.name

    @property
    def caller(self) -> str:
        """Who asked: an instance id, ``client:…``, or empty for a signal."""
        return self._request.caller

    @property
    def is_newly_constructed(self) -> bool:
        """True while the entity has no state yet."""
        return self._entity.state is None

    @property
    def sent_us(self) -> int:
        """When this operation was sent, or was to be told (engine time, µs): long ago, if the gateway was without power
        meanwhile. Now, for one that no restart outlives."""
        return self._request.sent_us or self.now_us

    @property
    def current_utc_datetime(self) -> datetime:
        """Time of this turn (aware, UTC)."""
        return from_us(self.now_us)

    def get_state(self, initializer: Callable[[], Json] | None = None) -> Json:
        """The state (of the registered type), what the initializer makes when there is none, or None."""
        if self._state is not _UNSET:
            return self._state
        state = self._entity.load_state()
        return initializer() if state is None and initializer is not None else state

    def set_state(self, state: Json) -> None:
        """Set the state; kept when the operation ends well."""
        self._state = state

    def destruct_on_exit(self) -> None:
        """The entity has no state any more when this operation ends."""
        self._state = None

    def get_input(self) -> Json:
        """The operation's input, a fresh object each time.

        Errors: NotSerializableError, when it holds an object that can't be rebuilt.
        """
        return unpack(self._request.input, lambda: f"the input of {self._request.name} on {self._id}")

    def get_raw_input(self) -> Raw:
        """The operation's input as JSON, for authors who decode it to a type of their own."""
        return self._request.input

    def set_result(self, result: Json) -> None:
        """What the caller is answered."""
        self._result = result

    def signal_entity(
        self, entity_id: EntityId, operation: str, input: Json = None, signal_time: datetime | None = None
    ) -> None:
        """Tell another entity (or this one) something, now or at signal_time (a naive one is UTC)."""
        target = entity_text(entity_id)
        data = pack(input, f"the input of {check_name(operation, 'an operation')} on {target}")
        self._act(h.EntitySignal(target, operation, data, 0 if signal_time is None else to_us(signal_time)))

    def start_new(self, name: str | Callable[..., object], input: Json = None, instance_id: str | None = None) -> str:
        """Start an orchestration; returns its id (one that no other start gets, unless given)."""
        named = name_of(name)
        instance = check_instance_id(instance_id or f"{self._id.name}-{self._id.key}-{self._next_id()}")
        self._act(h.EntityStarts(instance, named, pack(input, f"the input of {named}")))
        return instance

    def call_activity(
        self, name: str | Callable[..., object], input_: Json = None, *, on_result: str, context: Json = None
    ) -> int:
        """Start an activity; its outcome comes back as operation ``on_result`` with the input
        ``{"ok", "result", "error": {"type", "message"} | None, "context", "id"}``. Returns its id."""
        named = name_of(name)
        check_name(on_result, "the operation that takes a result")
        task_id = self._next_id()
        data = pack(input_, f"the input of activity {named}")
        self._act(
            h.EntityActivity(
                task_id, named, on_result, data, pack(context, "the activity's context"), f"{self._id}:{task_id}"
            )
        )
        return task_id

    def defer_result(self) -> str:
        """Let the caller wait; ``resolve`` or ``reject`` with this token answers it. Empty when nobody waits."""
        self._deferred = True
        if not self._request.caller:
            return ""
        waiting = self._own_waiting()
        if len(waiting) >= MAX_WAITING_CALLERS:
            raise LimitExceededError(f"{MAX_WAITING_CALLERS} callers wait for {self._id} already")
        token = f"w{self._next_id()}"
        waiting[token] = (self._request.caller, self._request.caller_task)
        return token

    def waits(self, token: str) -> bool:
        """True while a caller waits for the answer that belongs to this token."""
        waiting = self._entity.waiting if self._waiting is None else self._waiting
        return token in waiting

    def resolve(self, token: str, result: Json = None) -> None:
        """Answer a caller that waits; a token that was used (or is empty) does nothing."""
        self._answer(token, pack(result, f"an answer of {self._id}"), None)

    def reject(self, token: str, message: str, type: str = "EntityError") -> None:
        """Answer a caller that waits with an error."""
        self._answer(token, NULL, FailureDetails(check_name(type, "an error"), check_text(message, "a rejection")))

    def _answer(self, token: str, result: Raw, failure: FailureDetails | None) -> None:
        waiting = self._own_waiting()
        caller = waiting.pop(token, None)
        if caller is not None:
            self._act(h.EntityReply(caller[0], caller[1], result, failure))

    def _own_waiting(self) -> dict[str, tuple[str, int]]:
        if self._waiting is None:
            self._waiting = dict(self._entity.waiting)
        return self._waiting

    def _next_id(self) -> int:
        task_id = self._next_task
        self._next_task += 1
        return task_id

    def _act(self, action: h.EntityAction) -> None:
        if len(self._actions) >= MAX_ACTIONS_PER_OPERATION:
            raise LimitExceededError(f"an operation may take {MAX_ACTIONS_PER_OPERATION} actions")
        self._bytes += h.payload_bytes(action)
        if self._bytes > MAX_TURN_BYTES:
            raise LimitExceededError(f"an operation may hand over {MAX_TURN_BYTES} bytes")
        self._actions.append(action)


EntityContext = DurableEntityContext
EntityFunction = Callable[[DurableEntityContext], object]


class EntityCore:
    """One entity in memory. lock: the orchestration that has it for itself, and the id of its lock."""

    __slots__ = ("_cached", "_state_type", "function", "id", "lock", "next_task", "state", "waiting")

    def __init__(
        self,
        entity_id: EntityId,
        function: EntityFunction,
        state_type: type[msgspec.Struct] | None,
        snapshot: EntitySnapshot,
    ) -> None:
        self.id = entity_id
        self.function = function
        self.state: Raw | None = None if snapshot.state is NULL else snapshot.state
        self.next_task = snapshot.next_task
        self.waiting = snapshot.waiting
        self.lock = (snapshot.lock_owner, snapshot.lock_task) if snapshot.lock_owner else None
        self._state_type = state_type
        self._cached: msgspec.Struct | None = None

    def load_state(self) -> Json:
        """The state as an object. A typed state is immutable, so one object serves all operations."""
        if self.state is None:
            return None
        if self._state_type is None:
            return unpack(self.state, lambda: f"the state of {self.id}")
        if self._cached is None:
            self._cached = msgspec.json.decode(self.state, type=self._state_type)
        return self._cached

    def snapshot(self) -> EntitySnapshot:
        """What the journal keeps."""
        state = NULL if self.state is None else self.state
        return EntitySnapshot(state, self.next_task, self.waiting, *(self.lock or ()))

    def step(self, request: OperationRequest, now_us: int) -> tuple[h.OperationRecord, bool]:
        """Run one operation: its record, and whether its caller gets the answer now (not: later, or nobody waits)."""
        context = DurableEntityContext(self, request, now_us)
        try:
            returned = self.function(context)
            result = context._result if returned is None else returned
            answer = NULL if context._deferred else pack(result, lambda: f"the answer of {request.name} on {self.id}")
            state = context._state
            encoded = None if state is _UNSET or state is None else pack(state, lambda: f"the state of {self.id}")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever the author's code raises (SystemExit, too) is the outcome
            failure = describe(error, traceback_of(error))
            record = h.OperationRecord(request.name, request.input, request.caller, failure=failure)
            return record, bool(request.caller)
        self._keep(context, encoded)
        record = h.OperationRecord(request.name, request.input, request.caller, answer, None, tuple(context._actions))
        return record, bool(request.caller) and not context._deferred

    def _keep(self, context: DurableEntityContext, encoded: Raw | None) -> None:
        state = context._state
        if state is not _UNSET:
            self.state = encoded
            self._cached = state if self._state_type is not None and isinstance(state, self._state_type) else None
        self.next_task = context._next_task
        if context._waiting is not None:
            self.waiting = context._waiting


def entity_function(function: Callable[..., object]) -> EntityFunction:
    """The function of an entity: itself, or for a class one that calls a method for each operation.

    A class-based entity keeps its attributes as state, and may take (input) or (input, context) in each method.
    ``delete`` ends it, unless the class has a method of that name. Errors: TypeError for a class that wants arguments.
    """
    if not inspect.isclass(function):
        return function
    try:
        inspect.signature(function).bind()
    except TypeError:
        raise TypeError(
            f"the entity {function.__name__} must be made without arguments (its __init__ takes some): it is there as soon "
            "as it is spoken to"
        ) from None

    def run(context: DurableEntityContext) -> object:
        entity = function()
        entity.__dict__.update(context.get_state() or {})
        operation = context.operation_name
        method = None if operation.startswith("_") else getattr(entity, operation, None)
        if method is None or not callable(method):
            if operation == "delete":
                context.destruct_on_exit()
                return None
            raise AttributeError(f"the entity {context.entity_name} has no operation {operation!r}")
        takes = len(inspect.signature(method).parameters)
        result: object = method(*(context.get_input(), context)[:takes])
        if context._state is not None:
            context.set_state(dict(vars(entity)))
        return result

    run.__name__ = function.__name__
    return run
