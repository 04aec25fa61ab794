"""Generates scripts (see ``programs``): mostly small, each with a few things that happen side by side.

Times are whole seconds out of few, so that things often happen at once; failures inside of composites are rare, as engines
that fail fast go apart there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.conformance.programs import EVENTS, KEYS, Json

_SAY = st.sampled_from([None, True, 0, 1, 7, -3, 2.5, "", "ja", "ö✓", [], [1, "x"], {"a": None}, {"k": [1, {"z": 2}]}])
_SECONDS = st.integers(0, 6)
_RETRY = st.sampled_from([[1000, 1], [1000, 2], [2000, 3], [500, 2]])


class _Maker:
    """Draws one script. without: features (see ``features``) that must not occur."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], without: frozenset[str]) -> None:
        self.draw = draw
        self.without = without
        self.tags = 0
        self.slots: list[tuple[str, str]] = []
        self.left = 22
        self.child = False
        self.chance = st.integers(0, 99)

    def script(self) -> Json:
        steps = self.block(1, 6, 0)
        rounds = self.draw(st.integers(0, 2)) if "rounds" not in self.without else 0
        if rounds and self.likely(35):
            steps.append(self.again())
        told = self.draw(
            st.lists(st.tuples(st.integers(0, 12), st.sampled_from(EVENTS), st.integers(0, 99)), max_size=7)
        )
        program = {"steps": steps, "rounds": rounds, "carry": None}
        return {"program": program, "events": [list(one) for one in sorted(told)]}

    def likely(self, percent: int) -> bool:
        return bool(self.draw(self.chance) >= 100 - percent)

    def tag(self) -> str:
        self.tags += 1
        return f"t{self.tags}"

    def pick(self, *choices: tuple[int, str]) -> str:
        """One of the names, by weight; those that are not wanted are left out."""
        names = [name for weight, name in choices for _ in range(weight) if name not in self.without]
        picked: str = self.draw(st.sampled_from(names))
        return picked

    def block(self, least: int, most: int, depth: int) -> list[Json]:
        return [self.step(depth) for _ in range(self.draw(st.integers(least, most)))]

    def step(self, depth: int) -> Json:
        self.left -= 1
        more = int(depth < 2 and self.left > 0)
        op = self.pick(
            (12, "wait"),
            (2, "start"),
            (int(bool(self.slots)) * 4, "join"),
            (int(any(do == "timer" for _, do in self.slots)) * 2, "cancel"),
            (2, "signal"),
            (1, "status"),
            (1, "now"),
            (1, "who"),
            (2 * more, "if"),
            (more, "repeat"),
            (3 * more, "try"),
            (1, "raise_if_odd"),
            (int(depth > 0), "raise"),
            (int(depth > 0), "return"),
            (int(depth > 0 and not self.child), "again"),
        )
        match op:
            case "wait":
                return {"op": op, "what": self.task(0)}
            case "start":
                leaf = {"do": "timer", "s": self.draw(_SECONDS)} if self.likely(30) else self.leaf(0, early=True)
                slot = f"s{len(self.slots)}"
                self.slots.append((slot, leaf["do"]))
                return {"op": op, "what": leaf, "as": slot}
            case "join":
                return {"op": "wait", "what": self.slot()}
            case "cancel":
                return {"op": op, "as": self.draw(st.sampled_from([s for s, do in self.slots if do == "timer"]))}
            case "signal":
                return self.to_entity({"op": op})
            case "status":
                return {"op": op, "value": self.draw(_SAY)}
            case "if":
                return {"op": op, "then": self.block(1, 2, depth + 1), "else": self.block(0, 2, depth + 1)}
            case "repeat":
                return {"op": op, "times": self.draw(st.integers(1, 3)), "body": self.block(1, 2, depth + 1)}
            case "try":
                return {"op": op, "body": self.block(1, 3, depth + 1), "handler": self.block(0, 2, depth + 1)}
            case "raise" | "raise_if_odd":
                return {"op": op, "tag": self.tag()}
            case "again":
                return self.again()
            case _:
                return {"op": op}

    def again(self) -> Json:
        """Continue as new, and some steps after it: what they ask for is ignored."""
        after: list[Json] = []
        if self.likely(30):
            after.append(self.to_entity({"op": "signal"}))
        if self.likely(20):
            after.append({"op": "again", "then": []})
        if self.likely(20):
            after.append({"op": "raise_if_odd", "tag": self.tag()})
        if self.likely(20):
            after.append({"op": "wait", "what": self.leaf(0)})
        return {"op": "again", "then": after}

    def slot(self) -> Json:
        return {"do": "slot", "as": self.draw(st.sampled_from(self.slots))[0]}

    def to_entity(self, base: Json) -> Json:
        operation = "get" if self.likely(25) else "add"
        if "entity failure" not in self.without and self.likely(15):
            operation = "fail"
        return {
            **base,
            "key": self.draw(st.sampled_from(KEYS)),
            "operation": operation,
            "input": self.draw(st.integers(0, 9)),
        }

    def task(self, depth: int) -> Json:
        if depth < 2 and self.left > -8 and self.likely(40 if depth == 0 else 20):
            do = self.pick((5, "all"), (5, "any"))
            self.left -= 1
            # Of parts that have ended when a task_any is made, v1 prefers this one: see "what has ended already".
            least = 0 if do == "all" and depth == 0 and self.likely(5) else 1
            of = [self.task(depth + 1) for _ in range(self.draw(st.integers(least, 4)))]
            return {"do": do, "of": of} if do == "all" else {"do": do, "of": of, "cancel": self.likely(50)}
        return self.leaf(depth)

    def leaf(self, depth: int, early: bool = False) -> Json:
        self.left -= 1
        do = self.pick(
            (6, "activity"),
            (int(not self.child and self.left > 0) * 2, "sub"),
            (2, "entity"),
            (2, "timer"),
            (0 if self.child or early else 4, "event"),
            (0 if early else 2 * int(bool(self.slots)), "slot"),
        )
        match do:
            case "activity":
                # Failures inside of composites are kept rare: engines that fail fast go apart there.
                failing = "failure" not in self.without and self.likely(30 if depth == 0 else 7)
                retry = self.draw(_RETRY) if not early and "retry" not in self.without and self.likely(25) else None
                failing = failing or (retry is not None and "failure" not in self.without and self.likely(60))
                return {
                    "do": do,
                    "tag": self.tag(),
                    "say": self.draw(_SAY),
                    "takes": self.draw(_SECONDS),
                    "fail": self.draw(st.sampled_from([1, 1, 2, 9])) if failing else 0,
                    "feed": self.likely(50),
                    "retry": retry,
                }
            case "sub":
                return self.sub(early)
            case "entity":
                return self.to_entity({"do": do})
            case "timer":
                return {"do": do, "s": self.draw(_SECONDS)}
            case "event":
                return {"do": do, "name": self.draw(st.sampled_from(EVENTS))}
            case _:
                return self.slot()

    def sub(self, early: bool) -> Json:
        retry = self.draw(_RETRY) if not early and "retry" not in self.without and self.likely(30) else None
        slots, self.slots, self.child = self.slots, [], True
        steps = self.block(0, 3, 1)
        self.slots, self.child = slots, False
        named = f"n{self.tags}" if retry is None and self.likely(20) else None
        return {"do": "sub", "steps": steps, "retry": retry, "id": named}


@st.composite
def scripts(draw: Callable[[st.SearchStrategy[Any]], Any], without: frozenset[str] = frozenset()) -> Json:
    """Scripts; none of them holds a feature that is named in ``without``."""
    return _Maker(draw, without).script()
