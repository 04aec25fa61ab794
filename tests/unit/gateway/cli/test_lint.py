"""``gridlatch lint``: what it prints, what it exits with, and that ``check`` warns of the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gateway.cli import main

EXAMPLE = Path(__file__).parents[4] / "config" / "examples" / "substation"

WRONG = """\
import random
from datetime import datetime

def Drill(context):
    begun = datetime.now()
    yield context.call_activity("SendDisconnectCommand", random.choice(["a", "b"]))
"""
RIGHT = """\
def Drill(context):
    yield context.call_activity("SendDisconnectCommand", "tier1")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is on the path, and where we stand."""
    (tmp_path / "wrong_procedures.py").write_text(WRONG)
    (tmp_path / "right_procedures.py").write_text(RIGHT)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_finding_is_a_line_with_its_place_and_what_to_write_instead(folder, capsys):
    assert main(["lint", "wrong_procedures.py"]) == 1
    first, second, summary = capsys.readouterr().out.splitlines()
    assert first == (
        "wrong_procedures.py:5:13: [clock] in Drill: datetime.now reads the clock, which has moved on at replay;"
        " write instead: context.current_utc_datetime"
    )
    assert second.startswith("wrong_procedures.py:6:58: [random] in Drill: random.choice is chance")
    assert summary == "2 findings in 1 orchestrator."


def test_a_module_on_the_path_and_several_at_once(folder, capsys):
    assert main(["lint", "right_procedures"]) == 0
    assert capsys.readouterr().out == "Nothing was found in 1 orchestrator.\n"
    assert main(["lint", "right_procedures", "wrong_procedures"]) == 1
    assert f"{folder}/wrong_procedures.py:5:13" in capsys.readouterr().out


def test_as_json(folder, capsys):
    assert main(["lint", "--json", "wrong_procedures.py", "right_procedures.py"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [(one["line"], one["column"], one["rule"]) for one in told["findings"]] == [
        (5, 13, "clock"),
        (6, 58, "random"),
    ]
    assert told["orchestrators"] == {"wrong_procedures.py": ["Drill"], "right_procedures.py": ["Drill"]}
    assert main(["lint", "--json", "right_procedures.py"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("nowhere.py", None, "No such file"),
        ("nowhere_at_all", None, "no such module on the path"),
        ("json.nothing.more", None, "json.nothing"),
        ("sys", None, "no such module on the path"),
        ("broken.py", b"def f(:\n", "(line 1)"),
        ("bytes.py", b"x = '\xff\xfe'\n", "utf-8"),
        ("zero.py", b"x = 1\0\n", "null bytes"),
    ],
)
def test_what_can_not_be_read_is_named_and_the_others_are_told_all_the_same(folder, capsys, name, text, words):
    if text is not None:
        (folder / name).write_bytes(text)
    assert main(["lint", name, "wrong_procedures.py"]) == 2
    out, err = capsys.readouterr()
    assert "2 findings" in out
    assert err.startswith(f"gridlatch: {name} can't be read: ")
    assert words in err


def test_a_file_without_orchestrators_says_so(folder, capsys):
    (folder / "empty.py").write_text("")
    assert main(["lint", "empty.py"]) == 0
    assert capsys.readouterr().out == "No orchestrator was found.\n"


def test_check_warns_of_what_is_found_in_the_programs_of_a_site(tmp_path, capsys):
    site = tmp_path / "site"
    shutil.copytree(EXAMPLE, site)
    (site / "wrong.py").write_text(WRONG)
    text = (site / "site.toml").read_text()
    (site / "site.toml").write_text(text.replace("programs = []", 'programs = ["wrong.py"]'))
    assert main(["check", str(site)]) == 0
    out = capsys.readouterr().out
    assert f"{site}/wrong.py:5:13: [clock] in Drill: datetime.now reads the clock" in out
    assert "orchestrator_not_deterministic" not in out
    assert main(["check", str(site), "--json"]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    assert len([one for one in warnings if "in Drill" in one]) == 2
