"""Alarms: one durable entity for each condition, so that who has seen what outlives a restart.

``@alarm@KEY`` is told ``raise`` and ``clear`` by who watches (``happenings.py``), and ``acknowledge`` by people; each is an
operation of the journal like any other. An alarm whose trouble is over stays until somebody has seen it. What must stay
true: only committed states are shown; a trouble that comes again after it was over, or that has another occurrence, has
not been seen by anybody; a storm of troubles is brought in bit by bit, and it is said how many still come.

A crash here: the entities come back with their acknowledgements; the next look compares them with how things are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec
from msgspec.structs import replace

from gateway.durable import DurableEntityContext, Engine, EngineStoppedError, LimitExceededError, Registry
from gateway.durable.codec import NULL, Json
from gateway.durable.entity import decode_snapshot
from gateway.durable.identity import EntityId
from gateway.durable.instances import Instance
from gateway.operator.announcer import Announcer
from gateway.operator.event_types import BY_NAME
from protocols.opcua.surface import Alarm

ALARM = "alarm"
_PREFIX = f"@{ALARM}@"
A_LOOK = 200
"""Alarms that are raised or cleared in one look."""
KEY_AT_MOST = 200


class Trouble(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is wrong. occurrence: another one is another trouble, though the condition is the same; while it lasts, the
    words are those of its beginning. fields: texts of its type. severity: 0 for that of its type."""

    type: str
    source: str
    message: str
    occurrence: str = ""
    severity: int = 0
    fields: dict[str, str] = {}


class AlarmState(msgspec.Struct, frozen=True, omit_defaults=True):
    """State of one alarm. changed_us: when it came, went, or was seen."""

    trouble: Trouble
    active: bool = True
    acked: bool = False
    acked_by: str = ""
    comment: str = ""
    changed_us: int = 0


class Seen(msgspec.Struct, frozen=True):
    """Input of ``acknowledge``."""

    actor: str
    comment: str = ""


def alarm_entity(context: DurableEntityContext) -> Json:
    """The entity of one alarm; ``acknowledge`` answers whether there was something to acknowledge."""
    state: AlarmState | None = context.get_state()
    now_us = context.now_us
    match context.operation_name:
        case "raise":
            trouble = msgspec.json.decode(context.get_raw_input(), type=Trouble)
            if state is None or not state.active or state.trouble.occurrence != trouble.occurrence:
                context.set_state(AlarmState(trouble, changed_us=now_us))
            elif state.trouble != trouble:
                context.set_state(replace(state, trouble=trouble))
        case "clear":
            if state is not None and state.active:
                context.set_state(replace(state, active=False, changed_us=now_us))
        case "acknowledge":
            seen = msgspec.json.decode(context.get_raw_input(), type=Seen)
            if state is None or state.acked:
                return {"seen": False, "by": "" if state is None else state.acked_by}
            context.set_state(replace(state, acked=True, acked_by=seen.actor, comment=seen.comment, changed_us=now_us))
            return {"seen": True, "by": seen.actor}
        case other:
            raise ValueError(f"an alarm has no operation {other!r}; it has raise, clear, acknowledge")
    return None


def register_alarms(registry: Registry) -> None:
    """Make the entity known; also where no operator is served, for a journal may hold some."""
    registry.entity(alarm_entity, ALARM, state_type=AlarmState, lockable=False)


def alarm_id(key: str) -> EntityId:
    """The entity of an alarm."""
    return EntityId(ALARM, key)


class Alarms:
    """The committed alarms, and the way to new ones. Made after the engine has recovered."""

    def __init__(self, engine: Engine, announcer: Announcer) -> None:
        self._engine = engine
        self._announcer = announcer
        self._known: dict[str, AlarmState] = {}
        self._of_type: dict[str, dict[str, None]] = {}
        self._flooded: set[str] = set()
        for instance in engine.instances.values():
            self._take(instance)
        engine.on_commit.append(self._committed)

    def __getitem__(self, key: str) -> AlarmState:
        """The committed state of an alarm. Errors: KeyError."""
        return self._known[key]

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def retained(self) -> Iterator[Alarm]:
        """All that people have to see."""
        for key, state in tuple(self._known.items()):  # who takes them may take their time
            alarm = as_alarm(key, state)
            if alarm.retain:
                yield alarm

    def active(self, type_name: str) -> dict[str, AlarmState]:
        """The alarms of one type whose trouble is there."""
        found = ((key, self._known[key]) for key in self._of_type.get(type_name, ()))
        return {key: state for key, state in found if state.active}

    def stand(self, type_name: str, troubles: Mapping[str, str], make: Callable[[str, str], Trouble]) -> int:
        """This is all the trouble of one type now: raise what is new, clear what is over; how much there was to do.

        troubles: key → occurrence; make gives the whole of one. What was begun here is on disk some looks later; until then
        it is there to do.
        """
        known = self._known
        new: list[str] = []
        for key, occurrence in troubles.items():
            state = known.get(key)
            if state is None or not state.active or state.trouble.occurrence != occurrence:
                new.append(key)
        over = [key for key in self._of_type.get(type_name, ()) if key not in troubles and known[key].active]
        for key in new[:A_LOOK]:
            self._post(key, make(key, troubles[key]))
        for key in over[: max(0, A_LOOK - len(new))]:
            self._post(key, None)
        count = len(new) + len(over)
        self._tell_of_flood(type_name, count - A_LOOK)
        return count

    def _post(self, key: str, trouble: Trouble | None) -> None:
        try:
            if trouble is None:
                self._engine.client.post_to_entity(alarm_id(key), "clear")
            else:
                self._engine.client.post_to_entity(alarm_id(key), "raise", trouble)
        except (LimitExceededError, EngineStoppedError):
            pass  # its mailbox is full, so it hears of it anyway; or all ends here. The next look says it again

    def _tell_of_flood(self, type_name: str, rest: int) -> None:
        if rest <= 0:
            self._flooded.discard(type_name)
        elif type_name not in self._flooded:
            self._flooded.add(type_name)
            words = f"{rest} more alarms of type {type_name} are on their way, {A_LOOK} a second"
            self._announcer.tell("EventsSuppressed", words, severity=BY_NAME[type_name].severity, Count=rest)

    def _committed(self, instance: Instance) -> None:
        key = self._take(instance)
        if key is not None and self._announcer.server is not None:
            self._announcer.server.alarm(as_alarm(key, self._known[key]))

    def _take(self, instance: Instance) -> str | None:
        """Take over the committed state of an alarm's entity; its key, None for anything else."""
        if not instance.id.startswith(_PREFIX) or instance.row is None:
            return None
        raw = decode_snapshot(instance.row.state).state
        if raw is NULL:
            return None
        key = instance.id.removeprefix(_PREFIX)
        state = msgspec.json.decode(raw, type=AlarmState)
        if state.trouble.type not in BY_NAME:
            return None  # of a version that knew of other troubles
        self._known[key] = state
        self._of_type.setdefault(state.trouble.type, {})[key] = None
        return key


def as_alarm(key: str, state: AlarmState) -> Alarm:
    """As the server takes it."""
    trouble = state.trouble
    return Alarm(
        key,
        trouble.type,
        trouble.source,
        trouble.message,
        trouble.severity or BY_NAME[trouble.type].severity,
        state.changed_us,
        state.active,
        state.acked,
        state.acked_by,
        state.comment,
        trouble.fields,
    )
