"""Too much, too long, too deep, too slow, or no sense at all: one connection ends at most, and everybody else is served."""

from __future__ import annotations

import asyncio
import random
import resource
import struct
import time
from typing import Any

import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from asyncua.ua.uaerrors import (
    BadDecodingError,
    BadEncodingLimitsExceeded,
    BadTooManyOperations,
    UaStatusCodeError,
)
from opcua_bytes import BOMBS, CALL, HELLO, KB, READ, Raw, ask_raw, call_with, chunks, frame, send, send_body
from opcua_house import House, Peer, node, std, until

from protocols.opcua.surface import Doing

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def still_serving(house: House, people: Any) -> None:
    """An honest operator comes, and is served."""
    peer = await Peer(house, people.alice).log_in("ola")
    assert (await peer.open_breaker()).StatusCode.is_good()
    peer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60),
        b"\x00" * 64,
        frame(b"ACKF", HELLO),
        frame(b"ERRF", bytes(8)),
        frame(b"HELX", HELLO),
        frame(b"HELF", HELLO, 7),
        frame(b"HELF", HELLO, 0xFFFFFFFF),
        frame(b"HELF", HELLO, 100_000),
        frame(b"OPNF", b"", 65 * KB),
        frame(b"MSGC", b"", 20_000_000),
        frame(b"MSGF", bytes(32)),
        frame(b"CLOF", bytes(32)),
        frame(b"OPNF", bytes(32)),
        frame(b"HELF", HELLO) * 2,
        frame(b"HELF", struct.pack("<IIIIIi", 0, 1, 1, 1, 1, 1) + b"x"),
        frame(b"HELF", struct.pack("<IIIIIi", 0, 65535, 65535, 0, 0, 1 << 30) + b"x"),
        frame(b"HELF", struct.pack("<IIIIIi", 0, 65535, 65535, 0, 0, -7)),
        frame(b"HELF", HELLO) + frame(b"OPNC", bytes(40)),
        frame(b"HELF", HELLO) + frame(b"OPNF", bytes(4) + struct.pack("<i", 1 << 30) + bytes(40)),
        frame(b"HELF", HELLO) + frame(b"OPNF", bytes(4) + struct.pack("<i", -5) + bytes(40)),
        frame(b"HELF", HELLO) + frame(b"MSGF", bytes(64)),
    ],
)
async def test_what_makes_no_sense_ends_its_connection(house: House, people: Any, sent: bytes) -> None:
    async with Raw(house) as raw:
        raw.writer.write(sent)
        answer = await raw.refused()
        assert b"Traceback" not in answer
        assert b".py" not in answer
    await house.settled()


async def test_random_bytes_end_their_connections(house: House, people: Any) -> None:
    dice = random.Random(5)
    for _ in range(40):
        async with Raw(house, "127.0.60.1") as raw:
            greeting = frame(b"HELF", HELLO) if dice.random() < 0.7 else b""
            kind = dice.choice([b"OPNF", b"MSGF", b"MSGC", b"HELF", b"CLOF"])
            raw.writer.write(greeting + frame(kind, dice.randbytes(dice.randrange(24, 600))))
            await raw.refused()
    await house.settled()
    await still_serving(house, people)


async def test_a_long_chunk_is_refused_by_its_header(house: House) -> None:
    """asyncua buffered 20 MB from anybody. Here the eight bytes that announce it are enough."""
    async with Raw(house) as raw:
        raw.writer.write(frame(b"HELF", HELLO))
        await raw.reader.readexactly(28)
        raw.writer.write(frame(b"MSGC", b"", 20_000_000))
        assert (await raw.refused())[:3] == b"ERR"
    assert "20000000 bytes" in house.backend.told(Doing.ATTACK)[0].detail


async def test_a_message_without_end_before_the_log_in_is_cut_off_at_64_kb(house: House, mallory: Peer) -> None:
    await mallory.open()
    for chunk in chunks(mallory, bytes(120 * KB), last=False):
        send(mallory, chunk)
        await asyncio.sleep(0)
    await mallory.gone()
    assert "too long" in house.backend.told(Doing.ATTACK)[0].detail


async def test_a_message_without_end_after_the_log_in_is_cut_off_at_its_limit(house: House, alice: Peer) -> None:
    await alice.log_in()
    for chunk in chunks(alice, bytes(1100 * KB), last=False, size=60_000):
        send(alice, chunk)
        await asyncio.sleep(0.001)
    await alice.gone()


async def test_tiny_chunks_without_end_are_cut_off(house: House, mallory: Peer) -> None:
    await mallory.open()
    for chunk in chunks(mallory, bytes(4000), last=False, size=20):
        send(mallory, chunk)
        await asyncio.sleep(0)
    await mallory.gone()
    assert "too many chunks" in house.backend.told(Doing.ATTACK)[0].detail


async def test_an_unfinished_message_is_given_up_with_its_connection(house: House, mallory: Peer) -> None:
    await mallory.open()
    send(mallory, chunks(mallory, bytes(30 * KB), last=False)[0])
    await mallory.gone(longest_s=5)
    assert "nobody logged in" in house.backend.told(Doing.SESSION_REFUSED)[0].detail


async def test_who_says_nothing_is_hung_up_on(house: House) -> None:
    async with Raw(house) as silent:
        began = time.monotonic()
        await silent.refused(longest_s=5)
        assert 2.5 < time.monotonic() - began < 4.5


async def test_one_address_can_t_take_all_places(house: House, people: Any) -> None:
    """Ten at the door from one address; the next are turned away at once, and others get in."""
    crowd = [Raw(house, "127.0.60.2") for _ in range(14)]
    for raw in crowd:
        await raw.__aenter__()
    for raw in crowd[10:]:
        assert await raw.refused(0.5) == b""
    await still_serving(house, people)
    for raw in crowd:
        await raw.__aexit__()
    assert "too many connections" in house.backend.told(Doing.SESSION_REFUSED)[0].detail


async def test_a_crowd_of_many_addresses_makes_room_for_who_comes(house: House, people: Any) -> None:
    crowd = [Raw(house, f"127.0.60.{10 + number // 9}") for number in range(60)]
    for raw in crowd:
        await raw.__aenter__()
    await still_serving(house, people)
    for raw in crowd:
        await raw.__aexit__()
    await house.settled()


# --- messages that are well sealed and badly made


TOO_DEEP = ("a million nulls", "variants in variants", "variants in arrays of variants", "a hundred thousand variants")
"""What is stopped by its depth or number, and not by the end of the stack."""


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_in_an_argument_costs_its_own_request(house: House, alice: Peer, name: str) -> None:
    await alice.log_in()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    try:
        (result,) = struct_from_binary(ua.CallResponse, await ask_raw(alice, CALL, call_with(BOMBS[name]))).Results
        assert result.StatusCode.is_bad()
    except BadEncodingLimitsExceeded:
        pass
    except BadDecodingError:
        if name in TOO_DEEP:
            raise
    assert time.monotonic() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * KB, "100 MB for one bad request"
    assert house.backend.calls == []
    assert (await alice.open_breaker("still here")).StatusCode.is_good()


async def test_a_reading_of_two_thousand_million_nodes_is_refused_undecoded(house: House, alice: Peer) -> None:
    await alice.log_in()
    body = struct.pack("<dii", 0.0, 2, 2**31 - 1) + bytes(60_000)
    with pytest.raises(BadTooManyOperations):
        await ask_raw(alice, READ, body)
    assert len(await alice.read()) == 1


async def test_requests_with_flipped_bytes_are_answered_or_end_their_connection(
    house: House, people: Any, peers: Any
) -> None:
    """Bytes of honest requests are changed at random, sealed well, and sent; nothing but codes comes back."""
    dice = random.Random(17)
    alice = await Peer(house, people.alice).log_in("ola")
    peers.append(alice)
    codes: list[int] = []
    for _ in range(400):
        if alice.closed:
            alice = await Peer(house, people.alice).log_in("ola")
            peers.append(alice)
        body = bytearray(honest(alice, dice))
        for _ in range(dice.randrange(1, 6)):
            body[dice.randrange(len(body))] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])
        try:
            await send_body(alice, bytes(body))
        except UaStatusCodeError as error:
            codes.append(error.code)
        except (ConnectionError, TimeoutError):
            codes.append(0)
    assert len(codes) > 100
    assert ua.StatusCodes.BadInternalError not in codes, "an error of our own, brought about by bytes"
    await still_serving(house, people)


def honest(peer: Peer, dice: random.Random) -> bytes:
    """A request as an honest client sends it."""
    requests: list[Any] = [ua.ReadRequest(), ua.BrowseRequest(), ua.CallRequest(), ua.CreateMonitoredItemsRequest()]
    requests += [ua.CreateSubscriptionRequest(), ua.TranslateBrowsePathsToNodeIdsRequest(), ua.HistoryReadRequest()]
    request = dice.choice(requests)
    match request:
        case ua.ReadRequest():
            value = ua.ReadValueId(NodeId=node("Feeder/F1/Kw"), AttributeId=ua.AttributeIds.Value)
            request.Parameters.NodesToRead = [value] * 3
        case ua.BrowseRequest():
            request.Parameters.NodesToBrowse = [ua.BrowseDescription(NodeId=std(84))]
        case ua.CallRequest():
            why = ua.Variant("why", ua.VariantType.String)
            call = ua.CallMethodRequest(node("Feeder/F1"), node("Type/BreakerType/Open"), [why])
            request.Parameters.MethodsToCall = [call]
        case ua.CreateMonitoredItemsRequest():
            request.Parameters.ItemsToCreate = [ua.MonitoredItemCreateRequest()] * 2
        case ua.TranslateBrowsePathsToNodeIdsRequest():
            path = ua.BrowsePath(StartingNode=std(84))
            path.RelativePath.Elements = [ua.RelativePathElement(TargetName=ua.QualifiedName("Objects"))]
            request.Parameters.BrowsePaths = [path]
        case ua.HistoryReadRequest():
            request.Parameters.HistoryReadDetails = ua.ReadRawModifiedDetails()
            request.Parameters.NodesToRead = [ua.HistoryReadValueId(NodeId=node("Feeder/F1/Kw"))]
    peer.wire._setup_request_header(request.RequestHeader, 0.2)
    return bytes(struct_to_binary(request))


# --- too much at once, and hanging up


async def test_who_hangs_up_in_mid_call_has_called_all_the_same(house: House, alice: Peer) -> None:
    await alice.log_in()
    house.backend.hold = asyncio.Event()
    calling = asyncio.ensure_future(alice.open_breaker("on the way"))
    await until(lambda: house.backend.calls)
    alice.close()
    with pytest.raises(ConnectionError):
        await calling
    await house.settled()
    house.backend.hold.set()
    await until(lambda: house.backend.ended == 1)


async def test_a_call_that_takes_long_holds_up_nothing(house: House, alice: Peer) -> None:
    await alice.log_in()
    house.backend.hold = asyncio.Event()
    calling = asyncio.ensure_future(alice.open_breaker())
    await until(lambda: house.backend.calls)
    assert len(await alice.read()) == 1
    assert not calling.done()
    house.backend.hold.set()
    assert (await calling).StatusCode.is_good()


async def test_calls_at_once_are_limited(house: House, alice: Peer) -> None:
    await alice.log_in()
    house.backend.hold = asyncio.Event()
    calls = [asyncio.ensure_future(alice.open_breaker()) for _ in range(5)]
    await until(lambda: sum(each.done() for each in calls) == 2)
    house.backend.hold.set()
    done = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, BadTooManyOperations) for each in done) == 2
    assert len(house.backend.calls) == 3


async def test_who_takes_no_answers_is_given_up(house: House, people: Any, mallory: Peer) -> None:
    await mallory.log_in("vera")
    assert mallory.wire.transport is not None
    mallory.wire.transport.pause_reading()
    request = ua.ReadRequest()
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    value = ua.ReadValueId(NodeId=std(ua.ObjectIds.OpcUa_BinarySchema), AttributeId=ua.AttributeIds.Value)
    request.Parameters.NodesToRead = [value] * 4

    async def greedy() -> None:
        while house.server.sessions():
            for _ in range(20):
                mallory.wire._setup_request_header(request.RequestHeader, 5)
                mallory.wire._request_id += 1
                data = struct_to_binary(request)
                send(
                    mallory,
                    mallory.wire._connection.message_to_binary(
                        data, ua.MessageType.SecureMessage, mallory.wire._request_id
                    ),
                )
            await asyncio.sleep(0.01)

    await asyncio.wait_for(greedy(), 20)
    assert any("takes no answers" in deed.detail for deed in house.backend.told(Doing.SESSION_REFUSED))
    await still_serving(house, people)


async def test_a_flood_of_requests_leaves_the_loop_to_others(house: House, people: Any, peers: Any) -> None:
    """Six sessions ask as fast as they can. Others on the same loop (a shed) get most of its turns: work of theirs that
    takes a while takes a few times as long, and not as long as the queue of all requests."""
    crowd = [await Peer(house, people.alice).log_in("vera") for _ in range(6)]
    peers.extend(crowd)

    async def shed() -> float:
        began = time.perf_counter()
        for _ in range(150):
            spin_until = time.perf_counter() + 0.001
            while time.perf_counter() < spin_until:
                pass
            await asyncio.sleep(0)
        return time.perf_counter() - began

    alone = await shed()
    stop = asyncio.Event()

    async def flood(peer: Peer) -> int:
        served = 0
        bulk = [node(f"Feeder/F{number}/Kw") for number in range(20)]
        while not stop.is_set():
            await asyncio.gather(*(peer.read(*bulk) for _ in range(10)))
            served += 10
        return served

    floods = [asyncio.ensure_future(flood(peer)) for peer in crowd]
    await asyncio.sleep(0.3)
    flooded = await shed()
    stop.set()
    served = sum(await asyncio.gather(*floods))
    assert served > 60
    # The clients that make the flood run on this very loop, and take more of it than the server.
    assert flooded < 8 * alone
