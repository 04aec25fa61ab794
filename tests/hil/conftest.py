"""What tests of a running station have in common; each module brings its own ``site``."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from station import Station

from simulators.client import SimulatorClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def plant(site: Station) -> AsyncIterator[SimulatorClient]:
    """The simulated hardware of the site, as its witness."""
    async with site.simulator() as client:
        yield client
