"""gridlatch replay and instances export, on the journal of a real engine: before an upgrade, on a copy, from a file."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.clock import SystemClock
from gateway.durable import Engine
from gateway.offline import code_of
from journal import Journal

EXAMPLE = Path(__file__).parents[4] / "config" / "examples" / "substation"
DRILL = """
from datetime import timedelta


def Drill(context):
    yield context.create_timer(timedelta(days=1))
    return context.get_input()


def Short(context):
    context.set_custom_status("short")
    return (yield context.wait_for_external_event("Go"))
"""
CHANGED = DRILL.replace(
    "yield context.create_timer", "yield context.call_activity('Ring')\n    yield context.create_timer"
)


async def fill(journal: Path, program: Path) -> None:
    """Two drills that wait, a short one that has ended."""
    store = await Journal.open(journal)
    engine = Engine(store, code_of(None, [str(program)]), SystemClock())
    await engine.recover()
    engine.start()
    for name in ("drill-1", "drill-2"):
        await engine.client.start_new("Drill", name, {"n": name})
    await engine.client.start_new("Short", "short-1")
    await engine.client.raise_event("short-1", "Go", 7)
    await engine.client.wait_for_completion("short-1", 30)
    await engine.on_disk()
    await engine.stop(0.1)
    await store.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site whose journal holds three instances of its program; each test gets a copy."""
    folder = tmp_path_factory.mktemp("made") / "site"
    shutil.copytree(EXAMPLE, folder)
    toml = folder / "site.toml"
    toml.write_text(toml.read_text().replace("programs = []", 'programs = ["drill.py"]'))
    (folder / "drill.py").write_text(DRILL)
    (folder / "state").mkdir()
    asyncio.run(fill(folder / "state" / "journal.db", folder / "drill.py"))
    return folder


@pytest.fixture
def site(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """See made."""
    monkeypatch.delenv("GRIDLATCH_SITE", raising=False)
    return shutil.copytree(made, tmp_path / "site")


class TestReplay:
    def test_unchanged_code_goes_on_with_all_that_is_unfinished(
        self, site: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["replay", str(site)]) == 0
        said = capsys.readouterr().out
        assert "drill-1" in said
        assert "short-1" not in said
        assert "2 unfinished orchestrations of" in said
        assert "all go on as they went" in said

    def test_a_change_that_would_break_them_is_told_with_step_and_line(
        self, site: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (site / "drill.py").write_text(CHANGED)
        assert main(["replay", str(site), "--finished"]) == 1
        said = capsys.readouterr().out
        assert "drill-1 would diverge at step 1, in the turn of" in said
        assert "history has    TimerCreated as step 1" in said
        assert "the code asks  TaskScheduled 'Ring' as step 1" in said
        assert f"at             {site / 'drill.py'}:6" in said
        assert "2 of 3 orchestrations" in said
        assert said.index("drill-1") < said.index("short-1"), "what is in the way stands first"

    def test_the_exact_answer(self, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (site / "drill.py").write_text(CHANGED)
        assert main(["replay", str(site), "--json", "--finished"]) == 1
        found = {one["instance"]: one for one in json.loads(capsys.readouterr().out)}
        assert found["drill-1"]["verdict"] == "would diverge"
        assert found["drill-1"]["step"] == 1
        assert found["short-1"]["verdict"] == "same"

    def test_one_instance_and_one_orchestrator_alone(self, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["replay", str(site), "--instance", "short-1"]) == 0, (
            "named, it is looked at though it has finished"
        )
        assert "1 orchestration of" in capsys.readouterr().out.replace("unfinished ", "")
        assert main(["replay", str(site), "--name", "Short"]) == 0
        assert "no unfinished orchestration" in capsys.readouterr().out
        assert main(["replay", str(site), "--instance", "nobody"]) == 3
        assert "nobody" in capsys.readouterr().err

    def test_a_copy_of_the_journal_with_a_program_and_no_site(
        self, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        copy = tmp_path / "copy.db"
        shutil.copy(site / "state" / "journal.db", copy)
        assert main(["replay", "--journal", str(copy)]) == 1
        said = capsys.readouterr().out
        assert "NO SUCH ORCHESTRATOR" in said
        assert "'Drill'" in said
        assert main(["replay", "--journal", str(copy), "--program", str(site / "drill.py")]) == 0

    def test_a_new_program_takes_the_place_of_the_one_of_its_name_with_what_lies_beside_it(
        self, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "path", list(sys.path))
        new = tmp_path / "new"
        new.mkdir()
        (site / "ring_of_test_histories.py").write_text("BELL = None\n")
        (new / "ring_of_test_histories.py").write_text("BELL = 'Ring'\n")
        (new / "drill.py").write_text("from ring_of_test_histories import BELL\n" + CHANGED.replace("'Ring'", "BELL"))
        assert main(["replay", str(site), "--program", str(new / "drill.py")]) == 1
        assert "the code asks  TaskScheduled 'Ring' as step 1" in capsys.readouterr().out

    def test_beside_the_daemon_that_writes_it(self, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
        async def check() -> int:
            store = await Journal.open(site / "state" / "journal.db")
            try:
                return await asyncio.to_thread(main, ["replay", str(site)])
            finally:
                await store.close()

        assert asyncio.run(check()) == 0

    def test_what_can_not_be_read_does_not_hide_the_rest(self, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with closing(sqlite3.connect(site / "state" / "journal.db")) as connection:
            connection.execute("UPDATE records SET payload = x'7b' WHERE instance = 'drill-1'")
            connection.commit()
        assert main(["replay", str(site)]) == 1
        said = capsys.readouterr().out
        assert "drill-1: not readable" in said
        assert "drill-2" in said

    @pytest.mark.parametrize(
        "arguments",
        [["--journal", "none.db"], ["--export", "none.jsonl"], ["--export", "drill.py"], ["nowhere"]],
    )
    def test_nothing_to_read_is_a_wrong_usage(
        self, site: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(site)
        assert main(["replay", *arguments]) == 2
        assert arguments[-1] in capsys.readouterr().err

    def test_a_program_that_can_not_be_loaded_is_named(self, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (site / "drill.py").write_text("def broken(:")
        assert main(["replay", str(site)]) == 2
        assert "drill.py can't be imported" in capsys.readouterr().err


class TestExport:
    def test_from_a_journal_to_a_file_and_back(
        self, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out, journal = tmp_path / "out.jsonl", str(site / "state" / "journal.db")
        assert main(["instances", "export", "--all", "--journal", journal, "--out", str(out)]) == 0
        assert "3 histories are in" in capsys.readouterr().out
        header, *rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert header["format"] == "gridlatch-histories"
        assert [row["instance"] for row in rows] == ["drill-1", "drill-2", "short-1"]
        assert rows[2]["turns"][-1]["turn"]["events"][0]["data"] == 7
        (site / "drill.py").write_text(CHANGED)
        assert main(["replay", "--export", str(out), "--program", str(site / "drill.py")]) == 1
        said = capsys.readouterr().out
        assert "drill-2 would diverge" in said
        assert "short-1" not in said
        assert main(["replay", "--export", str(out), "--program", str(site / "drill.py"), "--instance", "short-1"]) == 0

    def test_to_standard_output(self, site: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        assert main(["instances", "export", "drill-1", "--journal", str(site / "state" / "journal.db")]) == 0
        assert capfdbinary.readouterr().out.count(b"\n") == 2

    def test_nothing_is_written_when_one_is_not_there(
        self, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out, journal = tmp_path / "out.jsonl", str(site / "state" / "journal.db")
        assert main(["instances", "export", "drill-1", "nobody", "--journal", journal, "--out", str(out)]) == 3
        assert "nobody" in capsys.readouterr().err
        assert list(tmp_path.glob("out*")) == []

    @pytest.mark.parametrize("given", [[], ["drill-1", "--all"]])
    def test_some_or_all_but_not_both(self, site: Path, given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["instances", "export", *given, "--journal", str(site / "state" / "journal.db")]) == 2
        assert "--all" in capsys.readouterr().err

    def test_what_can_not_be_read_is_left_out_and_said(
        self, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out, journal = tmp_path / "out.jsonl", site / "state" / "journal.db"
        with closing(sqlite3.connect(journal)) as connection:
            connection.execute("UPDATE records SET payload = x'7b' WHERE instance = 'drill-1'")
            connection.commit()
        assert main(["instances", "export", "--all", "--journal", str(journal), "--out", str(out)]) == 1
        assert "drill-1 was left out" in capsys.readouterr().err
        assert len(out.read_text().splitlines()) == 3
