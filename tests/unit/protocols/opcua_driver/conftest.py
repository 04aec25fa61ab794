"""A small OPC UA device on loopback: its breakers obey, unless a test says otherwise, and it counts what it was told."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asyncua import Server, ua
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.internal_server import InternalServer
from asyncua.server.user_managers import UserManager

from protocols.base import BreakerReading, LinkState, LinkStatus, Position
from protocols.opcua import making
from protocols.opcua.driver import OpcUaDriver

NAMESPACE, URI = "urn:test:bay", "urn:test:bay-controller"
OPEN, CLOSED, MOVING, BAD = 1, 2, 0, 3
logging.getLogger("asyncua").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Node:
    identifier: str
    namespace: str = ""


@dataclass(frozen=True)
class Value:
    number: int
    boolean: bool = True


@dataclass(frozen=True)
class Point:
    node: Node
    equals: Value | None = None
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Command:
    node: Node
    value: Value | None = None
    method: Node | None = None


@dataclass(frozen=True)
class Points:
    pos_closed: Point
    pos_open: Point
    open_cmd: Command
    close_cmd: Command
    local: Point | None = None
    op_count: Point | None = None
    power_kw: Point | None = None
    select_open: Command | None = None
    select_close: Command | None = None
    cancel: Command | None = None


@dataclass(frozen=True)
class Feeder:
    name: str
    device: str
    points: Points
    travel_s: float = 0.5


@dataclass(frozen=True)
class Measurement:
    name: str
    device: str
    address: Point
    stale_after_s: float = 5.0


@dataclass(frozen=True)
class Access:
    server_cert: Path
    path: str = "/bay"
    namespace: str = NAMESPACE
    application_uri: str = ""
    policy: str = "Basic256Sha256"
    user: str = ""
    secret_file: Path | None = None


@dataclass(frozen=True)
class Device:
    name: str
    host: str
    port: int
    opcua: Access
    timeout_s: float = 0.6
    poll_fast_s: float = 0.05
    poll_slow_s: float = 0.4
    backoff_min_s: float = 0.05
    backoff_max_s: float = 0.2
    stale_after_s: float = 1.5


@dataclass(frozen=True)
class Identity:
    der: bytes
    key_path: Path
    application_uri: str


@dataclass(frozen=True)
class Certificate:
    der: bytes
    path: Path
    key_path: Path


class Listener:
    def __init__(self) -> None:
        self.changes: list[tuple[str, BreakerReading]] = []
        self.links: list[LinkStatus] = []

    def breakers_changed(self, changes: list[tuple[str, BreakerReading]]) -> None:
        self.changes += changes

    def link_changed(self, status: LinkStatus) -> None:
        self.links.append(status)


class Bay:
    """The device. orders: (breaker, what) of each command that reached it, counted there. before: awaited inside of each
    order; what it returns, if not None, is the order's answer and nothing moves."""

    def __init__(self, host: str, certificate: Certificate, breakers: int) -> None:
        self.host, self.port, self.certificate = host, 0, certificate
        self.names = [f"F{n}" for n in range(breakers)]
        self.orders: list[tuple[str, str]] = []
        self.before: Callable[[str, str], Any] | None = None
        self.other_namespaces = 0
        self.obey = True
        self.selected: str | None = None
        self.nodes: dict[str, Any] = {}
        self.positions: dict[str, int] = dict.fromkeys(self.names, CLOSED)

    async def start(self) -> None:
        server = self.server = Server(user_manager=Users())
        await server.init()
        server.set_endpoint(f"opc.tcp://{self.host}:{self.port}/bay")
        await server.set_application_uri(URI)
        server.set_security_policy(
            [
                ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
                ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
                ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
            ],
            permission_ruleset=Everything(),
        )
        await server.load_certificate(self.certificate.path)
        await server.load_private_key(self.certificate.key_path)
        for n in range(self.other_namespaces):
            await server.register_namespace(f"urn:test:in-front-{n}")
        index = await server.register_namespace(NAMESPACE)
        root = await server.nodes.objects.add_object(ua.NodeId("Bay", index), ua.QualifiedName("Bay", index))
        for name in self.names:
            await self._add(root, index, name)
        await server.start()
        self.port = server.bserver._server.sockets[0].getsockname()[1]

    async def _add(self, root: Any, index: int, name: str) -> None:
        def node(what: str) -> ua.NodeId:
            return ua.NodeId(f"{name}/{what}", index)

        def label(what: str) -> ua.QualifiedName:
            return ua.QualifiedName(what, index)

        holder = await root.add_object(ua.NodeId(name, index), label(name))
        for what, value, kind in (
            ("Pos", self.positions[name], ua.VariantType.Int32),
            ("Loc", False, ua.VariantType.Boolean),
            ("OpCnt", 0, ua.VariantType.UInt32),
            ("Kw", 125.0, ua.VariantType.Double),
            ("Cmd", 0, ua.VariantType.Byte),
        ):
            self.nodes[f"{name}/{what}"] = await holder.add_variable(node(what), label(what), value, kind)
        await self.nodes[f"{name}/Cmd"].set_writable()
        if len(self.names) <= 20:
            for what, target in (("Open", OPEN), ("Close", CLOSED), ("Cancel", None)):
                await holder.add_method(node(what), label(what), self._method(name, what, target), [], [])
            await holder.add_method(
                node("Select"), label("Select"), self._method(name, "Select", None), [ua.VariantType.Boolean], []
            )
            await holder.add_method(
                node("Do"), label("Do"), self._method(name, "Do", OPEN), [ua.VariantType.UInt16], []
            )

    def _method(self, name: str, what: str, target: int | None) -> Any:
        async def called(_parent: Any, *arguments: ua.Variant) -> Any:
            said = ",".join(f"{a.VariantType.name}:{a.Value}" for a in arguments)
            return await self.order(name, f"{what}({said})", target)

        return called

    async def order(self, name: str, what: str, target: int | None) -> Any:
        self.orders.append((name, what))
        if self.before is not None:
            answer = self.before(name, what)
            answer = await answer if asyncio.iscoroutine(answer) else answer
            if answer is not None:
                return ua.StatusCode(answer)
        if target is not None and self.obey:
            await self.set(f"{name}/Pos", target)
        return []

    async def set(self, node: str, value: Any, status: int = 0, at: datetime | None = None) -> None:
        if node.endswith("/Pos"):
            self.positions[node.split("/")[0]] = value
        variable = self.nodes[node]
        kind = (await variable.read_data_type_as_variant_type()) if value is not None else ua.VariantType.Null
        now = datetime.now(UTC)
        data = ua.DataValue(
            ua.Variant(value, kind), ua.StatusCode(status), SourceTimestamp=at or now, ServerTimestamp=now
        )
        await variable.write_value(data)

    async def stop(self) -> None:
        await self.server.stop()

    def drop(self) -> None:
        """Cut every connection."""
        for connection in list(self.server.bserver.clients):
            connection.transport.abort()


CHANGED = {*range(84, 95), *range(2253, 2300), *range(11192, 11720)}
"""Folders, the server's own objects, its limits."""
_standard: dict[Any, Any] = {}


@pytest.fixture(scope="session", autouse=True)
def _standard_nodes_are_built_once():
    """The nodes of the standard take seconds to build, so all servers share them, but for those that a server changes."""
    build = InternalServer.load_standard_address_space

    async def load(self: Any, shelf_file: Any = None) -> None:
        if not _standard:
            await build(self, shelf_file)
            _standard.update(self.aspace._nodes)
        own = {node: copy.deepcopy(data) for node, data in _standard.items() if node.Identifier in CHANGED}
        self.aspace._nodes = {**_standard, **own}

    InternalServer.load_standard_address_space = load
    yield
    InternalServer.load_standard_address_space = build


class Everything(SimpleRoleRuleset):
    def check_validity(self, user: Any, action_type: Any, body: Any) -> bool:
        return True


class Users(UserManager):
    def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
        if username is None or (username, password) == ("gate", "sesame"):
            return User(role=UserRole.Admin)
        return None


@pytest.fixture(scope="session")
def certify(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Certificate]:
    """Certificates; the keys are made once."""
    folder = tmp_path_factory.mktemp("certificates")
    keys: dict[str, Any] = {}

    def make(name: str, uri: str = URI, *, key: str = "", begins: datetime | None = None) -> Certificate:
        pair = keys.setdefault(key or name, None) or making.make_key()
        keys[key or name] = pair
        der = making.make_own(pair, uri, ["127.0.63.1"], begins or datetime.now(UTC), 1)
        made = Certificate(der, folder / f"{name}.der", folder / f"{name}.pem")
        made.path.write_bytes(der)
        made.key_path.write_bytes(making.key_to_pem(pair))
        return made

    return make


LONG_AGO = datetime.now(UTC) - timedelta(days=900)


def feeder(name: str, **changes: Any) -> Feeder:
    """A breaker whose position is one node, and that is told by methods."""

    def node(what: str) -> Node:
        return Node(f"s={name}/{what}")

    points = Points(
        Point(node("Pos"), Value(CLOSED, boolean=False)),
        Point(node("Pos"), Value(OPEN, boolean=False)),
        Command(Node(f"s={name}"), None, node("Open")),
        Command(Node(f"s={name}"), None, node("Close")),
        Point(node("Loc"), Value(1)),
        Point(node("OpCnt")),
        Point(node("Kw"), scale=0.5),
    )
    return Feeder(name, "bay", replace(points, **changes))


def sbo(name: str) -> Feeder:
    """A breaker that wants to be selected before."""

    def call(what: str, value: Value | None = None) -> Command:
        return Command(Node(f"s={name}"), value, Node(f"s={name}/{what}"))

    return feeder(
        name, select_open=call("Select", Value(0)), select_close=call("Select", Value(1)), cancel=call("Cancel")
    )


@dataclass
class Kit:
    """A driver on a device."""

    bay: Bay
    driver: OpcUaDriver
    device: Device
    listener: Listener = field(default_factory=Listener)

    async def until(self, true: Callable[[], bool], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not true():  # noqa: ASYNC110 - it is another's state that is waited for
                await asyncio.sleep(0.01)

    async def up(self) -> None:
        await self.until(lambda: self.driver.links()[0].state is LinkState.UP)

    async def operate(self, target: Position = Position.OPEN, name: str = "F0") -> Any:
        return await self.driver.operate(name, target, 3.0)


Made = Callable[..., Any]


@pytest.fixture
def kit(certify: Callable[..., Certificate], tmp_path: Path) -> Made:
    """``async with kit(...) as k``: a device, and a driver that has read it."""

    @asynccontextmanager
    async def make(
        feeders: list[Feeder] | None = None,
        measurements: list[Measurement] | None = None,
        *,
        breakers: int = 2,
        pinned: Certificate | None = None,
        writes: bool = True,
        serves: bool = True,
        access: dict[str, Any] | None = None,
        wall: Callable[[], float] = lambda: datetime.now(UTC).timestamp(),
        certificate: Certificate | None = None,
        **settings: Any,
    ) -> AsyncIterator[Kit]:
        shown, own = certificate or certify("bay"), certify("gateway", "urn:test:gateway")
        bay = Bay("127.0.63.1", shown, breakers)
        async with AsyncExitStack() as stack:
            await bay.start()
            stack.push_async_callback(bay.stop)
            device = Device("bay", bay.host, bay.port, Access((pinned or shown).path, **(access or {})), **settings)
            driver = OpcUaDriver(
                [device],
                feeders if feeders is not None else [feeder(name) for name in bay.names],
                measurements or [],
                lambda: Identity(own.der, own.key_path, "urn:test:gateway"),
                wall,
            )
            driver.set_writes_enabled(writes)
            made = Kit(bay, driver, device)
            await driver.start(made.listener)
            stack.push_async_callback(driver.stop)
            await driver.wait_first_scan(5.0)
            if serves:
                await made.up()
            yield made

    return make
