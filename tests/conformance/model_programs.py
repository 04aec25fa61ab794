"""The programs of the model: a small language, the orchestrator that interprets it on the engine, and what it works with.

A program is plain JSON, a list of steps; ``model_reference`` says what it must decide, without any of the engine's code.
Every step writes down what it saw, so that the output of an instance tells its whole story. Every message to an entity
carries a token that is used once (the instance's nonce and a number), so that a lost or a doubled one can be told.

    ["event", name]             wait for an event              ["wait", name, s]           the same, for so many seconds
    ["act", x] ["slow", x]      an activity, a held one        ["once", x]                 one that may run only once
    ["fail", n]                 fails n times; 3 attempts      ["sleep", s]                a timer
    ["add", key, n]             call an entity (n < 0: fails)  ["ask", key, x]             one that answers later
    ["sub", program]            a sub-orchestration
    ["all", leaves] ["any", leaves]                            of those above
    ["tell", key, n]            signal an entity               ["tell_at", key, n, s]      in so many seconds
    ["send", instance, name]    an event to another instance   ["status", x]               custom status
    ["lock", keys] … ["unlock"] a critical section             ["again"]                   continue as new with the rest
    ["boom"]                    raises ValueError              ["must", x]  an activity whose failure ends the program
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from gateway.clock import to_us
from gateway.durable import RetryOptions, TaskFailedError
from gateway.durable.identity import EntityId

Json = Any
NAMES = ("a", "b")
KEYS = ("k1", "k2", "k3")
ATTEMPTS = 3
RETRY = RetryOptions(1000, ATTEMPTS, 2.0)


class Shaky(Exception):
    """What a shaky activity raises."""


def run(context: Any) -> Generator[Any, Any, Json]:
    """The orchestrator: interprets its input."""
    given = context.get_input()
    log: list[Json] = given["log"]
    story = _Story(context, given["nonce"], given["n"])
    with contextlib.ExitStack() as locks:
        for place, step in enumerate(given["steps"]):
            kind, *rest = step
            match kind:
                case "must":
                    value = yield context.call_activity("must", rest[0])
                    log.append([kind, value, to_us(context.current_utc_datetime)])
                case "tell":
                    context.signal_entity(EntityId("tally", rest[0]), "add", {"token": story.token(), "n": rest[1]})
                case "tell_at":
                    at = context.current_utc_datetime + timedelta(seconds=rest[2])
                    value = {"token": story.token(), "n": rest[1]}
                    context.signal_entity(EntityId("tally", rest[0]), "add", value, at)
                case "send":
                    context.send_event(rest[0], rest[1], [given["nonce"], story.token()])
                case "status":
                    context.set_custom_status(rest[0])
                case "again":
                    context.continue_as_new(
                        {"steps": given["steps"][place + 1 :], "log": log, "nonce": given["nonce"], "n": story.n}
                    )
                    return None
                case "boom":
                    raise ValueError(f"boom of {given['nonce']}")
                case "lock":
                    locks.enter_context((yield context.lock_entities([EntityId("tally", key) for key in rest[0]])))
                    log.append(["lock", None, to_us(context.current_utc_datetime)])
                case "unlock":
                    locks.close()
                case "all":
                    try:
                        value = yield context.task_all([story.leaf(leaf) for leaf in rest[0]])
                    except TaskFailedError as error:
                        value = ["failed", error.details.kind]
                    log.append(["all", value, to_us(context.current_utc_datetime)])
                case "any":
                    tasks = [story.leaf(leaf) for leaf in rest[0]]
                    winner = yield context.task_any(tasks)
                    value = ["failed", winner.exception.details.kind] if winner.is_faulted else winner.result
                    log.append(["any", [tasks.index(winner), value], to_us(context.current_utc_datetime)])
                case _:
                    try:
                        value = yield story.leaf(step)
                    except TaskFailedError as error:
                        value = ["failed", error.details.kind]
                    log.append([kind, value, to_us(context.current_utc_datetime)])
    return log


class _Story:
    def __init__(self, context: Any, nonce: str, n: int) -> None:
        self.context = context
        self.nonce = nonce
        self.n = n

    def token(self) -> str:
        self.n += 1
        return f"{self.nonce}.{self.n}"

    def leaf(self, step: list[Json]) -> Any:
        context = self.context
        match step:
            case ["event", name]:
                return context.wait_for_external_event(name)
            case ["wait", name, seconds]:
                return context.wait_for_external_event(name, timeout=seconds, default="late")
            case [("act" | "slow" | "once") as kind, x]:
                return context.call_activity(kind, x)
            case ["fail", times]:
                return context.call_activity_with_retry("fail", RETRY, times)
            case ["sleep", seconds]:
                return context.create_timer(timedelta(seconds=seconds))
            case ["add", key, n]:
                return context.call_entity(EntityId("tally", key), "add", {"token": self.token(), "n": n})
            case ["ask", key, x]:
                return context.call_entity(EntityId("tally", key), "ask", {"token": self.token(), "x": x})
            case ["sub", steps]:
                given = {"steps": steps, "log": [], "nonce": self.token(), "n": 0}
                return context.call_sub_orchestrator("run", given)
        raise AssertionError(step)


def tally(context: Any) -> None:
    """The entity: a total, and the tokens of all that it has heard. Tells the audit of each tenth."""
    state = context.get_state(lambda: {"total": 0, "seen": []})
    given = context.get_input()
    token = given.get("token")
    match context.operation_name:
        case "add":
            state["total"] += given["n"]
            state["seen"].append(token)
            context.set_state(state)
            context.signal_entity(EntityId("audit", "all"), "note", {"token": token})
            if given["n"] < 0:
                raise ValueError("not below zero")
            context.set_result(state["total"])
        case "ask":
            waits = context.defer_result()
            context.call_activity("act", given["x"], on_result="answered", context=[waits, token])
            state["seen"].append(token)
            context.set_state(state)
        case "answered":
            waits, token = given["context"]
            state["seen"].append(f"{token} answered")
            context.set_state(state)
            context.resolve(waits, given["result"])
        case "begin":
            state["seen"].append(token)
            context.set_state(state)
            started = {"steps": given["steps"], "log": [], "nonce": f"{token} began", "n": 0}
            context.set_result(context.start_new("run", started))


def audit(context: Any) -> None:
    """The entity that is told by others: tokens in order."""
    seen = context.get_state(list)
    context.set_state([*seen, context.get_input()["token"]])


# Generators

_numbers = st.integers(0, 9)
_names = st.sampled_from(NAMES)
_keys = st.sampled_from(KEYS)
_seconds = st.sampled_from([1, 2, 5, 60, 3600])
_small = st.one_of(
    st.tuples(st.just("event"), _names),
    st.tuples(st.just("event"), _names),
    st.tuples(st.just("wait"), _names, _seconds),
    st.tuples(st.just("act"), _numbers),
    st.tuples(st.just("slow"), _numbers),
    st.tuples(st.just("once"), _numbers),
    st.tuples(st.just("fail"), st.integers(0, ATTEMPTS)),
    st.tuples(st.just("sleep"), _seconds),
    st.tuples(st.just("add"), _keys, st.integers(-1, 9)),
    st.tuples(st.just("ask"), _keys, _numbers),
)
_plain = st.one_of(
    _small,
    st.tuples(st.just("tell"), _keys, _numbers),
    st.tuples(st.just("tell_at"), _keys, _numbers, _seconds),
    st.tuples(st.just("status"), _numbers),
)
_children = st.lists(_plain, max_size=2).map(lambda steps: ("sub", steps))
_failing_child = st.lists(_plain, max_size=1).map(lambda steps: ("sub", [*steps, ("boom",)]))
_leaves = st.lists(st.one_of(_small, _small, _children, _failing_child), min_size=1, max_size=3)


def _locked(keys: list[str], inner: list[Any]) -> list[Any]:
    allowed = [step if step[0] not in ("add", "ask") else (step[0], keys[0], *step[2:]) for step in inner]
    return [("lock", sorted(set(keys))), *allowed, ("unlock",)]


_sections = st.builds(_locked, st.lists(_keys, min_size=1, max_size=2), st.lists(_small, max_size=2))
_step = st.one_of(
    _plain.map(lambda step: [step]),
    _plain.map(lambda step: [step]),
    _children.map(lambda step: [step]),
    _failing_child.map(lambda step: [step]),
    st.tuples(st.just("all"), _leaves).map(lambda step: [step]),
    st.tuples(st.just("any"), _leaves).map(lambda step: [step]),
    st.tuples(st.just("send"), st.sampled_from([f"i{n}" for n in range(4)]), _names).map(lambda step: [step]),
    _sections,
    st.just([("again",)]),
)


def _plain_json(value: Json) -> Json:
    return [_plain_json(item) for item in value] if isinstance(value, tuple | list) else value


_patient = st.sampled_from(
    [
        [("event", "a")],
        [("event", "b")],
        [("wait", "a", 60)],
        [("again",)],
        [("sleep", 2)],
        [("must", 1)],
        [("event", "a"), ("must", 2), ("event", "b"), ("must", 3)],
        [("all", [("act", 1), ("wait", "a", 5)]), ("tell", "k3", 1), ("must", 3)],
        [("add", "k1", 2), ("must", 1), ("ask", "k2", 2), ("sleep", 1)],
        [("sub", [("event", "a"), ("must", 4), ("add", "k2", 1)])],
        [("any", [("act", 1), ("event", "a")]), ("must", 2), ("tell", "k1", 1)],
        [("lock", ["k1"]), ("event", "a"), ("add", "k1", 1), ("unlock",)],
        [("lock", ["k1", "k2"]), ("slow", 1), ("add", "k2", 1), ("unlock",)],
        [("any", [("event", "a"), ("event", "b"), ("sleep", 60)])],
        [("all", [("event", "a"), ("slow", 3), ("wait", "b", 5)])],
    ]
)


def flat(steps: list[list[Json]]) -> list[Json]:
    """One program of parts of programs."""
    whole: list[Json] = _plain_json([part for step in steps for part in step])
    return whole


_settled_leaves = st.one_of(
    st.tuples(st.sampled_from(["act", "slow"]), _numbers),
    st.tuples(st.just("fail"), st.integers(0, ATTEMPTS)),
    st.tuples(st.just("sleep"), _seconds),
    st.tuples(st.just("wait"), _names, _seconds),
    st.tuples(st.just("add"), _keys, st.integers(-1, 9)),
    st.tuples(st.just("ask"), _keys, _numbers),
)
_settled = st.one_of(_settled_leaves, st.tuples(st.just("tell"), _keys, _numbers), st.just(("status", 1)))
settled_steps = st.one_of(
    _settled.map(lambda step: [step]),
    _settled.map(lambda step: [step]),
    st.tuples(st.just("all"), st.lists(_settled_leaves, min_size=1, max_size=3)).map(lambda step: [step]),
    st.lists(_settled, max_size=3).map(lambda steps: [("sub", steps)]),
    st.lists(_settled, max_size=1).map(lambda steps: [("sub", [*steps, ("boom",)])]),
    st.builds(_locked, st.lists(_keys, min_size=1, max_size=2), st.lists(_settled_leaves, max_size=2)),
    st.just([("again",)]),
)
"""Parts of programs whose outcome does not depend on when, or how often, the process that runs them begins anew."""


programs: st.SearchStrategy[list[Json]] = st.one_of(
    st.lists(_step, min_size=1, max_size=6).map(flat),
    st.lists(_patient, min_size=2, max_size=8).map(flat),
    st.lists(st.one_of(_step, _patient), min_size=1, max_size=8).map(flat),
)
"""Some of all kinds, and some that wait most of the time."""
