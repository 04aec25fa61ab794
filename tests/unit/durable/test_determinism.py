"""The check of source: what it finds, what it leaves alone, how a finding is silenced, and the warning at registration."""

from __future__ import annotations

import time
from pathlib import Path
from textwrap import dedent, indent

import pytest
import structlog

from gateway.durable import Registry
from gateway.durable.determinism import RULES, Finding, check_file, check_function, check_source
from gateway.durable.determinism.rules import MODULES, NAMES

ROOT = Path(__file__).parents[3]

HEAD = """
import asyncio
import concurrent.futures
import datetime as d
import logging
import os
import os.path
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time as t
import uuid
import urllib.request
from datetime import date, datetime as dt, timedelta
from os import environ, getenv
from pathlib import Path
from time import monotonic
from uuid import uuid4 as fresh

from gateway.durable import activity, entity

NAMES = {"a", "b"}
PAIR = frozenset(("a", "b"))
NUMBERS = {1, 2}
SEEN = []
TABLE = {}
RNG = random.Random(7)
LOG = logging.getLogger(__name__)
FILE = Path("x")
now = dt.now
count = 0
"""


def found_in(body: str, head: str = HEAD) -> list[Finding]:
    """What is found in an orchestrator of this body."""
    text = (
        f"{head}\n\ndef Program(context):\n{indent(dedent(body).strip(), '    ')}\n    yield context.create_timer(1)\n"
    )
    (findings,) = [found for name, found in check_source(text, "p.py").items() if name == "Program"]
    return findings


def rules_in(body: str) -> list[str]:
    return [finding.rule for finding in found_in(body)]


@pytest.mark.parametrize(
    ("body", "rule", "words"),
    [
        ("t.time()", "clock", "time.time"),
        ("monotonic()", "clock", "time.monotonic"),
        ("dt.now()", "clock", "datetime.now"),
        ("d.datetime.utcnow()", "clock", "datetime.utcnow"),
        ("x = d.datetime.now(d.UTC).isoformat()", "clock", "datetime.now"),
        ("date.today()", "clock", "date.today"),
        ("now()", "clock", "datetime.now"),
        ("key = lambda one: t.time()", "clock", "time.time"),
        ("context.call_activity('a', default=dt.now)", "clock", "datetime.now"),
        ("t.strftime('%H:%M')", "clock", "time.strftime"),
        ("import time\ntime.time()", "clock", "time.time"),
        ("random.choice([1, 2])", "random", "random.choice"),
        ("RNG.random()", "random", "random.random"),
        ("random.Random()", "random", "random.Random"),
        ("os.urandom(8)", "random", "os.urandom"),
        ("import secrets\nsecrets.token_hex()", "random", "secrets.token_hex"),
        ("fresh()", "uuid", "uuid.uuid4"),
        ("uuid.uuid1()", "uuid", "uuid.uuid1"),
        ("with open('f') as file:\n    pass", "io", "open"),
        ("FILE.read_text()", "io", "Path.read_text"),
        ("(Path('a') / 'b').exists()", "io", "Path.exists"),
        ("p = pathlib.Path('a')\np.write_text('')", "io", "Path.write_text"),
        ("os.path.exists('a')", "io", "os.path.exists"),
        ("socket.create_connection(('h', 1))", "io", "socket.create_connection"),
        ("subprocess.run(['true'])", "io", "subprocess.run"),
        ("urllib.request.urlopen('http://x')", "io", "urllib.request.urlopen"),
        ("import requests\nrequests.get('http://x')", "io", "requests.get"),
        ("print('here')", "log", "print"),
        ("LOG.info('here')", "log", "logging.getLogger.info"),
        ("t.sleep(1)", "sleep", "time.sleep"),
        ("yield asyncio.sleep(1)", "sleep", "asyncio.sleep"),
        ("threading.Thread(target=f).start()", "thread", "threading.Thread"),
        ("asyncio.create_task(f())", "thread", "asyncio.create_task"),
        ("concurrent.futures.ThreadPoolExecutor()", "thread", "concurrent.futures.ThreadPoolExecutor"),
        ("os.environ['HOME']", "environment", "os.environ"),
        ("environ.get('HOME')", "environment", "os.environ"),
        ("getenv('HOME')", "environment", "os.getenv"),
        ("sys.argv[1]", "environment", "sys.argv"),
        ("for name in NAMES: pass", "set-order", "the set NAMES"),
        ("for name in PAIR: pass", "set-order", "the set PAIR"),
        ("s = set()\ns.add(1)\nlist(s)", "set-order", "the set s"),
        ("[one for one in {'a', 'b'}]", "set-order", "the set {'a', 'b'}"),
        ("','.join(NAMES)", "set-order", "the set NAMES"),
        ("for one in NAMES - {'b', 'c'}: pass", "set-order", "the set NAMES - {'b', 'c'}"),
        ("for one in TABLE.keys() & NAMES: pass", "set-order", "the set TABLE.keys() & NAMES"),
        ("first, second = NAMES", "set-order", "the set NAMES"),
        ("points: set[Point] = context.get_input()\nfor p in points: pass", "set-order", "the set points"),
        ("yield context.task_all({context.call_activity(n) for n in 'ab'})", "set-order", "the set {"),
        ("yield [context.call_activity('a')]", "foreign", "[context.call_activity('a')]"),
        ("yield 'text'", "foreign", "'text'"),
        ("global count\ncount += 1", "global", "the global count"),
        ("SEEN.append(1)", "global", "the global SEEN"),
        ("TABLE['a'] = 1", "global", "the global TABLE"),
        ("del TABLE['a']", "global", "the global TABLE"),
        ("TABLE['a']['b'] += 1", "global", "the global TABLE"),
        ("n = hash('a') % 7", "hash", "hash"),
        ("context.call_activity('a', id(context))", "hash", "id"),
    ],
)
def test_what_replay_can_not_bear_is_found(body, rule, words):
    (finding,) = found_in(body)
    assert finding.rule == rule
    assert finding.what.startswith(words) or words in finding.what
    assert finding.instead == RULES[rule].instead


@pytest.mark.parametrize(
    "body",
    [
        "x = context.current_utc_datetime + timedelta(minutes=5)",
        "dt(2024, 1, 1); dt.fromisoformat('2024-01-01'); d.datetime.strptime('1', '%d')",
        "t.strftime('%H', t.gmtime(0))",
        "random.Random(context.new_uuid()).choice([1, 2])",
        "r = random.Random(3)\nr.shuffle([1, 2])",
        "uuid.uuid5(uuid.NAMESPACE_DNS, 'x')",
        "Path('a').joinpath('b').suffix; os.path.join('a', 'b')",
        "try:\n    pass\nexcept (subprocess.CalledProcessError, socket.timeout, asyncio.TimeoutError):\n    pass",
        "socket.inet_aton('1.2.3.4')",
        "if not context.is_replaying:\n    print('once'); LOG.info('once')",
        "context.log.info('here')",
        "for name in sorted(NAMES): pass",
        "for n in NUMBERS: pass",
        "numbers: set[int] = context.get_input()\nfor n in numbers: pass",
        "len(NAMES), max(NAMES), sum(1 for n in NAMES), any(n for n in NAMES), 'a' in NAMES, {*NAMES}",
        "sorted(name for name in NAMES if name)",
        "for key in TABLE: pass",
        "for key in {'a': 1}.keys(): pass",
        "list(dict.fromkeys(['a', 'b']))",
        "SEEN = []\nSEEN.append(1)",
        "local = {}\nlocal['a'] = 1",
        "open = context.get_input()\nopen('x')",
        "id = 7\nhash = str(id)",
        "known = set()\nif id(context) not in known:\n    known.add(id(context))",
        "time = 5\nprint = len\nprint('x')",
        "yield",
        "yield context.task_all([context.call_activity(n) for n in sorted(NAMES)])",
    ],
)
def test_what_replay_can_bear_is_left_alone(body):
    assert found_in(body) == []


def test_a_finding_tells_the_place_what_it_is_and_what_to_write_instead():
    (finding,) = found_in("x = 1\ny = t.time()", head="import time as t")
    assert (finding.line, finding.column) == (5, 9)
    assert str(finding) == (
        "p.py:5:9: [clock] in Program: time.time reads the clock, which has moved on at replay;"
        " write instead: context.current_utc_datetime"
    )


HELPERS = """
import time
from gateway.durable import activity, entity

@activity
def Look(value):
    return open(value).read(), time.time()

@entity
def Counter(context):
    context.set_state(time.time())

def nobody_calls_this():
    return time.time()

def first(context):
    return second()

def second():
    return time.monotonic()      # found

def steps(context):
    yield "text"                 # found

def rows(values):
    for value in values:
        yield [value]            # no step: a loop takes it

class Plan:
    def __init__(self, size):
        self.size = os_size()
    def best(self):
        return self._deep()
    def _deep(self):
        return time.time_ns()    # found

def os_size():
    import os
    return os.getpid()           # found

def Program(context):
    def inner():
        return time.perf_counter()   # found
    context.call_activity(Look, 1)
    first(context)
    plan = Plan(3)
    plan.best()
    map(inner, [1])
    yield from steps(context)
    for row in rows([1]):
        yield context.call_activity("x", row)
"""


def test_it_follows_calls_into_functions_and_methods_of_the_file_and_not_into_activities():
    marked = [number for number, line in enumerate(HELPERS.splitlines(), 1) if line.endswith("# found")]
    assert len(marked) == 5
    assert [finding.line for finding in check_source(HELPERS, "p.py")["Program"]] == marked


ROOTS = """
import gateway.durable as df
from gateway.durable import DurableOrchestrationContext, orchestrator, activity

app = df.DFApp()

def Generator(context):
    yield 1

@orchestrator
def Marked(ctx):
    return 1

@app.orchestration_trigger(context_name="context")
def V2(context):
    yield 1

def Handed(ctx):
    yield 1

main = df.Orchestrator.create(Handed)

def helper(run, context: DurableOrchestrationContext):
    return 1

async def Async(context):
    await context.call_sub_orchestrator("x")

def entity_like(context):
    context.set_state(1)

@activity
def Act(context):
    yield 1

def other(value):
    yield 1

async def AsyncGenerator(context):
    yield context.call_activity("a")

class Conductor:
    def __init__(self, context: DurableOrchestrationContext):
        self.context = context
    def run(self):
        yield from ()
"""


def test_orchestrators_are_those_that_the_registry_takes_and_what_gets_their_context():
    found = check_source(ROOTS, "p.py")
    assert set(found) == {
        *("Generator", "Marked", "V2", "Handed", "helper", "Async", "AsyncGenerator"),
        *("Conductor.__init__", "Conductor.run"),
    }
    assert [finding.rule for finding in found["Async"]] == ["async", "async"]


def test_a_comment_silences_one_finding_with_its_rule_named():
    assert rules_in("t.time()  # gridlatch: allow(clock)") == []
    assert rules_in("t.time()  # gridlatch: allow(random)") == ["clock"]
    assert rules_in("t.time(); random.random()  # gridlatch: allow(clock)") == ["random"]
    assert rules_in("t.time(); random.random()  # timing only; gridlatch: allow(clock)") == ["clock", "random"]
    assert rules_in("t.time(); random.random()  # gridlatch: allow(clock, random)") == []
    assert rules_in("subprocess.run(\n    ['x'],\n)  # gridlatch: allow(io)") == []


@pytest.mark.parametrize(
    "pattern", ["gateway/shedding/*.py", "benchmarks/*.py", "tests/hil/*.py", "tests/replay/*.py", "tests/crash/*.py"]
)
def test_programs_that_are_right_raise_no_false_alarm(pattern):
    files = sorted(ROOT.glob(pattern))
    assert files
    findings = [str(one) for file in files for found in check_file(file).values() for one in found]
    assert findings == []


def test_each_rule_has_words_and_every_name_a_rule():
    assert {rule.id for rule in (*NAMES.values(), *MODULES.values())} <= set(RULES)
    for rule in RULES.values():
        assert rule.why
        assert rule.instead


def test_a_file_that_is_no_python_is_an_error_and_text_is_never_run(tmp_path):
    with pytest.raises(SyntaxError):
        check_source("def f(:", "p.py")
    (tmp_path / "p.py").write_text("raise SystemExit(9)\ndef Program(context):\n    yield 5\n")
    assert [one.rule for one in check_file(tmp_path / "p.py")["Program"]] == ["foreign"]


# At registration


def careless(context):
    started = time.time()
    yield context.create_timer(5)
    return started


def careful(context):
    yield context.create_timer(5)


def test_registration_warns_of_each_finding_with_its_line():
    with structlog.testing.capture_logs() as logs:
        Registry().orchestrator(careless)
    (line,) = [line for line in logs if line["event"] == "orchestrator_not_deterministic"]
    first = careless.__code__.co_firstlineno
    assert line == {
        "event": "orchestrator_not_deterministic",
        "log_level": "warning",
        "orchestrator": "careless",
        "rule": "clock",
        "what": "time.time reads the clock, which has moved on at replay",
        "line": f"{__file__}:{first + 1}",
        "instead": "context.current_utc_datetime",
    }


def test_who_registers_may_take_the_findings_instead():
    taken: list[Finding] = []
    registry = Registry(taken.append)
    with structlog.testing.capture_logs() as logs:
        registry.orchestrator(careful)
        registry.orchestrator(careless)
    assert [one.rule for one in taken] == ["clock"]
    assert logs == []


def test_code_without_source_is_registered_in_silence():
    made: dict[str, object] = {}
    exec("import time\ndef made(context):\n    time.time()\n    yield", made)
    assert check_function(made["made"]) == ()  # type: ignore[arg-type]
    assert check_function(lambda context: time.time()) == ()
    with structlog.testing.capture_logs() as logs:
        Registry().orchestrator(made["made"])  # type: ignore[arg-type]
    assert logs == []
