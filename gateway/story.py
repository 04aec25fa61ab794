"""The story of what happened, from the journal and the trends: what an event report is made of."""

from __future__ import annotations

from gateway.durable import Engine
from gateway.shedding.field import Field
from gateway.trend import TrendStore


async def tell_story(journal: object, trend: TrendStore, field: Field, engine: Engine) -> str:
    return ""
