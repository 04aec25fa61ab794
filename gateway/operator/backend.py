"""The gateway behind the operators' server: who may, what is carried out, what was, and the record of it all.

What must stay true: every call that is let through is on record with who asked, by which role, with which arguments, and
how it ended, before it is answered; so is every one that is refused, as long as nobody floods the gateway with them
(see ``deeds``). Who was answered reads what the answer said: it is shown ahead of the answer. A call goes on to its end,
and its record is written, also when its client has gone. Calls are bounded: those under way of one session and in all,
and those of one user in a while. A crash in a call leaves the record of what was asked (that of the operation, ahead of
its effect) without that of its end.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable

import structlog

from gateway.control import ControlError
from gateway.durable.codec import Json
from gateway.operations.desk import Desk
from gateway.operator.alarms import Alarms
from gateway.operator.announcer import Announcer
from gateway.operator.calls import STATUS, Call, Calls
from gateway.operator.deeds import Deeds
from gateway.operator.history import Histories
from gateway.operator.names import GATEWAY, GATEWAY_TYPE
from gateway.operator.peers import argument, peer, printable
from gateway.operator.quota import Pace
from gateway.operator.roles import Role, granting, may_read, may_see, roles_of
from gateway.operator.station_watch import StationWatch
from gateway.operator.surface_model import TYPES
from protocols.opcua.surface import (
    Answer,
    Caller,
    Deed,
    Doing,
    EventPage,
    HistoryPage,
    Server,
    Status,
    Value,
)

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

CALLS_AT_ONCE = 256
CALLS_OF_SESSION = 64
"""Calls under way; one more is refused with BadTooManyOperations."""
CALLS_OF_USER = 2_000
CALLS_OF_USER_PER_S = 100.0
"""Calls of one user in a row, and how many more come with each second; one more is refused in the same way."""
MESSAGE_AT_MOST = 1_000
CALL_S = 60.0
"""After so long a call is answered, whatever the disk does."""
_INPUTS = {(each.name, method.name): [i.name for i in method.inputs] for each in TYPES for method in each.methods}
"""Names of the arguments of each method."""


class OperatorBackend:
    """See ``protocols.opcua.surface.Backend``. Made once the engine has recovered."""

    def __init__(self, desk: Desk) -> None:
        self.announcer = Announcer(desk.engine)
        self.deeds = Deeds(desk.engine, self.announcer)
        self.alarms = Alarms(desk.engine, self.announcer)
        self.watch = StationWatch(desk.engine, desk.field)
        self._desk = desk
        self._calls = Calls(desk, self.watch, self.alarms)
        self._histories = Histories(desk)
        self._pace = Pace(CALLS_OF_USER, CALLS_OF_USER_PER_S, time.monotonic)
        self._under_way: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[Answer]] = set()
        self.tell_now: Callable[[str], None] = lambda key: None
        """Tells what is committed of the object with this key; set once there is a feed."""

    @property
    def server(self) -> Server | None:
        """Where events and alarms go; None until there is one."""
        return self.announcer.server

    @server.setter
    def server(self, server: Server | None) -> None:
        self.announcer.server = server

    @property
    def counts(self) -> Counter[Doing]:
        """What was done and tried at the door since the start."""
        return self.deeds.counts

    # Who may

    def _roles(self, caller: Caller) -> frozenset[Role]:
        operators = self._desk.field.site.operators
        return roles_of(caller, operators is not None and operators.anonymous_read)

    def may_read(self, caller: Caller, type_name: str, variable: str) -> bool:
        """See Backend; all variables of a type are alike."""
        return may_read(self._roles(caller), type_name)

    def may_call(self, caller: Caller, type_name: str, method: str) -> bool:
        """See Backend."""
        return granting(self._roles(caller), type_name, method) is not None

    def may_see_events(self, caller: Caller, event_type: str) -> bool:
        """See Backend."""
        return may_see(self._roles(caller), event_type)

    # Calls

    async def call(
        self, caller: Caller, object_key: str, type_name: str, method: str, inputs: tuple[Value, ...]
    ) -> Answer:
        """See Backend."""
        roles = self._roles(caller)
        role = granting(roles, type_name, method)
        if role is None or not caller.user:
            answer = Answer(Status.DENIED, f"{type_name}.{method} is not for your roles")
            await self._keep(caller, "", type_name, method, object_key, inputs, answer)
            return answer
        if why := self._why_not_now(caller):
            answer = Answer(Status.TOO_MANY, why)
            await self._keep(caller, role, type_name, method, object_key, inputs, answer)
            return answer
        work = self._carry_out(Call(peer(caller, role), roles, object_key, inputs), caller, type_name, method)
        task = asyncio.get_running_loop().create_task(work, name=f"call {method}")
        self._under_way[caller.session] += 1
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(caller.session, done))
        return await asyncio.shield(task)

    def _why_not_now(self, caller: Caller) -> str:
        """Why one more call of theirs is too many; empty if it is not."""
        if self._under_way.total() >= CALLS_AT_ONCE or self._under_way[caller.session] >= CALLS_OF_SESSION:
            return "too many calls are under way: wait for some of them to end"
        if not self._pace.take(caller.user):
            return f"too many calls within a short time: {CALLS_OF_USER_PER_S:g} a second are possible"
        return ""

    def _ended(self, session: str, task: asyncio.Task[Answer]) -> None:
        self._tasks.discard(task)
        self._under_way[session] -= 1
        if not self._under_way[session]:
            del self._under_way[session]

    async def _carry_out(self, call: Call, caller: Caller, type_name: str, method: str) -> Answer:
        work = asyncio.get_running_loop().create_task(self._answer(call, type_name, method))
        self._tasks.add(work)
        work.add_done_callback(self._tasks.discard)
        # Not cancelled when it is late: what was asked for can't be taken back, and who asked has to be told now.
        done, _ = await asyncio.wait({work}, timeout=CALL_S)
        if done:
            answer = work.result()
        else:
            words = f"{method}: no result within {CALL_S:g} s; it may or may not have taken effect"
            answer = Answer(Status.TIMEOUT, words)
        wait_s = CALL_S if done else 0.0
        await self._keep(
            caller, str(call.peer["role"]), type_name, method, call.key, call.inputs, answer, wait_s=wait_s
        )
        try:
            self.tell_now(call.key)
        except Exception:  # what was done is answered all the same; the feed, which tells it too, says what is wrong
            log.exception("operator_not_told_ahead", object=call.key)
        return answer

    async def _answer(self, call: Call, type_name: str, method: str) -> Answer:
        """Carry out a call; never raises for what it is about."""
        try:
            return await self._calls.methods[type_name, method](call)
        except ControlError as error:
            return Answer(STATUS[error.code], printable(error.message, MESSAGE_AT_MOST))
        except Exception as error:  # a fault in one call must end neither its session nor the others'
            log.exception("operator_call_failed", method=f"{type_name}.{method}", object=call.key)
            words = f"{method} failed: {type(error).__name__}; the gateway's log tells more"
            return Answer(Status.INTERNAL, words)

    async def _keep(
        self,
        caller: Caller,
        role: str,
        type_name: str,
        method: str,
        key: str,
        inputs: tuple[Value, ...],
        answer: Answer,
        wait_s: float = CALL_S,
    ) -> None:
        """Record how a call ended, and wait for the disk, at most so long."""
        given = dict(zip(_INPUTS.get((type_name, method), ()), map(argument, inputs), strict=False))
        told: dict[str, Json] = {
            "actor": caller.user,
            "peer": peer(caller, role),
            "object": argument(key),
            "inputs": given,
            "reason": given.get("Reason", given.get("Comment", "")),
            "status": answer.status.value,
            "message": answer.message,
            "outputs": [argument(one) for one in answer.outputs],
        }
        acted = answer.status in (Status.OK, Status.TIMEOUT) or bool(answer.outputs)
        written = self.deeds.call(caller, f"opcua.{type_name}.{method}", told, acted)
        if written is not None:
            await asyncio.wait([written], timeout=wait_s)

    async def acknowledge(self, caller: Caller, alarm_key: str, comment: str) -> Answer:
        """See Backend: the standard method of an alarm is the gateway's own by another name."""
        return await self.call(caller, GATEWAY, GATEWAY_TYPE, "Acknowledge", (alarm_key, comment))

    # What was

    async def history(
        self, object_key: str, variable: str, start_us: int, end_us: int, limit: int, after: str, newest_first: bool
    ) -> HistoryPage:
        """See Backend."""
        return await self._histories.values(object_key, variable, start_us, end_us, limit, after, newest_first)

    async def event_history(self, start_us: int, end_us: int, limit: int, after: str, newest_first: bool) -> EventPage:
        """See Backend."""
        return await self._histories.events(start_us, end_us, limit, after, newest_first)

    def tell(self, deed: Deed) -> None:
        """See Backend."""
        self.deeds.tell(deed)
