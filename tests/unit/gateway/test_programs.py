"""A site's own modules: found, registered, and refused with a sentence."""

from __future__ import annotations

import sys

import pytest

from gateway.durable import Registry
from gateway.programs import ProgramError, load_programs

GOOD = """
from gateway.durable import activity, entity

def Watch(context):
    yield context.call_activity("Look")

def helper(context):
    return 1

@activity
def Look(value):
    return value

@entity
class Counter:
    def __init__(self):
        self.n = 0
    def add(self, more):
        self.n += more
        return self.n

def _hidden(context):
    yield
"""


def test_a_file_of_the_site_offers_orchestrators_activities_and_entities(tmp_path):
    (tmp_path / "mine.py").write_text(GOOD)
    registry = Registry()
    assert load_programs(registry, ("mine.py",), tmp_path) == {"mine.py": ["Counter", "Look", "Watch"]}
    assert registry.names() == {"orchestrators": ["Watch"], "activities": ["Look"], "entities": ["counter"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(:\n", "can't be imported: SyntaxError"),
        ("raise RuntimeError('no licence')\n", "RuntimeError: no licence"),
        ("import not_there_at_all\n", "not_there_at_all"),
        ("async def A(context):\n    yield context.new_uuid()\n", "A must not be async"),
        ("def register(registry):\n    registry.get_activity('none')\n", "no activity called 'none'"),
        ("def A(context):\n    yield\n\ndef register(registry):\n    registry.orchestrator(A)\n", "called 'A' already"),
    ],
)
def test_a_module_that_is_wrong_names_itself_and_the_reason(tmp_path, text, words):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(ProgramError, match=r"bad\.py") as caught:
        load_programs(Registry(), ("bad.py",), tmp_path)
    assert words in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ProgramError, match="nowhere"):
        load_programs(Registry(), ("nowhere.py",), tmp_path)


def test_a_file_may_import_what_lies_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "more").mkdir()
    (tmp_path / "counters_of_test_programs.py").write_text(
        "import gateway.durable as df\nfrom steps_of_test_programs import LIMIT\nbp = df.Blueprint()\n"
        "@bp.entity_trigger(context_name='context')\ndef Counter(context):\n    context.set_result(LIMIT)\n"
    )
    (tmp_path / "more" / "steps_of_test_programs.py").write_text("LIMIT = 3\n")
    (tmp_path / "more" / "app.py").write_text(
        "import gateway.durable as df\nfrom counters_of_test_programs import bp\n"
        "app = df.DFApp()\napp.register_functions(bp)\n"
    )
    assert load_programs(Registry(), ("more/app.py",), tmp_path) == {"more/app.py": ["Counter"]}
    (tmp_path / "json.py").write_text("raise RuntimeError('this is not the json that was meant')\n")
    (tmp_path / "uses_json.py").write_text("import json\n" + GOOD)
    assert load_programs(Registry(), ("uses_json.py",), tmp_path)["uses_json.py"] == ["Counter", "Look", "Watch"]


def test_the_line_that_fails_is_told_and_what_azure_calls_it(tmp_path):
    (tmp_path / "late.py").write_text("first = 1\nsecond = frist\n")
    with pytest.raises(ProgramError, match=r"NameError: .*late\.py:2\)$"):
        load_programs(Registry(), ("late.py",), tmp_path)
    (tmp_path / "cloud.py").write_text("import azure.not_installed_here as df\n")
    with pytest.raises(ProgramError, match=r"cloud\.py:1\); write instead: import gateway\.durable as df"):
        load_programs(Registry(), ("cloud.py",), tmp_path)
