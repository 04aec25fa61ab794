"""What procedures leave behind when they end: the station, commands under way, feeders that nobody will close.

A procedure that ends well gives the station back and has closed what it opened. One that is terminated, or dies of a
mistake in its code, does neither. What must stay true: the station is free again at most two looks later; a command whose
procedure has ended is not wanted any more, so nothing is sent for it that has not left yet; feeders that stay shed are
named to people, who have to decide; so are those that have left the site, and a procedure that is suspended. A crash here:
the next look finds the same.
"""

from __future__ import annotations

import structlog

from gateway.durable import Engine, EngineStoppedError, LimitExceededError
from gateway.durable.identity import EntityId
from gateway.durable.instances import EntityInstance, Orchestration
from gateway.shedding.breaker_model import Breaker
from gateway.shedding.entities import BREAKER, breaker_id, substation_id
from gateway.shedding.field import Field
from gateway.shedding.substation import Substation
from protocols.base import Position

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

NAMED_AT_MOST = 20
"""Feeders that are named in one line of the log; the line says how many there are."""


class Leavings:
    """Looks after what ended procedures have left behind; ``begin``, ``breaker`` for each, ``end`` make one look."""

    def __init__(self, engine: Engine, field: Field) -> None:
        self._engine = engine
        self._field = field
        self._silent = ""
        self._still = ""
        self._shed: set[str] = set()
        self._told: set[str] = set()
        self._first = True

    def begin(self) -> None:
        """Free the station if the procedure that has it is gone; not at the first look, for it may just be saying so."""
        self._shed = set()
        if self._first:
            self._first = False
            self._name_gone()
        instance = self._engine.instances.get(str(substation_id(self._field.site)))
        state = instance.core.load_state() if isinstance(instance, EntityInstance) else None
        running = state.running if isinstance(state, Substation) else None
        if running is None or self.lives(running.instance):
            self._silent = ""
            self._tell_of_suspended("" if running is None else running.instance)
        elif self._silent != running.instance:
            self._silent = running.instance
        else:
            why = "it ended without giving the station back"
            log.error("procedure_lost", instance=running.instance, why=why)
            ended = {"instance": running.instance, "result": {"status": "ended", "reason": why}}
            self._post(substation_id(self._field.site), "finished", ended)

    def _tell_of_suspended(self, procedure: str) -> None:
        """A suspended procedure keeps the station for itself; somebody may have forgotten it."""
        one = self._engine.instances.get(procedure)
        still = procedure if isinstance(one, Orchestration) and one.suspended else ""
        if still and still != self._still:
            log.error("procedure_suspended", instance=still, why="nothing is shed or given back until it is resumed")
        self._still = still

    def _name_gone(self) -> None:
        """Breakers with something open that the site has no more: nobody looks after them, so people must."""
        gone: list[str] = []
        for one in self._engine.instances.values():
            if isinstance(one, EntityInstance) and one.name == BREAKER and one.core.id.key not in self._field.feeders:
                state = one.core.load_state()
                if isinstance(state, Breaker) and (state.shed is not None or state.command is not None):
                    gone.append(one.core.id.key)
        if gone:
            log.error("feeders_gone", number=len(gone), feeders=gone[:NAMED_AT_MOST], why="shed or under command")

    def breaker(self, feeder: str, state: Breaker) -> None:
        """One breaker as it is on disk, of a procedure that lives no more."""
        command = state.command
        if command is not None and command.wanted and command.procedure and not self.lives(command.procedure):
            self._post(breaker_id(feeder), "withdraw", {"request_id": command.request_id})
        if state.shed is not None and state.position is Position.OPEN and not self.lives(state.shed.procedure):
            self._shed.add(feeder)

    def end(self) -> None:
        """Tell of feeders that stay shed, when they have become others."""
        if self._shed and self._shed != self._told:
            log.warning("shed_without_procedure", number=len(self._shed), feeders=sorted(self._shed)[:NAMED_AT_MOST])
        self._told = self._shed

    def lives(self, instance_id: str) -> bool:
        """Whether this orchestration goes on."""
        one = self._engine.instances.get(instance_id)
        return isinstance(one, Orchestration) and not one.terminal

    def _post(self, target: EntityId, operation: str, input_: object) -> None:
        try:
            self._engine.client.post_to_entity(target, operation, input_)
        except (LimitExceededError, EngineStoppedError) as error:
            log.error("not_told", why=str(error))  # the next look tells it
