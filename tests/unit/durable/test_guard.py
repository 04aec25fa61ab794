"""The guard at run time: what an orchestrator may not do while it runs, in its own words, and that nobody else notices."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime as d
import os
import random
import secrets
import socket
import subprocess
import sys
import threading
import time
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4 as fresh

import pytest
import structlog

from gateway.durable import DurableOrchestrationClient, guard, overrun
from gateway.durable import history as h
from gateway.durable.codec import NULL, pack
from gateway.durable.determinism import RULES
from gateway.durable.errors import LimitExceededError
from gateway.durable.execution import Execution
from gateway.durable.guard import step_of

NOW = 1_768_377_600_000_000


def started(function: Callable[[Any], Any]) -> Execution:
    """An execution after its first step."""
    execution = Execution("i", function)
    execution.begin_turn(NOW)
    execution.apply(h.ExecutionStarted("f", NULL))
    return execution


def outcome_of(action: Callable[[Any], Any]) -> Any:
    """What becomes of an orchestrator that does this: its error as (kind, message), or its output."""

    def orchestrates(context):
        return action(context)
        yield

    return told(started(orchestrates))


def told(execution: Execution) -> Any:
    outcome = execution.outcome
    if isinstance(outcome, h.ExecutionFailed):
        return outcome.details.kind, outcome.details.message
    assert isinstance(outcome, h.ExecutionCompleted), outcome
    return bytes(outcome.result).decode()


def opens_a_file_by_a_library(context):
    return Path(__file__).read_text()


def imports_the_clock(context):
    from time import time as seconds

    return seconds()


def takes_the_clock_under_another_name(context):
    now = datetime.now
    return [str(now()) for _ in range(1)]


@pytest.mark.parametrize(
    ("action", "rule", "name"),
    [
        (lambda c: time.time(), "clock", "time.time"),
        (lambda c: monotonic(), "clock", "time.monotonic"),
        (lambda c: str(datetime.now()), "clock", "datetime.now"),
        (lambda c: str(d.datetime.now(d.UTC)), "clock", "datetime.now"),
        (lambda c: str(d.date.today()), "clock", "date.today"),
        (imports_the_clock, "clock", "time.time"),
        (takes_the_clock_under_another_name, "clock", "datetime.now"),
        (lambda c: random.random(), "random", "random.random"),
        (lambda c: random.choice([1, 2]), "random", "random.choice"),
        (lambda c: random.Random().random(), "random", "random.Random"),
        (lambda c: secrets.token_hex(), "random", "secrets.token_hex"),
        (lambda c: str(os.urandom(3)), "random", "os.urandom"),
        (lambda c: str(uuid.uuid4()), "uuid", "uuid.uuid4"),
        (lambda c: str(fresh()), "uuid", "uuid.uuid4"),
        (lambda c: str(uuid.uuid1()), "uuid", "uuid.uuid1"),
        (lambda c: os.environ["PATH"], "environment", "os.environ"),
        (lambda c: os.environ.get("PATH"), "environment", "os.environ"),
        (lambda c: os.getenv("PATH"), "environment", "os.getenv"),
        (lambda c: time.sleep(0), "sleep", "time.sleep"),
        (lambda c: threading.Thread(target=print).start(), "thread", "threading.Thread"),
        (
            lambda c: open(__file__).read(),  # noqa: SIM115
            "io",
            "open",
        ),
        (opens_a_file_by_a_library, "io", "open"),
        (lambda c: os.listdir("."), "io", "os.listdir"),
        (lambda c: socket.socket().close(), "io", "socket.socket"),
        (lambda c: subprocess.run(["true"], check=True).returncode, "io", "subprocess.Popen"),
        (lambda c: os.system("true"), "io", "os.system"),
    ],
)
def test_what_replay_can_not_bear_is_refused_in_the_words_of_the_check(action, rule, name):
    kind, message = outcome_of(action)
    assert kind == "NondeterminismError"
    line = action.__code__.co_firstlineno
    assert message.startswith(f"{name} {RULES[rule].why} ({__file__}:")
    assert 0 <= int(message.partition(f"({__file__}:")[2].partition(")")[0]) - line <= 3
    assert message.endswith(f"write instead: {RULES[rule].instead}")


def test_sleeping_as_a_coroutine_does_is_refused_when_it_is_yielded(recwarn):
    def sleeps(context):
        yield asyncio.sleep(1)

    kind, message = told(started(sleeps))
    assert kind == "NondeterminismError"
    assert message.startswith(f"asyncio.sleep {RULES['sleep'].why} ({__file__}:{sleeps.__code__.co_firstlineno + 1})")
    assert not [one for one in recwarn if "never awaited" in str(one.message)]


def test_every_step_is_watched_also_the_clean_up():
    seen: list[str] = []

    def steps(context):
        try:
            yield context.wait_for_external_event("go")
            time.time()
        finally:
            try:
                os.listdir(".")
            except Exception as error:  # noqa: BLE001 - as an author would
                seen.append(type(error).__name__)

    execution = started(steps)
    assert execution.outcome is None
    execution.apply(h.EventRaised("go", pack(1, "")))
    assert told(execution)[0] == "NondeterminismError"
    assert seen == ["NondeterminismError"]
    started(steps).close()
    assert seen == ["NondeterminismError"] * 2


def test_the_author_may_catch_it():
    def catches(context):
        try:
            open(__file__)  # noqa: SIM115 - it is not opened
        except Exception as error:  # noqa: BLE001 - as an author would
            return type(error).__name__

    assert told(started(catches)) == '"NondeterminismError"'


@pytest.mark.parametrize(
    "action",
    [
        lambda c: str(datetime(2024, 1, 1)) + str(datetime.fromisoformat("2024-01-01")),
        lambda c: isinstance(c.current_utc_datetime, datetime),
        lambda c: random.Random(c.new_uuid()).choice([1, 2]),
        lambda c: str(uuid.uuid5(uuid.NAMESPACE_DNS, "x")),
        lambda c: c.new_uuid(),
        lambda c: os.path.join("a", "b"),
        lambda c: print(end=""),
        lambda c: __import__("colorsys").ONE_THIRD,
    ],
)
def test_what_replay_can_bear_is_let_through(action):
    assert not isinstance(outcome_of(action), tuple)


def test_a_module_that_an_orchestrator_imports_may_be_read(tmp_path, monkeypatch):
    (tmp_path / "helper_of_a_site.py").write_text("import time\nSTARTED = time.time()\nANSWER = 42\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def imports(context):
        import helper_of_a_site  # type: ignore[import-not-found]

        return helper_of_a_site.ANSWER

    assert told(started(imports)) == "42"
    del sys.modules["helper_of_a_site"]


def test_a_time_zone_may_be_looked_up():
    zoneinfo.ZoneInfo.clear_cache()
    zone = "Europe/Vienna"

    def local(context):
        return context.current_utc_datetime.astimezone(zoneinfo.ZoneInfo(zone)).isoformat()

    assert outcome_of(local) == '"2026-01-14T09:00:00+01:00"'


def test_the_log_may_ask_for_the_time_and_open_its_file(tmp_path):
    class Opens:
        def msg(self, text: str) -> None:
            with (tmp_path / "log").open("a") as file:
                file.write(text)

        info = msg

    def stamps(logger: object, method: str, event: Any) -> str:
        return f"{event['event']} {time.time() > 0}"

    structlog.configure(processors=[stamps], logger_factory=lambda *_: Opens(), cache_logger_on_first_use=False)
    try:

        def logs(context):
            time.monotonic  # noqa: B018 - so that it is watched closely
            context.log.info("hello")

        assert told(started(logs)) == "null"
    finally:
        structlog.reset_defaults()
    assert (tmp_path / "log").read_text() == "hello True"


# Nobody else notices


def test_other_threads_do_as_they_like_while_a_step_runs():
    inside, done = threading.Event(), threading.Event()
    seen: list[object] = []

    def elsewhere() -> None:
        inside.wait(5)
        with open(__file__) as file:
            seen.extend((time.time(), datetime.now(), random.random(), file.readline(), fresh()))
        done.set()

    def waits(context):
        inside.set()
        done.wait(5)
        return time.time()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        other = pool.submit(elsewhere)
        kind, message = told(started(waits))
        other.result(5)
    assert len(seen) == 5
    assert (kind, message.partition(" ")[0]) == ("NondeterminismError", "time.time")


def test_nothing_is_left_behind_after_a_step():
    def asks(context):
        return time.time()

    assert told(started(asks))[0] == "NondeterminismError"
    assert sys.getprofile() is None
    assert overrun.running == {}
    assert asks(None) > 0
    assert Path(__file__).read_text()


def test_only_code_that_names_such_a_thing_is_watched_closely():
    def ordinary(context):
        wait = context.create_timer(datetime.fromisoformat("2024-01-01"))
        yield wait
        context.log.info("done", at=str(context.current_utc_datetime))

    def helper():
        return time.time()

    def by_a_helper(context):
        return helper()

    assert step_of(ordinary)._profile is None
    assert step_of(by_a_helper)._profile is not None
    assert told(started(by_a_helper))[0] == "NondeterminismError"


def test_a_step_of_an_ordinary_orchestrator_costs_next_to_nothing():
    step = step_of(lambda context: None)
    best = 1.0
    for _ in range(50):
        begun = time.perf_counter()
        for _ in range(200):
            with step:
                pass
        best = min(best, (time.perf_counter() - begun) / 200)
    assert best < 5e-6


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(guard, "MAX_GUARDS", 3)
    for _ in range(10):
        step_of(lambda context: None)
        assert len(guard._guards) <= 3


# A step that does not end


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A step may take a tenth of a second."""
    monkeypatch.setattr(overrun.watch, "limit_s", 0.1)
    monkeypatch.setattr(overrun.watch, "look_s", 0.02)
    monkeypatch.setattr(overrun, "LOOK_AGAIN_S", 0.02)
    return


def for_ever(context):
    while True:
        pass
    yield


def catches_all(context):
    while True:
        try:
            while True:
                context.is_replaying  # noqa: B018 - something to do
        except Exception:  # noqa: BLE001 - as an author would
            pass
    yield


def cleans_up_for_ever(context):
    try:
        while True:
            pass
    finally:
        while True:
            pass
    yield


def asks_for_ever(context):
    while True:
        context.new_uuid()
    yield


def watched_closely(context):
    begun = 0.0 if context.is_replaying else 1.0
    while begun:
        begun += 1
    return time.time()


def goes_on(context):
    try:
        while True:
            pass
    except BaseException:  # noqa: BLE001 - as an author should not
        pass
    yield context.wait_for_external_event("go")


@pytest.mark.parametrize(
    "code",
    [for_ever, catches_all, cleans_up_for_ever, asks_for_ever, watched_closely, goes_on],
    ids=lambda f: f.__name__,
)
def test_an_orchestrator_that_never_yields_is_stopped_and_told_where(short_limit, code):
    kind, message = told(started(code))
    assert kind == "LimitExceededError"
    assert message.startswith("an orchestrator may take 0.1 s for a step, and this one was still at it")
    line = int(message.partition(f"({__file__}:")[2].partition(")")[0])
    assert 0 < line - code.__code__.co_firstlineno < 10
    assert overrun.running == {}
    # Nothing is pending: what comes next is left alone.
    for _ in range(100_000):
        pass


def test_clean_up_that_never_ends_is_stopped_when_an_orchestration_is_let_go(short_limit):
    def holds(context):
        try:
            yield context.wait_for_external_event("go")
        finally:
            while True:
                pass

    execution = started(holds)
    execution.close()
    assert execution.outcome is None


def test_a_step_that_is_just_over_its_time_ends_alone(monkeypatch):
    """Steps that last as long as the limit: each is either done or told so, and nothing hits the code around them."""
    monkeypatch.setattr(overrun.watch, "limit_s", 0.001)
    monkeypatch.setattr(overrun.watch, "look_s", 0.0005)
    monkeypatch.setattr(overrun, "LOOK_AGAIN_S", 0.0005)
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    outcomes = set()
    try:
        for length in range(600):
            n = 0

            def counts(context, until=length % 60 * 1000):
                n = 0
                while n < until:
                    n += 1
                return 1

            outcome = told(started(counts))
            outcomes.add(outcome if isinstance(outcome, str) else outcome[0])
            while n < 100:
                n += 1
    finally:
        sys.setswitchinterval(before)
    assert outcomes <= {"1", "LimitExceededError"}
    assert "1" in outcomes
    assert overrun.running == {}


async def test_all_others_go_on_while_one_is_stopped(site, monkeypatch):
    monkeypatch.setattr(overrun.watch, "limit_s", 0.4)
    monkeypatch.setattr(overrun.watch, "look_s", 0.05)

    def good(context):
        return (yield context.wait_for_external_event("go"))

    site.registry.orchestrator(for_ever, "for_ever")
    site.registry.orchestrator(good, "good")
    engine = await site.start()
    client = DurableOrchestrationClient(engine)
    await client.start_new("good", "g")
    await client.start_new("for_ever", "f")
    status = await client.wait_for_completion("f", 20)
    assert status.failure.kind == "LimitExceededError"
    await client.raise_event("g", "go", 7)
    assert (await client.wait_for_completion("g", 20)).output == 7


def test_the_watch_sleeps_while_no_step_runs(short_limit):
    assert told(started(lambda context: 1)) == "1"
    deadline = time.monotonic() + 5
    while not overrun.watch.asleep and time.monotonic() < deadline:
        time.sleep(0.01)
    assert overrun.watch.asleep
    assert told(started(for_ever))[0] == "LimitExceededError"


def test_a_process_that_stood_still_has_not_worked_for_so_long(short_limit, monkeypatch):
    """The machine sleeps for an hour in the middle of a step: the step is not to blame."""
    looks: list[float] = []

    def jumps() -> float:
        looks.append(0.0 if len(looks) < 3 else 3600.0)
        return looks[-1]

    monkeypatch.setattr(overrun, "_now", jumps)

    def works_for_some_looks(context):
        while len(looks) < 6:
            pass
        return len(looks) >= 6

    assert told(started(works_for_some_looks)) == "true"


def test_a_log_line_that_the_machine_does_not_take_is_not_the_step_s_fault(short_limit):
    def blocks(logger, method, event):
        threading.Event().wait(0.5)  # a pipe that nobody empties
        return event

    def says_so(context):
        structlog.wrap_logger(structlog.ReturnLogger(), processors=[blocks]).info("opens 7B")
        return "done"

    assert told(started(says_so)) == '"done"'


def test_one_that_never_stops_logging_is_stopped(short_limit):
    def chatters(context):
        log = structlog.wrap_logger(structlog.ReturnLogger(), processors=[])
        while True:
            log.info("again")

    assert told(started(chatters))[0] == "LimitExceededError"


def test_what_is_raised_as_the_step_ends_never_reaches_the_code_after_it(short_limit, monkeypatch):
    """The worst moment: the watch has seen that the step runs, and raises when it has just ended."""
    really, decided = overrun._raise_in, threading.Event()

    def late(thread: int) -> None:
        if threading.get_ident() != thread:
            decided.set()
            time.sleep(0.05)
        really(thread)

    monkeypatch.setattr(overrun, "_raise_in", late)

    def ends_then(context):
        while not decided.is_set():
            pass

    assert told(started(ends_then))[0] == "LimitExceededError"
    until = time.monotonic() + 0.15
    while time.monotonic() < until:
        pass


def test_what_arrives_on_the_way_out_of_a_step_is_told_like_any_other(short_limit, monkeypatch):
    step = step_of(lambda context: None)

    class Ends(dict[int, Any]):
        def pop(self, *args: Any) -> Any:
            if step.too_long is None:
                step.too_long = step.number, "here"
                overrun._raise_in(threading.get_ident())
            return super().pop(*args)

    monkeypatch.setattr(guard, "running", Ends())
    with pytest.raises(LimitExceededError, match="here"), step:
        pass


def test_one_that_was_told_so_even_later_is_told_like_any_other():
    def raises(context):
        raise overrun.StepTooLong

    assert told(started(raises))[0] == "LimitExceededError"


def test_an_orchestrator_may_be_an_object_that_can_be_called():
    class Program:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, context: Any) -> Any:
            return [context.new_uuid(), time.time()]

    execution = started(Program())
    assert told(execution)[0] == "NondeterminismError"
