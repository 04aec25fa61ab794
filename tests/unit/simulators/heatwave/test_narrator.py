"""The narrator: news once, and a memory for what passes."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from simulators.heatwave.narrator import Narrator, audit_words, hold_words, local, session_words
from simulators.heatwave.screen import Screen
from simulators.heatwave.station import Station
from simulators.heatwave.view import Gateway, Plant, View

NOON = datetime(2014, 1, 16, 12, 0, tzinfo=timezone(timedelta(hours=11)))
PLANT = Plant(NOON, 96_400.0, 100_000.0, 96.4, 41.0, 40, 0, 0, 0)
CALM = Gateway(NOON, 97.0, "cleared", "", "", "", "", None, 0.0, 40, 0, 0, 0, 5, 5, (), "")


class Stage:
    """A narrator and all that it has said."""

    def __init__(self, folder: Path) -> None:
        self.out = io.StringIO()
        self.narrator = Narrator(Screen(60.0, self.out), Station(folder))

    async def see(self, load_pct: float = 96.4, **changes: object) -> list[str]:
        """Show a view of the gateway; the new lines."""
        before = len(self.out.getvalue())
        await self.narrator.tell(View(replace(PLANT, load_pct=load_pct), replace(CALM, **changes)))  # type: ignore[arg-type]
        return self.out.getvalue()[before:].splitlines()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Nothing told yet."""
    return Stage(tmp_path)


async def test_news_are_told_once(stage: Stage) -> None:
    """The same view twice says nothing the second time; a zone that flutters is told once."""
    assert await stage.see() == []
    assert "97.0 %: armed" in (await stage.see(zone="armed"))[0]
    assert await stage.see(zone="armed") == []
    assert await stage.see(zone="clearing") == []
    assert await stage.see(zone="armed") == []


async def test_steps_and_tiers(stage: Stage) -> None:
    """Each step once; a tier whose shedding was too quick to be seen is known from its cooldown."""
    first = {"phase": "shedding", "tier": "Tier1", "sentence": "opens 5 of 9 feeders of Tier1; waits for readback"}
    assert (await stage.see(**first))[0].endswith("shedding: opens 5 of 9 feeders of Tier1")
    assert await stage.see(**{**first, "sentence": "opens 9 of 9 feeders of Tier1; waits for readback"}) == []
    await stage.see(phase="cooldown", tier="Tier2", sentence="14 kW of Tier2 shed; waits for the load to settle")
    assert stage.narrator.tiers == ["Tier1", "Tier2"]


async def test_a_load_near_the_edge_is_told_once(stage: Stage) -> None:
    """Watching, stable, watching, stable: two lines."""
    said = []
    for phase in ("watching", "stable", "watching", "stable"):
        said += await stage.see(phase=phase, tier="Tier1", sentence="loading is 95.0 %; waits for it to fall")
    assert len(said) == 2


async def test_links_that_went_and_came(stage: Stage) -> None:
    """Not while the gateway starts and knows no breakers yet."""
    assert await stage.see(total=0, troubled=("RTU001",)) == []
    assert "no answer from RTU001" in (await stage.see(troubled=("RTU001",)))[0]
    assert "all links are up again" in (await stage.see())[0]


async def test_the_highest_load_while_restoring(stage: Stage) -> None:
    """By the plant or by the gateway, whichever is more; what was before doesn't count."""
    await stage.see(99.0, phase="cooldown")
    await stage.see(94.0, phase="restoring", measured_pct=93.0)
    await stage.see(92.0, phase="restoring", measured_pct=94.5)
    assert stage.narrator.highest_restoring_pct == 94.5


def held(until: datetime, step: str = "cooldown") -> Gateway:
    """After a hold of three minutes; until: when the wait ends now."""
    word = {"actor": "somebody", "step": step}
    hold = {**word, "decision": "hold", "at": NOON.isoformat()}
    resume = {**word, "decision": "resume", "step": "held", "at": (NOON + timedelta(minutes=3)).isoformat()}
    return replace(CALM, overrides=(hold, resume), until=until)


def test_a_cooldown_that_was_held_ends_later_by_as_much() -> None:
    """Three minutes held: three minutes later, no more and no less."""
    end = NOON + timedelta(minutes=10)
    words, good = hold_words(held(end + timedelta(minutes=3)), end)
    assert good
    assert "resume after 3:00" in words
    assert "12:10:00.000 before, 12:13:00.000 after" in words
    assert not hold_words(held(end), end)[1]
    assert not hold_words(held(end + timedelta(minutes=4)), end)[1]


def test_a_hold_that_is_not_listed_was_not_taken() -> None:
    """Neither one alone."""
    assert hold_words(CALM, NOON) == ("not listed", False)
    assert not hold_words(replace(CALM, overrides=held(NOON).overrides[:1]), NOON)[1]


def test_a_hold_is_its_users_who_has_a_session() -> None:
    """Somebody else's word, or one of nobody who is logged in, is not."""
    hold = {"decision": "hold", "actor": "anna", "role": "OPERATOR"}
    status: dict[str, object] = {"operators": {"users": ["anna (1)", "bert (2)"]}, "overrides": [hold]}
    words, good = session_words(status, "anna")
    assert good
    assert words == "by anna as OPERATOR; logged in then: anna (1), bert (2)"
    assert not session_words(status, "bert")[1]
    assert not session_words({**status, "operators": {"users": ["bert (1)"]}}, "anna")[1]
    assert session_words({**status, "overrides": []}, "anna") == ("not listed", False)


def test_words_of_the_audit() -> None:
    """Short when it is whole, all that was said when it is not."""
    assert audit_words(0, '{"records": 1200, "batches": 3, "head": "0123456789abcdef0123"}').startswith("1,200 records")
    assert audit_words(1, "batch 7\nis not what it was") == "batch 7; is not what it was"
    assert local(NOON) == "12:00:00.000"
