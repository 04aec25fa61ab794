"""The story that the report tells: what of the journal becomes an event, an outcome, an outage, a proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.durable import history as h
from gateway.durable.codec import NULL, pack
from gateway.shedding.breaker_model import Breaker, Ended, Phase, Result
from gateway.shedding.report import EventKind, FeederState, Verdict
from gateway.shedding.substation import Running, Substation
from gateway.story import tell_story
from gateway.story_feeders import parse_proofs
from gateway.trend import TrendSample, TrendStore
from protocols.base import Position, Quality

MINUTE = 60_000_000
T0 = 1_389_850_000_000_000
PROCEDURE = "shed-North-000001"


class Book:
    """A journal of a few records."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, str, str, int, bytes]] = []

    def write(self, minute: float, instance: str, kind: str, payload: bytes) -> None:
        """One more record, so many minutes after T0."""
        self.rows.append((len(self.rows) + 1, instance, kind, T0 + int(minute * MINUTE), payload))

    def gateway(self, minute: float, event: str, **more: Any) -> None:
        """A record of the gateway's own."""
        self.write(minute, "", "gateway", msgspec.json.encode({"event": event, **more}))

    def turn(self, minute: float, *events: Any, **status: Any) -> None:
        """A turn of the procedure."""
        told = pack(status, "status") if status else NULL
        self.write(minute, PROCEDURE, h.TURN, h.encode_turn(h.TurnRecord(list(events), told)))

    def stress(self, minute: float, on: bool, percent: float) -> None:
        """The transformer's zone changed."""
        told = pack({"on": on, "load_pct": percent}, "stress")
        record = h.EntityRecord([h.OperationRecord("stress", told)])
        self.write(minute, "@substation@North", h.OPERATION, msgspec.json.encode(record))

    async def records(
        self, after_seq: int, limit: int = 1000, *, instance: str | None = None, kinds: Sequence[str] | None = None
    ) -> list[tuple[int, str, str, int, bytes]]:
        """As the journal has it."""
        found = [r for r in self.rows if r[0] > after_seq and instance in (None, r[1]) and (not kinds or r[2] in kinds)]
        return found[:limit]


def make_field() -> Any:
    """As much of a field as the story asks for."""
    feeder = SimpleNamespace(tier="Tier1", rated_kw=10.0, customers=3)
    site = SimpleNamespace(
        name="North",
        sha256="ab",
        gateway=SimpleNamespace(simulated_clock=None),
        trigger=SimpleNamespace(arm_pct=98.0, clear_pct=95.0),
    )
    return SimpleNamespace(site=site, feeders={"F1": feeder, "F2": feeder, "F3": feeder})


def heatwave() -> Book:
    """A procedure whose cooldown was cut by a power loss."""
    book = Book()
    book.gateway(-30, "started")
    book.stress(0, True, 98.4)
    book.turn(0.1, h.ExecutionStarted("LoadSheddingProtocol"), phase="shedding", tier="Tier1", sentence="opens 1 of 2")
    book.turn(0.2, phase="shedding", tier="Tier1", sentence="opens 2 of 2")
    book.turn(1, phase="cooldown", tier="Tier1", until="x", sentence="waits until 2014-01-16T05:00:00.000Z")
    book.gateway(6, "started")
    book.gateway(7, "reconciled", sentence="3 breakers as last known", in_procedure=True)
    override = {"decision": "skip", "actor": "m.meier", "reason": "enough"}
    book.turn(8, h.EventRaised("OperatorOverride", pack(override, "o")))
    book.turn(9, phase="shedding", tier="Tier1", sentence="opens 1 of 1")
    book.turn(9.5, phase="shedding", tier="Tier2", sentence="opens 1 of 1")
    book.stress(20, False, 94.0)
    book.turn(30, phase="restoring", tier="Tier2", sentence="closes 3 feeders")
    book.turn(40, h.ExecutionCompleted(pack({"status": "restored"}, "r")))
    return book


DONE = Substation(
    started=1,
    last_result={"status": "restored", "opened": 3, "closed": 2, "peak_shed_kw": 2500.0, "not_closed": ["F3"]},
)


async def tell(book: Book, tmp_path: Path, station: Substation = DONE, **more: Any) -> Any:
    """The report's data, an hour after T0."""
    trend = TrendStore(tmp_path)
    states = more.pop("states", {})
    return await tell_story(book, trend, make_field(), station, states, "hash", T0 + 60 * MINUTE, **more)


async def test_each_step_is_told_once_in_order(tmp_path):
    data = await tell(heatwave(), tmp_path)
    assert [(round((e.time_us - T0) / MINUTE, 1), e.kind, e.title) for e in data.events] == [
        (0.0, EventKind.ARMED, "Stress: armed"),
        (0.1, EventKind.TIER_SHED, "Shed Tier1"),
        (1.0, EventKind.COOLDOWN, "Cooldown after Tier1"),
        (1.0, EventKind.POWER_LOSS, "Gateway lost power or was killed"),
        (7.0, EventKind.RESTART, "Gateway is back; field reconciled"),
        (8.0, EventKind.OVERRIDE, "Override: skip"),
        (9.0, EventKind.OTHER, "Shed more of Tier1"),
        (9.5, EventKind.TIER_SHED, "Shed Tier2"),
        (20.0, EventKind.CLEARED, "Stress has cleared"),
        (30.0, EventKind.RESTORE_STAGE, "Restoration stage"),
        (40.0, EventKind.FINISHED, "Procedure finished: restored"),
    ]


async def test_a_load_that_hovers_around_the_limit_is_one_step(tmp_path):
    book = Book()
    book.turn(0, h.ExecutionStarted("LoadSheddingProtocol"))
    for minute in range(10):
        phase = ("watching", "stable")[minute % 2]
        book.turn(1 + minute, phase=phase, sentence=f"loading is {94.9 + minute % 2 / 5:.1f} %")
    assert [e.title for e in (await tell(book, tmp_path)).events] == ["Watching"]


async def test_an_override_tells_who_and_why(tmp_path):
    events = (await tell(heatwave(), tmp_path)).events
    override = next(e for e in events if e.kind is EventKind.OVERRIDE)
    assert (override.actor, override.reason) == ("m.meier", "enough")


async def test_an_orderly_stop_is_no_power_loss(tmp_path):
    book = heatwave()
    book.gateway(45, "stopping")
    book.gateway(46, "started")
    losses = [e for e in (await tell(book, tmp_path)).events if e.kind is EventKind.POWER_LOSS]
    assert len(losses) == 1


async def test_times_in_sentences_are_those_of_the_clock_on_the_wall(tmp_path):
    cooldown = next(e for e in (await tell(heatwave(), tmp_path)).events if e.kind is EventKind.COOLDOWN)
    assert "Z" not in cooldown.detail
    assert "2014" not in cooldown.detail


async def test_the_summary_says_what_was_not_closed(tmp_path):
    assert (await tell(heatwave(), tmp_path)).summary == (
        "shed-North-000001 ended: restored; 3 feeders were opened and 2 closed again; "
        "at most 2.50 MW were shed at once; 1 feeder could not be closed: F3."
    )


async def test_a_running_procedure_and_none_at_all(tmp_path):
    running = Substation(started=1, running=Running(PROCEDURE, T0, "loading 99 %"))
    assert (await tell(heatwave(), tmp_path, running)).summary == f"{PROCEDURE} runs: loading 99 %."
    empty = await tell(Book(), tmp_path, Substation())
    assert empty.summary == "No procedure has run."
    assert empty.events == ()


async def test_only_samples_of_the_event_and_its_surroundings(tmp_path):
    trend = TrendStore(tmp_path)
    for minute in (-120, -30, 0, 69, 71):
        trend.append(TrendSample(T0 + minute * MINUTE, 1000.0, 1200.0, 0.0, 0))
    data = await tell(heatwave(), tmp_path)
    assert [(s.time_us - T0) // MINUTE for s in data.samples] == [-30, 0]


def ended(target: Position, result: Result, minute: float, detail: str = "") -> Ended:
    """How a request ended."""
    return Ended(f"r{minute}", target, result, detail, "p", T0 + int(minute * MINUTE))


async def test_outcomes_and_outages_of_feeders(tmp_path):
    good = {"position": Position.CLOSED, "quality": Quality.GOOD}
    opened, closed = ended(Position.OPEN, Result.DONE, 1), ended(Position.CLOSED, Result.DONE, 31)
    states = {
        "F1": Breaker(**good, recent=(opened, closed), intents=2),
        "F2": Breaker(**good, recent=(ended(Position.OPEN, Result.FAILED, 1, "stuck"),), intents=1),
        "F3": Breaker(position=Position.OPEN, quality=Quality.GOOD, phase=Phase.RESOLVING, recent=(opened,), intents=2),
    }
    data = await tell(heatwave(), tmp_path, states=states)
    assert [(o.feeder, o.state) for o in data.outcomes] == [
        ("F1", FeederState.OPERATED),
        ("F2", FeederState.FAILED),
        ("F3", FeederState.UNKNOWN),
    ]
    assert data.outcomes[1].detail == "open: stuck"
    assert [
        (o.feeder, (o.opened_us - T0) // MINUTE, o.closed_us and (o.closed_us - T0) // MINUTE) for o in data.outages
    ] == [
        ("F1", 1, 31),
        ("F3", 1, None),
    ]
    proofs = {p.name: (p.value, p.verdict) for p in data.proofs}
    assert proofs["Commands in the journal (intents to operate)"] == ("5", Verdict.NOTE)
    assert proofs["Commands without an outcome"] == ("1: F3", Verdict.FAILS)


async def test_rows_of_evidence_that_the_asker_adds_come_last(tmp_path):
    given = parse_proofs([{"name": "Counters of devices", "value": "5 = 5", "verdict": "holds"}])
    data = await tell(heatwave(), tmp_path, given_proofs=given)
    assert data.proofs[-1].name == "Counters of devices"


@pytest.mark.parametrize("wrong", ["x", [1], [{"name": "a"}], [{"name": "a", "value": "b", "verdict": "maybe"}]])
def test_evidence_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match=r"."):
        parse_proofs(wrong)


async def test_a_power_loss_of_a_quiet_gateway_begins_with_the_last_sample_and_ends_when_it_is_back(tmp_path):
    book = Book()
    book.gateway(-30, "started")
    book.gateway(20, "started")
    book.gateway(21, "reconciled", sentence="3 breakers as last known", in_procedure=False)
    for minute in (10, 19, 22):
        TrendStore(tmp_path).append(TrendSample(T0 + minute * MINUTE, 900.0, 1000.0, 0.0, 0))
    events = (await tell(book, tmp_path, Substation())).events
    assert [(round((e.time_us - T0) / MINUTE), e.kind) for e in events] == [
        (19, EventKind.POWER_LOSS),
        (21, EventKind.RESTART),
    ]


async def test_a_procedure_that_was_started_by_hand_is_told_too(tmp_path):
    book = Book()
    book.turn(0, h.ExecutionStarted("LoadSheddingProtocol"), phase="stable", sentence="loading is 94 %")
    book.turn(40, h.ExecutionCompleted(pack({"status": "restored"}, "r")))
    by_hand = Substation(last_result={"status": "restored"}, last_ended=PROCEDURE)
    told = await tell(book, tmp_path, by_hand)
    assert told.summary == f"{PROCEDURE} ended: restored."
    assert [e.title for e in told.events] == ["Stable", "Procedure finished: restored"]
