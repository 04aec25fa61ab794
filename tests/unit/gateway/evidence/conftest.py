"""A small journal to take evidence from."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from unit.gateway.evidence.records import some_batches, write


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    asyncio.run(write(path, some_batches()))
    return path
