"""Objects of an author's own classes, in the form of Azure Durable Functions v1, and those that can't be rebuilt."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.durable import EntityId, EntityOperationError, NotSerializableError, TaskFailedError
from gateway.durable.codec import NULL, Raw, pack, unpack, unpack_plain


class Feeder:
    """A plain class, in v1's form."""

    def __init__(self, name: str, loads: list[object]) -> None:
        self.name = name
        self.loads = loads

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Feeder) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def to_json(obj: Feeder) -> object:
        return {"name": obj.name, "loads": obj.loads}

    @staticmethod
    def from_json(data: dict) -> Feeder:
        return Feeder(data["name"], data["loads"])


@dataclass
class Load:
    """A dataclass, which JSON would hold as plain fields, with class and instance methods."""

    kw: float

    def to_json(self) -> object:
        return self.kw

    @classmethod
    def from_json(cls, data: float) -> Load:
        if data < 0:
            raise ValueError("a load is not negative")
        return cls(data)


class OneWay:
    def to_json(self) -> object:
        return 1


class Fatal:
    @staticmethod
    def to_json(obj: Fatal) -> object:
        return None

    @staticmethod
    def from_json(data: object) -> Fatal:
        raise SystemExit(3)


def form(name: str, data: object, module: str = __name__) -> dict:
    return {"__class__": name, "__module__": module, "__data__": data}


def send_load(kw: float):
    """An activity's answer, made elsewhere."""
    return form("Load", kw)


def register(site):
    """Registering anything of this module shows the engine its dataclasses."""
    site.registry.activity(send_load)


@pytest.fixture(autouse=True)
def seen(site):
    register(site)


def test_the_written_form_is_that_of_v1():
    written = json.loads(bytes(pack(Feeder("F12", [1]), "it")))
    assert written == form("Feeder", {"name": "F12", "loads": [1]})
    assert json.loads(bytes(pack(Load(4.5), "it"))) == form("Load", 4.5)


def test_objects_at_any_depth_come_back_as_fresh_ones():
    value = {"feeders": [Feeder("F1", [Load(1.0), {"also": Load(2.0)}]), None], "n": 1}
    raw = pack(value, "it")
    assert unpack(raw) == value
    assert unpack(raw)["feeders"][0] is not unpack(raw)["feeders"][0]
    assert unpack_plain(raw)["feeders"][0]["__class__"] == "Feeder"
    assert unpack(NULL) is None


@pytest.mark.parametrize(
    "value", [{"a": (1, "x")}, [1, [2, {"b": None}]], "__class__", {"__class__": "Load"}, 7, ["é"]]
)
def test_plain_payloads_are_as_they_were(value):
    assert unpack(pack(value, "it")) == json.loads(json.dumps(value))


def test_what_can_not_be_rebuilt_is_not_written():
    class Inner(Feeder):
        pass

    with pytest.raises(NotSerializableError, match=r"the input of x .*OneWay could not be rebuilt"):
        pack({"x": [OneWay()]}, "the input of x")
    with pytest.raises(NotSerializableError, match="top of a module"):
        pack(Inner("F", []), "it")
    with pytest.raises(NotSerializableError, match="object: give the class to_json"):
        pack(object(), "it")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (form("Nobody", 1), "Nobody, which is no class"),
        (form("OneWay", 1), "OneWay, which is no class"),
        (form("dataclass", 1), "dataclass, which is no class"),
        (form("Raw", 1), "Raw, which is no class"),  # a name that this module has from elsewhere
        (form("Load", -1), "Load.from_json raised ValueError: a load is not negative"),
        (form("Fatal", 1), "raised SystemExit"),
        (form("Load", 1, 5), "are not text"),
    ],
)
def test_what_can_not_be_rebuilt_says_which_class_and_where(payload, words):
    with pytest.raises(NotSerializableError, match=f"^the event.*{words}"):
        unpack(Raw(json.dumps([payload]).encode()), "the event")


def test_a_payload_never_loads_a_module(tmp_path: Path, monkeypatch):
    (tmp_path / "trap.py").write_text("class Trap:\n to_json = from_json = staticmethod(lambda d: d)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NotSerializableError, match=r"trap\.Trap"):
        unpack(Raw(json.dumps(form("Trap", 1, "trap")).encode()))
    assert "trap" not in sys.modules


async def test_objects_travel_between_all_parts(site):
    def shed(context):
        asked = context.get_input()
        seen = yield context.call_activity("double", asked)
        stored = yield context.call_entity(EntityId("shelf", "a"), "put", {"load": seen})
        told = yield context.wait_for_external_event("go")
        below = yield context.call_sub_orchestrator("echo", told)
        context.set_custom_status(below)
        return [seen, stored, told, below]

    def echo(context):
        return context.get_input()

    def double(load):
        assert isinstance(load, Load)
        return Load(load.kw * 2)

    def shelf(context):
        before = context.get_state()
        assert before is None or isinstance(before, Load)
        context.set_state(context.get_input()["load"])
        context.set_result(context.get_input()["load"])

    for function in (shed, echo):
        site.registry.orchestrator(function)
    site.registry.activity(double)
    site.registry.entity(shelf)
    engine = await site.start()
    for name in ("i", "j"):
        await engine.client.start_new("shed", name, Load(2.0))
        await engine.client.raise_event(name, "go", Feeder("F1", []))
        status = await engine.client.wait_for_completion(name, 5)
        assert status.output[0] == form("Load", 4.0)
        assert status.custom_status == status.output[3] == form("Feeder", {"name": "F1", "loads": []})
    status = await engine.client.get_status("i", show_history=True, show_input=True)
    assert status.input_ == form("Load", 2.0)
    assert (await engine.client.read_entity_state(EntityId("shelf", "a"))).entity_state == form("Load", 4.0)
    assert await engine.client.call_entity(EntityId("shelf", "a"), "put", {"load": Load(1.0)}) == Load(1.0)


async def test_an_answer_that_can_not_be_rebuilt_fails_the_task_and_nobody_else(site):
    def asks(context):
        caught = []
        for task in (
            context.call_activity("send_load", -1),
            context.call_entity(EntityId("shelf", "a"), "get"),
            context.call_sub_orchestrator("below"),
        ):
            try:
                yield task
            except TaskFailedError as error:
                caught.append((error.details.kind, error.details.is_caused_by(NotSerializableError)))
        for _ in range(2):
            try:
                yield context.wait_for_external_event("go")
            except NotSerializableError as error:
                caught.append(str(error).partition(":")[0])
        return caught

    def below(context):
        return send_load(-3)

    def shelf(context):
        context.get_input()
        context.set_result(send_load(-2))

    def reads(context):
        return context.get_input()

    for function in (asks, below, reads):
        site.registry.orchestrator(function)
    site.registry.entity(shelf)
    engine = await site.start()
    await engine.client.start_new("asks", "i")
    await engine.client.raise_event("i", "go", form("Load", -4))
    await engine.client.raise_event("i", "go", form("Fatal", 0))
    status = await engine.client.wait_for_completion("i", 5)
    assert status.output[:3] == [["NotSerializableError", True]] * 3
    assert status.output[3:] == ["the data of event go"] * 2
    await engine.client.start_new("reads", "r", form("Fatal", 0))
    failed = await engine.client.wait_for_completion("r", 5)
    assert failed.failure is not None
    assert failed.failure.kind == "NotSerializableError"
    assert "the input of r" in failed.failure.message
    with pytest.raises(EntityOperationError, match="SystemExit"):
        await engine.client.call_entity(EntityId("shelf", "a"), "put", form("Fatal", 0))
    assert engine.failure is None
