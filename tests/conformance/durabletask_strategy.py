"""Generates runs: programs without races, and scripts that are sure to bring them to an end.

The generator keeps the books of external events while it writes a program: how many of each name lie in store because
they came early, and how many waits were given up by a race and will eat the next one. So it knows at each pause what has
to be raised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import TypeVar

from hypothesis import strategies as st

from tests.conformance.durabletask_programs import (
    FAULTS,
    Act,
    All,
    Ask,
    Child,
    Deed,
    Do,
    Enter,
    First,
    Hear,
    Join,
    Json,
    Nap,
    Never,
    Patience,
    Pause,
    Probe,
    Program,
    Raise,
    Resume,
    Round,
    Run,
    Say,
    Section,
    Send,
    Signal,
    Slow,
    Start,
    Step,
    Suspend,
    Tell,
    Terminate,
    Tree,
    parts_of,
)

T = TypeVar("T")

EVENTS = ("Alpha", "beta", "Gamma")
BOXES = ("box:a", "box:b", "box:own")
COUNTERS = ("c1", "c2", "c3")
CERTAIN_MS = 3_600_000
VALUES: tuple[Json, ...] = (
    None,
    True,
    False,
    0,
    -(2**40),
    2.5,
    "",
    'é€ "quoted" \\',
    "null",
    [],
    [1, [2, None]],
    {},
    {"x": 1, "y": {"z": []}},
)


class Author:
    """Writes one run."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.numbers = 0
        self.programs: list[Program] = []
        self.names: list[str] = []
        self.in_store: Counter[str] = Counter()
        self.given_up: Counter[str] = Counter()
        self.slots: list[int] = []
        self.may_start = True
        self.carried = False
        self.goes_again = False

    # Small things

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def upto(self, most: int, least: int = 0) -> int:
        return self.random.randint(least, most)

    def chance(self, percent: int) -> bool:
        return self.upto(99) < percent

    def one_of(self, options: Sequence[T]) -> T:
        return options[self.upto(len(options) - 1)]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        left = list(options)
        return [left.pop(self.upto(len(left) - 1)) for _ in options]

    def some(self, options: Sequence[T]) -> list[T]:
        return self.shuffled(options)[: self.upto(len(options), 1)]

    def any_of(self, options: Sequence[T], most: int = 3) -> list[T]:
        return [self.one_of(options) for _ in range(self.upto(most, 1))]

    # Trees

    def act(self, may_fail: bool, may_retry: bool = True) -> Act:
        fails = self.upto(3) if may_retry and self.chance(40) else 0
        attempts = self.upto(4, 2) if fails and self.chance(70) else 0
        if attempts and may_fail and self.chance(50):
            fails = max(fails, attempts)
        if not may_fail and fails >= max(attempts, 1):
            fails = 0
        return Act(self.number(), self.one_of(VALUES), fails, self.one_of(list(FAULTS)), attempts, self.upto(3) * 5)

    def ask(self, may_fail: bool) -> Ask:
        operations = ["add", "forward"] + ["start"] * self.may_start + ["fail"] * may_fail
        if self.chance(25):
            return Ask("tally:t", self.one_of(["add", "fail"]) if may_fail else "add", self.number())
        return self.ask_box(self.one_of(BOXES), self.one_of(operations))

    def ask_box(self, box: str, operation: str) -> Ask:
        if operation == "start":
            return Ask(box, operation, self.new_name("s"))
        if box == "box:own" and self.chance(15):
            operation = "drop"
        if operation == "fail":
            self.names += ["ghost"] if "ghost" not in self.names else []
        return Ask(box, operation, self.number())

    def new_name(self, kind: str) -> str:
        name = f"{kind}{self.number()}"
        self.names.append(name)
        return name

    def leaf(self, depth: int, may_fail: bool) -> Tree:
        kind = self.one_of(["act", "act", "nap", "ask", "child"])
        if kind == "child" and depth < 2:
            return self.child(depth + 1, may_fail)
        if kind == "nap":
            return Nap(self.upto(4) * 5)
        return self.ask(may_fail) if kind == "ask" else self.act(may_fail)

    def tree(self, depth: int, may_fail: bool, height: int = 0) -> Tree:
        """At most one part of it can fail: which of two failures comes first would be a race."""
        kind = self.one_of(["leaf", "leaf", "all", "first"]) if height < 2 else "leaf"
        if kind == "leaf":
            return self.leaf(depth, may_fail)
        if kind == "all":
            number = self.upto(4, 2)
            failing = self.upto(number - 1) if may_fail else -1
            return All(tuple(self.tree(depth, n == failing, height + 1) for n in range(number)))
        losers: list[Tree] = [Never(), Slow(CERTAIN_MS)]
        parts: list[Tree] = [self.one_of(losers) for _ in range(self.upto(2, 1))]
        parts.insert(self.upto(len(parts)), self.tree(depth, may_fail, height + 1))
        return First(tuple(parts))

    def child(self, depth: int, may_fail: bool) -> Child:
        attempts = self.upto(3, 2) if may_fail and self.chance(20) else 0
        version = self.one_of(["", "", "1.0", "2.1"]) if not attempts else ""
        may_start = self.may_start
        self.may_start = may_start and not attempts  # a start that is done again finds its instance there, alive or not
        ref = self.program(depth, may_fail)
        self.may_start = may_start
        return Child(ref, "", attempts, version)

    def program(self, depth: int, may_fail: bool) -> int:
        """A program without pauses, for sub-orchestrations."""
        steps: list[Step] = []
        for _ in range(self.upto(2, 1)):
            match self.one_of(["do", "tell", "section", "probe"]):
                case "do":
                    steps.append(Do(self.leaf(depth, may_fail), not may_fail or self.chance(50)))
                case "tell":
                    steps += self.tells()
                case "section":
                    steps.append(self.section(may_fail))
                case _:
                    steps.append(Probe())
        last = self.last_round(steps, may_fail and self.chance(30))
        if self.chance(20):
            return self.add(Program((Round((Do(self.act(False)),), "again"), last)))
        return self.add(Program((last,)))

    def add(self, program: Program) -> int:
        self.programs.append(program)
        return len(self.programs)

    def last_round(self, steps: list[Step], fails: bool) -> Round:
        return Round(tuple(steps), "raise" if fails else "return", True, self.number())

    # Steps

    def tells(self) -> list[Step]:
        """Signals in a row to one entity; one may fail, the others count. Its answer shows their order."""
        box = self.one_of(BOXES)
        found: list[Step] = []
        for _ in range(self.upto(4, 2)):
            order = self.ask_box(box, self.one_of(["add", "add", "forward", "fail", *["start"] * self.may_start]))
            late = self.upto(3, 1) * 10 if order.operation == "add" and box != "box:own" and self.chance(15) else 0
            found.append(Tell(box, order.operation, order.argument, late))
        return [*found, Do(self.ask_box(box, "add"))]

    def section(self, may_fail: bool, keys: tuple[str, ...] = COUNTERS) -> Section:
        broken = self.one_of(["before", "after"]) if self.chance(25) else ""
        return Section(
            self.number(),
            tuple(self.any_of(keys)),
            self.upto(2) * 5,
            broken,
            not may_fail or self.chance(70),
            self.one_of(["nested", "other", "signal"]) if self.chance(20) else "",
        )

    def pause(self, early: int = 50) -> Pause:
        """Waits, and the script that ends them. early: percent of such scripts that raise events for later, too."""
        how = self.one_of(["sequence", "all", "any"])
        suspended = self.chance(35)
        if how == "any":
            names = tuple(self.some(EVENTS))
            if (
                self.carried
            ):  # of several carried events this engine takes the first wait's, durabletask the first raised
                stored = [name for name in names if self.in_store[name]]
                names = tuple(name for name in names if name not in stored[1:])
            needed = self._needed_by_any(names, suspended)
        else:
            stored = [name for name in EVENTS if self.in_store[name]]
            names = tuple(self.any_of([*EVENTS, *stored * 3]))
            needed = self._needed_by_all(names)
        return Pause(self.number(), how, names, self._script(needed, suspended, early))

    def last_pause(self, script: tuple[Deed, ...]) -> Pause:
        """A wait that only an end from outside ends."""
        return Pause(self.number(), "all", ("never",), script)

    def _needed_by_all(self, names: tuple[str, ...]) -> list[str]:
        needed: list[str] = []
        for name, count in Counter(names).items():
            from_store = min(count, self.in_store[name])
            self.in_store[name] -= from_store
            if count > from_store:
                needed += [name] * (count - from_store + self.given_up.pop(name, 0))
        return self.shuffled(needed)

    def _needed_by_any(self, names: tuple[str, ...], suspended: bool) -> list[str]:
        stored = [name for name in names if self.in_store[name]]
        for name in stored:
            self.in_store[name] -= 1
        waiting = {name: 1 + self.given_up.pop(name, 0) for name in names if name not in stored}
        needed: list[str] = []
        if not stored:
            raised = [name for name in self.some(names) for _ in range(waiting[name])]
            for name in self.shuffled(raised):
                needed.append(name)
                waiting[name] -= 1
                if not waiting[name] and (not suspended or self.goes_again):
                    break  # the program goes on by now, perhaps to its end, or to its next execution
        self.given_up.update(waiting)
        return needed

    def _script(self, needed: list[str], suspended: bool, early_percent: int) -> tuple[Deed, ...]:
        """Early events for later waits, then what ends the pause; perhaps while suspended. None if nothing is needed."""
        if not needed:
            return ()
        deeds: list[Deed] = [self.signal()] if self.chance(15) else []
        if suspended:
            deeds.append(Suspend())
        for name in self.some(EVENTS) if self.chance(early_percent) else []:
            if not self.given_up[name] and name not in needed:
                early = [self.event(name) for _ in range(self.upto(3, 1))]
                self.in_store[name] += len(early)
                deeds += early
        deeds += [self.event(name) for name in needed]
        return (*deeds, Resume()) if suspended else tuple(deeds)

    def event(self, name: str) -> Raise:
        spelled = self.one_of([name, name.upper(), name.lower()])
        return Raise(spelled, [self.number(), self.one_of(VALUES)] if self.chance(50) else self.number())

    def signal(self) -> Signal:
        return Signal(self.one_of(["box:a", "box:b"]), "add", self.number())

    def patience(self) -> Patience:
        name = self.one_of(EVENTS)
        mark = self.number()
        if self.in_store[name]:
            self.in_store[name] -= 1
            return Patience(mark, name, CERTAIN_MS, ())
        if self.given_up[name] or self.chance(50):
            return Patience(mark, name, 15, ())
        return Patience(mark, name, CERTAIN_MS, (self.event(name),))

    def steps(self, may_fail: bool) -> list[Step]:
        """One to three steps that belong together."""
        caught = bool(self.slots) or not may_fail or self.chance(80)
        match self.one_of(
            ["do", "do", "pause", "pause", "tells", "patience", "section", "crowd", "start", "send", "say", "probe"]
        ):
            case "do":
                return [Do(self.tree(0, True), caught)]
            case "pause":
                return [self.pause()]
            case "tells":
                return self.tells()
            case "patience":
                return [self.patience()]
            case "section":
                section = self.section(not caught)
                if not section.forbidden and self.chance(30):
                    section = Section(section.number, section.keys, section.work_ms, pause=self.pause())
                return [section]
            case "crowd":
                keys = COUNTERS[: self.upto(2, 1)]
                crowd = [self.member(keys) for _ in range(self.upto(4, 2))]
                return [Do(All(tuple(crowd)))]
            case "start":
                slot = self.number()
                self.slots.append(slot)
                # No retry here: durabletask repeats an action that it decides on in the turn in which it is suspended.
                trees: list[Tree] = [self.act(False, False), Nap(20), All((self.ask(False), Nap(10)))]
                return [Start(slot, self.one_of(trees))]
            case "send":
                return self.conversation()
            case "say":
                return [Say(self.one_of(VALUES))]
        return [Probe()]

    def member(self, keys: tuple[str, ...]) -> Child:
        """One of several that want the same counters."""
        sections = tuple(self.section(False, keys) for _ in range(self.upto(2, 1)))
        return Child(self.add(Program((self.last_round(list(sections), False),))))

    def conversation(self) -> list[Step]:
        """A child that waits for events, and events that its parent sends."""
        names = self.any_of(EVENTS)
        heard = self.shuffled(names)
        child = self.add(Program((self.last_round([Hear(name) for name in heard], False),)))
        named, slot = self.new_name("k"), self.number()
        sent = [Send(named, name.upper() if self.chance(30) else name, self.number()) for name in names]
        return [Start(slot, Child(child, named)), *sent, Join(slot)]

    # Programs

    def round(self, end: str) -> Round:
        steps: list[Step] = []
        self.slots = []
        last = end != "again"
        self.goes_again = not last
        for _ in range(self.upto(5, 2)):
            steps += self.steps(last)
            if self.slots and self.chance(40):
                steps.append(Join(self.slots.pop(self.upto(len(self.slots) - 1))))
        steps += [Join(slot) for slot in self.slots]
        if end == "again" and self.chance(60):
            steps.append(self.pause(100))
        self.given_up.clear()
        left = sum(self.in_store.values())
        keep = self.chance(60)
        if end == "again" and not keep:
            self.in_store.clear()
        self.carried = end == "again"
        if end == "terminate":
            script: tuple[Deed, ...] = (Suspend(), Terminate()) if self.chance(30) else (Terminate(),)
            if self.chance(50):  # in a critical section, while somebody waits for what it has locked
                script = (Enter(self.member(COUNTERS).ref, self.new_name("late")), *script)
                steps.append(Section(self.number(), COUNTERS, pause=self.last_pause(script)))
            else:
                steps.append(self.last_pause(script))
            end = "return"
        locked = tuple(self.some(COUNTERS)) if end == "again" and self.chance(25) else ()
        return Round(tuple(steps), end, keep, self.number(), left, locked)

    def run(self) -> Run:
        if self.chance(12):
            return self.run_to_rewind()
        again = self.upto(2, 1) if self.chance(30) else 0
        rounds = [self.round("again") for _ in range(again)]
        rounds.append(self.round(self.one_of(["return"] * 8 + ["raise", "terminate"])))
        rivals: list[int] = []
        if self.chance(20):
            rivals = [self.member(COUNTERS).ref for _ in range(self.upto(3, 1))]
        return self.whole(rounds, rivals)

    def whole(self, rounds: list[Round], rivals: Sequence[int] = (), rewinds: int = 0) -> Run:
        started = Program((self.last_round([Do(self.act(False)), Probe()], False),))
        version = self.one_of(["", "", "1.4"])
        programs = (Program(tuple(rounds)), *self.programs, started)
        return Run(programs, tuple(rivals), version, tuple(self.names), rewinds)

    # Rewinds: nothing fails here but what is rewound, for durabletask takes back failures that were caught, too

    def run_to_rewind(self) -> Run:
        steps: list[Step] = self.shuffled(
            [self.failing(self.upto(2)) for _ in range(self.upto(2, 1))] + [self.sound() for _ in range(self.upto(4))]
        )
        rewinds = sum(part.fails for part in parts_of((*steps, *self.programs)) if isinstance(part, Act))
        return self.whole([self.last_round(steps, False)], (), rewinds)

    def failing(self, depth: int) -> Do:
        """A step that fails once or twice and then does not any more; depth: of the sub-orchestration that it is in."""
        tree: Tree = Act(self.number(), self.one_of(VALUES), self.upto(2, 1), self.one_of(list(FAULTS)))
        if depth:
            steps = self.shuffled([self.failing(depth - 1), *(self.sound() for _ in range(self.upto(2)))])
            tree = Child(self.add(Program((self.last_round(steps, False),))))
        if self.chance(50):
            beside: list[Tree] = [self.act(False, False), Nap(5), self.act(False, False)]
            tree = All(tuple(self.shuffled([tree, *beside[: self.upto(3, 1)]])))
        return Do(tree, False)

    def sound(self) -> Step:
        match self.one_of(["act", "nap", "ask", "tell", "probe", "section"]):
            case "act":
                return Do(self.act(False, False))
            case "nap":
                return Do(Nap(5))
            case "ask":
                return Do(Ask(self.one_of(["box:a", "box:own"]), "add", self.number()))
            case "tell":
                return Tell("box:b", "forward", self.number())
            case "section":
                return Section(self.number(), tuple(self.any_of(COUNTERS)))
        return Probe()


def runs() -> st.SearchStrategy[Run]:
    """Runs of all kinds. Hypothesis gives one number for each: it would spend its time on varying runs that it has."""
    return st.randoms(use_true_random=True).map(lambda random: Author(random).run())
