"""Checks of an open journal beside commits: what an opening leaves out, and the archives that lie in their folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from journal import Journal, JournalError, recovery
from journal.archive import ArchiveCheck

from .conftest import Scribe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "archive"
    made.mkdir()
    return made


async def archived(journal: Journal, scribe: Scribe, folder: Path, parts: int = 3) -> list[Path]:
    """So many archives of ten batches each; their files, oldest first."""
    files = []
    for _ in range(parts):
        for _ in range(10):
            await journal.commit(scribe.batch(("plan", "TimerFired"), ("plan", "TaskCompleted")))
        await journal.commit(scribe.batch(("plan", "TimerFired")))
        done = await journal.archive(scribe.time_us, folder)
        assert done is not None
        files.append(folder / done.file)
    return files


async def test_a_quick_check_finds_a_sound_journal_sound(journal: Journal, scribe: Scribe) -> None:
    await journal.commit(scribe.batch(("plan", "TimerFired")))
    assert await journal.quick_check() == []


async def test_a_quick_check_sees_a_page_of_the_log_that_was_damaged_since(path: Path, scribe: Scribe) -> None:
    journal = await Journal.open(path)
    for _ in range(200):
        await journal.commit(scribe.batch(*[("plan", "TimerFired")] * 5, payload=b"{}" * 100))
    await journal.close()
    journal = await Journal.open(path)
    try:
        with path.open("r+b") as file:
            for page in range(40, 60):
                file.seek(page * 4096)
                file.write(b"\xff" * 64)
        assert await journal.quick_check()
    finally:
        await journal.close()


async def test_a_start_leaves_the_log_to_the_check_after_it(path: Path, scribe: Scribe, monkeypatch) -> None:
    """Else a start would take longer the longer the log is."""
    monkeypatch.setattr(recovery, "TAIL_RECORDS", 10)
    journal = await Journal.open(path)
    await journal.commit(scribe.batch(*[("plan", "TimerFired")] * 50, payload=b"an old record" * 9))
    for _ in range(200):
        await journal.commit(scribe.batch(*[("plan", "TimerFired")] * 5, payload=b"{}" * 100))
    await journal.close()
    old = path.read_bytes().rindex(b"an old record") // 4096  # noqa: ASYNC240 - nothing else runs
    with path.open("r+b") as file:
        file.seek(old * 4096)
        file.write(b"\xff" * 64)
    journal = await Journal.open(path)
    assert await journal.quick_check()
    await journal.close()


async def test_sound_archives_are_counted_and_those_that_were_taken_elsewhere_are_no_trouble(
    journal: Journal, scribe: Scribe, folder: Path
) -> None:
    found = await journal.check_archives(folder)
    assert (found.complaints, found.checked, found.elsewhere) == ([], 0, 0)
    files = await archived(journal, scribe, folder)
    files[0].rename(folder.parent / "kept.gz")
    found = await journal.check_archives(folder)
    assert (found.complaints, found.checked, found.elsewhere) == ([], 2, 1)


async def test_a_changed_archive_and_one_in_the_place_of_another_are_complaints(
    journal: Journal, scribe: Scribe, folder: Path
) -> None:
    first, second, third = await archived(journal, scribe, folder)
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    second.write_bytes(third.read_bytes())
    found = await journal.check_archives(folder)
    assert len(found.complaints) == 2
    assert found.complaints[0].startswith(f"archive {first.name}: ")
    assert found.complaints[1] == f"archive {second.name} is not the archive that the journal names"


async def test_closing_ends_a_check_of_archives_that_would_take_for_ever(
    path: Path, scribe: Scribe, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await Journal.open(path)
    await archived(journal, scribe, folder, parts=1)
    monkeypatch.setattr(ArchiveCheck, "step", lambda _: True)
    checking = asyncio.create_task(journal.check_archives(folder))
    await asyncio.sleep(0.05)
    assert not checking.done()
    await journal.close()
    with pytest.raises(JournalError, match="is closed"):
        await asyncio.wait_for(checking, 10)
