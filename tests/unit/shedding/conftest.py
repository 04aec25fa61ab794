"""A small station that runs."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.core_station import Station, make_feeder, make_site

__all__ = ["Station", "make_feeder", "make_site"]


@pytest.fixture
async def station() -> AsyncIterator[Station]:
    """A station that runs."""
    one = Station(make_site())
    await one.start()
    yield one
    await one.engine.stop(0.1)
