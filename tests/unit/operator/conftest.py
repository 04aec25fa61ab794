"""A gateway with operators, for one test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.core_station import make_site
from tests.operator_house import House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """It runs, armed; nothing is told yet of what happens."""
    one = House(make_site(), tmp_path)
    await one.open()
    yield one
    await one.close()
