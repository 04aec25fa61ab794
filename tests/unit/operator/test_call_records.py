"""Every call is on record: who, by which role, from where, with what, why, and how it ended; also what was refused."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.operator.backend import CALLS_OF_SESSION
from gateway.operator.deeds import EACH_MINUTE
from gateway.operator.quota import Pace
from gateway.operator.roles import CALL
from gateway.operator.surface_model import TYPES
from protocols.opcua.surface import Answer, Caller, DataType, Status, Value
from tests.operator_house import ENGINEER, OPERATOR, SECADM, VIEWER, House


class TestTheRecord:
    async def test_of_a_call_that_was_carried_out(self, house: House) -> None:
        answer = await house.call(OPERATOR, "Feeder/B1", "Open", "fire brigade")
        (record,) = house.audit("opcua.")
        assert record == {
            "op": "opcua.BreakerType.Open",
            "actor": "m.meier",
            "peer": {
                "via": "opcua",
                "user": "m.meier",
                "session": "s1",
                "certificate": "ab12",
                "address": "10.0.0.7:51000",
                "application": "HMI",
                "roles": ["OPERATOR"],
                "role": "OPERATOR",
            },
            "object": "Feeder/B1",
            "inputs": {"Reason": "fire brigade"},
            "reason": "fire brigade",
            "status": "ok",
            "message": answer.message,
            "outputs": ["done", 1],
        }

    async def test_what_was_asked_is_on_record_ahead_of_its_effect(self, house: House) -> None:
        await house.call(OPERATOR, "Feeder/B1", "Open", "fire brigade")
        (asked,) = house.audit("breakers.open")
        assert (asked["actor"], asked["reason"], asked["peer"]["via"]) == ("m.meier", "fire brigade", "opcua")
        kinds = [(r.kind, r.instance) for r in house.store.records]
        assert kinds.index(("audit", "")) < kinds.index(("operations", "@breaker@B1"))

    async def test_of_a_refused_one(self, house: House) -> None:
        await house.call(OPERATOR, "Feeder/H1", "Open", "by mistake")
        (record,) = house.audit("opcua.")
        assert (record["status"], record["object"]) == ("refused", "Feeder/H1")

    async def test_of_one_with_wrong_arguments(self, house: House) -> None:
        await house.shed("RaiseEvent", "x" * 5_000, "Go", "{\x00")
        (record,) = house.audit("opcua.")
        assert record["status"] == "bad_argument"
        assert record["inputs"]["InstanceId"] == "x" * 400 + " … (5000 characters)"
        assert record["inputs"]["DataJson"] == "{?"

    async def test_of_one_that_the_roles_don_t_grant(self, house: House) -> None:
        answer = await house.call(VIEWER, "Feeder/B1", "Open", "just looking")
        assert (answer.status, answer.message) == (Status.DENIED, "BreakerType.Open is not for your roles")
        (record,) = house.audit("opcua.")
        assert (record["actor"], record["status"], record["peer"]["roles"]) == ("v.vogt", "denied", ["VIEWER"])
        assert house.driver.writes == 0

    async def test_numbers_that_json_does_not_know_are_kept_as_null(self, house: House) -> None:
        await house.shed("StartShedding", math.inf, (), "why")
        await house.shed("StartShedding", math.nan, ("Tier9",), "why")
        assert [record["inputs"]["TargetMW"] for record in house.audit("opcua.")] == [None, None]

    async def test_who_was_answered_reads_what_the_answer_said(self, house: House) -> None:
        told: list[tuple[str, list[str]]] = []
        house.backend.tell_now = lambda key: told.append((key, [record["status"] for record in house.audit("opcua.")]))
        answer = await house.call(OPERATOR, "Feeder/B1", "Open", "fire brigade")
        assert answer.status is Status.OK
        assert told == [("Feeder/B1", ["ok"])], "told once, and not before it is on record"

    async def test_it_is_answered_also_when_what_it_did_can_t_be_shown(self, house: House) -> None:
        def fails(key: str) -> None:
            raise RuntimeError(f"a defect that shows with {key}")

        house.backend.tell_now = fails
        assert (await house.call(OPERATOR, "Feeder/B1", "Open", "fire brigade")).status is Status.OK

    async def test_it_is_on_disk_before_the_caller_hears_of_it(self, house: House) -> None:
        house.store.hold()
        asked = asyncio.create_task(house.call(OPERATOR, "Feeder/B1", "Block", ""))
        await asyncio.sleep(0.02)
        assert not asked.done(), "a refusal, too, waits for its record"
        house.store.let_go()
        assert (await asked).status is Status.BAD_ARGUMENT
        assert len(house.audit("opcua.")) == 1


class TestWhoLeaves:
    async def test_a_call_goes_on_when_its_client_has_gone(self, house: House) -> None:
        house.store.hold()
        asked = asyncio.create_task(house.call(OPERATOR, "Feeder/B1", "Open", "fire brigade"))
        await asyncio.sleep(0.02)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        house.store.let_go()
        await house.wait(lambda: house.audit("opcua."), "its end is on record")
        assert house.audit("opcua.")[0]["outputs"] == ["done", 1]


class TestBounds:
    async def test_one_session_has_so_many_calls_under_way(self, house: House) -> None:
        house.store.hold()
        asked = [
            asyncio.create_task(house.call(OPERATOR, "Feeder/B1", "Block", "w")) for _ in range(CALLS_OF_SESSION + 1)
        ]
        other = asyncio.create_task(house.call(SECADM, "Gateway", "Acknowledge", "k", ""))
        await asyncio.sleep(0.02)
        house.store.let_go()
        answers = await asyncio.gather(*asked)
        assert [answer.status for answer in answers].count(Status.TOO_MANY) == 1
        assert (await other).status is Status.NOT_FOUND, "another session is not kept waiting"
        assert (await house.call(OPERATOR, "Feeder/B1", "Unblock", "w")).status is Status.OK

    async def test_one_user_calls_so_often_and_others_are_not_kept_from_it(self, house: House) -> None:
        now = [0.0]
        house.backend._pace = Pace(5, 10.0, lambda: now[0])
        asked = [await house.call(OPERATOR, "Feeder/B1", "Block", "w") for _ in range(7)]
        assert [answer.status for answer in asked] == [Status.OK] * 5 + [Status.TOO_MANY] * 2
        other = replace(OPERATOR, session="s9", user="o.olsen")
        assert (await house.call(other, "Feeder/B1", "Unblock", "w")).status is Status.OK
        now[0] += 0.1
        assert (await house.call(OPERATOR, "Feeder/B1", "Block", "w")).status is Status.OK
        assert (await house.call(OPERATOR, "Feeder/B1", "Block", "w")).status is Status.TOO_MANY

    async def test_a_flood_of_refused_calls_is_counted(self, house: House) -> None:
        clock = [0.0]
        house.backend.deeds._quota._monotonic = lambda: clock[0]
        house.backend.deeds._quota._until = 60.0
        for _ in range(EACH_MINUTE + 70):
            await house.call(VIEWER, "Feeder/B1", "Open", "again")
        assert len(house.audit("opcua.BreakerType.Open")) == EACH_MINUTE
        await house.call(OPERATOR, "Feeder/B1", "Open", "in earnest")
        assert house.audit("opcua.BreakerType.Open")[-1]["actor"] == "m.meier", "an act is recorded all the same"
        clock[0] = 60.0
        house.backend.deeds.look()
        await house.wait(lambda: house.audit("opcua.flood"), "the number is on record")
        (flood,) = house.audit("opcua.flood")
        assert (flood["count"], flood["what"], flood["address"]) == (70, "opcua.BreakerType.Open", "10.0.0.9")


class TestFaults:
    async def test_a_defect_in_one_call_is_an_answer(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        async def broken(call: Any) -> Answer:
            raise ZeroDivisionError("x")

        methods: Any = house.backend._calls.methods
        monkeypatch.setitem(methods, ("BreakerType", "Open"), broken)
        answer = await house.call(OPERATOR, "Feeder/B1", "Open", "why")
        assert answer.status is Status.INTERNAL
        assert answer.message == "Open failed: ZeroDivisionError; the gateway's log tells more"
        assert house.audit("opcua.")[0]["status"] == "internal"

    async def test_a_journal_that_has_failed(self, house: House) -> None:
        house.store.lose_power()
        answer = await house.call(OPERATOR, "Feeder/B1", "Block", "why")
        assert answer.status is Status.UNAVAILABLE
        assert "journal failed" in answer.message

    async def test_one_that_takes_too_long_is_answered(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gateway.operator.backend.CALL_S", 0.05)
        house.store.hold()
        answer = await house.call(OPERATOR, "Feeder/B1", "Block", "why")
        house.store.let_go()
        assert answer.status is Status.TIMEOUT
        assert "may or may not have taken effect" in answer.message


SCALARS: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.STRING: st.none()
    | st.text(st.characters(), max_size=40)
    | st.sampled_from(["hold", "force-open", "A1", "armed", "shed-Northgate-000001", "{", "x" * 70_000]),
    DataType.DOUBLE: st.floats(),
}


def values(type_: DataType, array: bool) -> st.SearchStrategy[Value]:
    scalar = SCALARS[type_]
    return st.none() | st.lists(scalar, max_size=4).map(tuple) if array else scalar


METHODS = [(each.name, method) for each in TYPES for method in each.methods]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_arguments_the_answer_is_a_sentence(data: st.DataObject, tmp_path_factory: Any) -> None:
    type_name, method = data.draw(st.sampled_from(METHODS))
    inputs = tuple(data.draw(values(each.type, each.array)) for each in method.inputs)
    key = data.draw(st.sampled_from(["Feeder/A1", "Feeder/\x00", "", "LoadShedding"]) | st.text(max_size=20))
    who = data.draw(st.sampled_from([OPERATOR, ENGINEER, SECADM, VIEWER]))

    async def ask() -> None:
        from tests.core_station import make_site

        house = House(make_site(), tmp_path_factory.mktemp("fuzz"))
        await house.open()
        try:
            async with asyncio.timeout(10):
                answer = await house.backend.call(who, key, type_name, method.name, inputs)
            assert isinstance(answer, Answer)
            assert answer.message
            assert answer.message.isprintable()
            granted = {str(role) for role in CALL[type_name, method.name]}
            assert (answer.status is Status.DENIED) == granted.isdisjoint(who.roles)
            assert answer.status is not Status.INTERNAL, answer.message
            assert answer.status is not Status.OK or len(answer.outputs) == len(method.outputs)
            assert house.audit(f"opcua.{type_name}.{method.name}")
            assert house.engine.failure is None
        finally:
            await house.close()

    asyncio.run(ask())


def test_a_stranger_s_name_can_not_break_the_record() -> None:
    from gateway.operator.peers import host, peer

    told = peer(Caller("s\n", "\x00\ud800" * 999, frozenset({"A\x1b"}), "\t", "[::1]:4840", "é"))
    assert (told["session"], len(told["user"]), told["roles"], told["certificate"]) == ("s?", 400, ["A?"], "?")
    assert host("[::1]:4840") == "[::1]"
    assert host("pipe") == "pipe"
