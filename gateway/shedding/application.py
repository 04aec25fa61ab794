"""Registration: everything of this application, by the names under which orchestrators and operators know it."""

from __future__ import annotations

from config.models import Site
from gateway.durable.registry import Registry
from gateway.shedding.activities import CommandActivities
from gateway.shedding.breaker_model import Breaker
from gateway.shedding.entities import (
    BREAKER,
    SUBSTATION,
    TRANSFORMER,
    breaker_entity,
    substation_entity,
    substation_id,
    transformer_entity,
)
from gateway.shedding.field import Field
from gateway.shedding.measuring import MeasuringActivities
from gateway.shedding.protocol import LoadSheddingProtocol
from gateway.shedding.settings import ProcedureSettings, settings_of
from gateway.shedding.substation import Substation, Transformer


def register(registry: Registry, field: Field) -> None:
    """Register the stock entities, activities and the procedure, bound to this field."""

    def site() -> Site:
        return field.site

    async def read_settings(_: object) -> ProcedureSettings:
        return settings_of(field.site)

    commands, measuring = CommandActivities(field), MeasuringActivities(field)
    registry.entity(breaker_entity(field.rules), BREAKER, state_type=Breaker, lockable=False)
    transformer = transformer_entity(lambda: substation_id(field.site))
    registry.entity(transformer, TRANSFORMER, state_type=Transformer, lockable=False)
    registry.entity(substation_entity(site), SUBSTATION, state_type=Substation, lockable=False)
    registry.activity(commands.send_disconnect, "SendDisconnectCommand")
    registry.activity(commands.send_reconnect, "SendReconnectCommand")
    registry.activity(commands.operate_breaker, "OperateBreaker", at_most_once=True)
    registry.activity(commands.read_breaker, "ReadBreaker")
    registry.activity(commands.apply_mode, "ApplyMode")
    registry.activity(measuring.read_load, "ReadLoad")
    registry.activity(measuring.plan_shed, "PlanShed")
    registry.activity(measuring.plan_restore, "PlanRestore")
    registry.activity(read_settings, "ReadSettings")
    register_orchestrators(registry)


def register_orchestrators(registry: Registry) -> None:
    """The stock procedures alone: all that a replay of recorded histories needs."""
    registry.orchestrator(LoadSheddingProtocol)
