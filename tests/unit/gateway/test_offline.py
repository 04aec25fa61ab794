"""Without a daemon: histories out of a journal file, page by page, and the code of a site."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway import offline
from gateway.durable import history as h
from gateway.durable.codec import pack
from gateway.durable.exported import RecordedHistory
from gateway.durable.instances import ENTITY, ORCHESTRATION, OrchestrationState, encode_state
from gateway.durable.store import Batch, InstanceRow, RecordRow
from gateway.offline import OfflineError, Unreadable, code_of, histories_of
from gateway.programs import ProgramError
from journal import Journal

NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture
async def journal(tmp_path: Path) -> Path:
    """Five orchestrations, of which e has ended, and an entity."""
    path = tmp_path / "journal.db"
    store = await Journal.open(path)
    batch = Batch()
    started = h.encode_turn(h.TurnRecord([h.ExecutionStarted("Drill", pack(1, "it"))]))
    state = encode_state(OrchestrationState())
    for seq, name in enumerate(NAMES, 1):
        batch.records.append(RecordRow(seq, name, h.TURN, seq, started))
        kind, status = ("Short" if name == "b" else "Drill"), ("Completed" if name == "e" else "Running")
        batch.instances[name] = InstanceRow(name, ORCHESTRATION, kind, status, "", 1, 1, seq, state)
    batch.instances["@x@1"] = InstanceRow("@x@1", ENTITY, "x", "", "", 1, 1, 0, b"{}")
    batch.time_us = 9
    await store.commit(batch)
    await store.close()
    return path


def ids(found: object) -> list[str]:
    return [one.instance for one in found]  # type: ignore[attr-defined]


def test_all_come_page_by_page_and_entities_do_not(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "PAGE", 2)
    found = list(histories_of(journal))
    assert ids(found) == list(NAMES)
    assert all(isinstance(one, RecordedHistory) and len(one.turns) == 1 for one in found)


def test_by_name_by_id_and_without_those_that_have_ended(journal: Path) -> None:
    assert ids(histories_of(journal, finished=False)) == ["a", "b", "c", "d"]
    assert ids(histories_of(journal, name="Short")) == ["b"]
    assert ids(histories_of(journal, instances=["e", "nobody", "@x@1"])) == ["e"]


async def test_one_that_can_not_be_read_is_told_among_the_others(journal: Path) -> None:
    store = await Journal.open(journal)
    batch = Batch()
    batch.records.append(RecordRow(6, "b", h.TURN, 10, b"{broken"))
    batch.time_us = 10
    await store.commit(batch)
    await store.close()
    found = list(histories_of(journal))
    assert ids(found) == list(NAMES)
    (bad,) = [one for one in found if isinstance(one, Unreadable)]
    assert (bad.instance, bad.name, bad.status) == ("b", "Short", "Running")


def test_no_journal_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(OfflineError, match=r"none\.db does not exist"):
        list(histories_of(tmp_path / "none.db"))


def test_the_code_is_the_stock_procedures_and_what_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("def Drill(context):\n    yield context.call_activity('Ring')\n")
    monkeypatch.chdir(tmp_path)
    assert code_of(None, ["mine.py"]).names()["orchestrators"] == ["Drill", "LoadSheddingProtocol"]
    with pytest.raises(ProgramError, match="none"):
        code_of(None, ["none.py"])
