"""Random programs with random failures: rewound until they end, they end as if nothing had ever failed."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.clock import SystemClock
from gateway.durable import Engine, Registry
from gateway.durable.exported import recorded
from gateway.durable.rehearsal import Verdict, rehearse
from gateway.durable.testing import MemoryStore

SIMPLE = st.sampled_from(["do", "start", "join", "all", "timer", "event", "signal"])
PROGRAM = st.recursive(
    st.lists(SIMPLE, min_size=1, max_size=7),
    lambda inner: st.lists(SIMPLE | inner, min_size=1, max_size=5),
    max_leaves=14,
)
MAX_REWINDS = 40


def run(context: Any, program: list[Any], name: str):
    """Each step has a name of its own, after its place."""
    pending: list[Any] = []
    results: list[Any] = []
    for place, word in enumerate(program):
        here = f"{name}.{place}"
        match word:
            case "do":
                results.append((yield context.call_activity("act", here)))
            case "start":
                pending.append(context.call_activity("act", here))
            case "join" if pending:
                results.append((yield pending.pop(0)))
            case "all":
                results.append((yield context.task_all(pending)))
                pending = []
            case "timer":
                yield context.create_timer(timedelta(milliseconds=20))
            case "event":
                results.append((yield context.wait_for_external_event("go", timeout=0.02, default="none")))
            case list():
                results.append((yield context.call_sub_orchestrator("program", {"program": word, "name": here})))
    results.append((yield context.task_all(pending)))
    return results


def program(context: Any):
    given = context.get_input()
    return (yield from run(context, given["program"], given["name"]))


def steps(words: list[Any], name: str) -> list[str]:
    """The names of all activities of a program."""
    found = []
    for place, word in enumerate(words):
        here = f"{name}.{place}"
        found += steps(word, here) if isinstance(word, list) else [here] if word in ("do", "start") else []
    return found


class Bench:
    """One program, its failures and its engine."""

    def __init__(self, failures: dict[str, int], delays: dict[str, int]) -> None:
        self.failures = Counter(failures)
        self.delays = delays
        self.succeeded: Counter[str] = Counter()
        self.registry = Registry()
        self.registry.orchestrator(program)
        self.registry.activity(self.act)
        self.store = MemoryStore()

    async def act(self, step: str) -> str:
        for _ in range(self.delays.get(step, 0)):
            await asyncio.sleep(0)
        if self.failures[step]:
            self.failures[step] -= 1
            raise ValueError(step)
        self.succeeded[step] += 1
        return step

    async def start(self) -> Engine:
        engine = Engine(self.store, self.registry, SystemClock(rate=1000.0))
        await engine.recover()
        engine.start()
        return engine

    async def crash(self, engine: Engine) -> Engine:
        self.store = MemoryStore.after(list(self.store.batches))
        engine._fail(RuntimeError("killed by the test"))
        for task in list(engine.activities._running.values()):
            task.cancel()
        await asyncio.sleep(0)
        return await self.start()


async def play(
    words: list[Any], failures: dict[str, int], delays: dict[str, int], crashes: list[bool]
) -> tuple[Any, Bench]:
    bench = Bench(failures, delays)
    engine = await bench.start()
    await engine.client.start_new("program", "i", {"program": words, "name": "p"})
    for rewinds in range(MAX_REWINDS + 1):
        status = await engine.client.wait_for_completion("i", 10)
        if status.runtime_status == "Completed":
            break
        assert status.failure is not None
        assert status.failure.is_caused_by(ValueError), status.failure
        assert rewinds < sum(failures.values()), "more rewinds than failures"
        await engine.client.rewind("i", "again")
        if crashes and crashes[rewinds % len(crashes)]:
            await engine.on_disk()
            engine = await bench.crash(engine)
    await engine.stop(1.0)
    for row in bench.store.rows.values():
        history = recorded(row, await bench.store.history(row.instance, row.first_seq))
        assert rehearse(bench.registry, history).verdict is Verdict.SAME
    assert not bench.store.pending_timers
    assert not bench.store.messages
    return status.output, bench


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data(), words=PROGRAM, crashes=st.lists(st.booleans(), max_size=3))
def test_rewound_programs_end_as_if_nothing_had_failed(data, words, crashes):
    names = steps(words, "p")
    some = st.dictionaries(st.sampled_from(names), st.integers(1, 2), max_size=4) if names else st.just({})
    failures = data.draw(some, label="failures")
    delays = data.draw(some, label="delays")
    expected, _ = asyncio.run(play(words, {}, {}, []))
    output, bench = asyncio.run(play(words, failures, delays, crashes))
    assert output == expected
    assert set(bench.succeeded) == set(names)
    if not any(crashes):
        waited_for = [name for name in names if _word(words, name) == "do"]
        assert all(bench.succeeded[name] == 1 for name in waited_for), "what had succeeded ran again"


def _word(words: list[Any], name: str) -> Any:
    found: Any = words
    for place in name.split(".")[1:]:
        found = found[int(place)]
    return found
