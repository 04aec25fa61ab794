"""A site's own modules: found, registered, and refused with a sentence."""

from __future__ import annotations

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
