"""What the storage harnesses share: a folder in memory, and a seed that is told."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder where a flush costs nothing, if there is such a place."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="gridlatch-storage-", dir=MEMORY))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def seed() -> int:
    """Another one in each run; GRIDLATCH_SEED repeats one that failed."""
    chosen = int(os.environ.get("GRIDLATCH_SEED") or random.randrange(2**32))
    print(f"GRIDLATCH_SEED={chosen}")
    return chosen
