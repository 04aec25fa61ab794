"""The attacks, on a daemon with breakers behind it: nothing moves, refusals are on record, and sheds go on as before."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from asyncua import ua
from asyncua.crypto import security_policies as sp
from asyncua.ua.ua_binary import struct_from_binary
from asyncua.ua.uaerrors import BadTooManySessions, UaStatusCodeError
from attacked import (
    FEEDER,
    GUESS,
    SESSIONS,
    SHEDDABLE,
    USERS,
    Caller,
    code,
    fitting,
    kept,
    records,
    shed_and_restore,
    told,
)
from opcua_asks import SERVER, code_of, listen, refresh, requests_for
from opcua_bytes import BOMBS, CALL, HELLO, KB, Raw, ask_raw, call_with, chunks, frame, send
from opcua_house import Endpoint, Peer, node, until
from operators_client import text
from station import Station

from gateway.operator.roles import CALL as MATRIX
from gateway.operator.surface_model import TYPES
from simulators.client import SimulatorClient

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSED = (ConnectionError, UaStatusCodeError, TimeoutError)
POS = node(f"Feeder/{FEEDER}/Pos")
Codes = ua.StatusCodes


async def test_tokens_are_neither_guessed_nor_stolen(site: Station, comes: Caller) -> None:
    olga, vera, guesser = await comes("alice").log_in("olga"), await comes().log_in("vera"), await comes().open()
    for token in (ua.NodeId(1000), ua.NodeId(1001), olga.token):
        assert await code(guesser.open_breaker(feeder=FEEDER, token=token)) == Codes.BadSessionIdInvalid
    guesser.nonce, guesser.wire.authentication_token = olga.nonce, olga.token
    assert await code(guesser.activate(guesser.identity("olga", GUESS))) == Codes.BadSessionIdInvalid
    await kept(site, guesser.address, "attack", "token", 4)
    assert await code(vera.open_breaker(feeder=FEEDER, token=olga.token)) == Codes.BadSessionIdInvalid
    await kept(site, vera.address, "attack", "token")
    random = await comes().open()
    for _ in range(5):
        with suppress(UaStatusCodeError, ConnectionError):
            await random.read(POS, token=ua.NodeId(os.urandom(32)))
    await random.gone()
    await kept(site, random.address, "attack", "too many requests with wrong tokens")
    assert (await olga.read(POS))[0].StatusCode.is_good()


async def test_certificates_are_ones_own_trusted_and_valid(site: Station, comes: Caller, people: Any) -> None:
    for who, why in (("stranger", "trust list"), ("expired", "expired")):
        peer = comes(who)
        with pytest.raises(REFUSED):
            await peer.open()
        await kept(site, peer.address, "certificate_refused", why)
    thief = await comes().open()
    shown = {"ClientCertificate": people.alice.der, "ApplicationUri": people.alice.uri}
    assert await code(thief.session(**shown)) == Codes.BadSecurityChecksFailed
    await kept(site, thief.address, "attack", "someone else's certificate")
    bare = await comes().open()
    assert await code(bare.session(ClientCertificate=b"")) == Codes.BadSecurityChecksFailed
    await kept(site, bare.address, "attack", "no certificate")
    bomber = comes()
    bomber.policy.host_certificate_chain = [people.alice.der] * 60
    with pytest.raises(REFUSED):
        await bomber.open()
    await kept(site, bomber.address, "certificate_refused", "bytes")


async def test_channels_are_sealed_or_lead_nowhere(site: Station, comes: Caller) -> None:
    plain = await comes("").open()
    asked = plain.ask(ua.CreateSessionRequest(), ua.CreateSessionResponse)
    assert await code(asked) == Codes.BadSecurityPolicyRejected
    await kept(site, plain.address, "session_refused", "without security")
    signed = comes()
    with pytest.raises(REFUSED):
        await signed.open(SecurityMode=ua.MessageSecurityMode.Sign)
    await kept(site, signed.address, "session_refused", "mode")
    for policy in (sp.SecurityPolicyBasic128Rsa15, sp.SecurityPolicyBasic256):
        old = comes(policy=policy)
        with pytest.raises(REFUSED):
            await old.open()
        await kept(site, old.address, "session_refused", "policy")


async def test_nobody_is_let_in_without_a_name_and_its_password(site: Station, comes: Caller) -> None:
    for name, password, why in (
        ("admin", "admin", "no user"),
        ("admin", GUESS, "no user"),
        ("olga", GUESS, "wrong"),
        ("olga", "", "wrong"),
        ("", "", "anonymous"),
    ):
        peer = comes()
        await (await peer.open()).session()
        token = peer.identity(name, password) if name else ua.AnonymousIdentityToken("anonymous")
        assert await code(peer.activate(token)) == Codes.BadUserAccessDenied
        assert await code(peer.open_breaker(feeder=FEEDER)) == Codes.BadSessionNotActivated
        await kept(site, peer.address, "login_refused", why)


async def test_nothing_is_served_once_a_session_is_over(site: Station, comes: Caller) -> None:
    peer = await comes().log_in("olga")
    await peer.ask(ua.CloseSessionRequest(), ua.CloseSessionResponse)
    assert await code(peer.open_breaker(feeder=FEEDER)) == Codes.BadSessionIdInvalid
    await kept(site, peer.address, "logout", "olga logged out")


# --- What they may


async def test_each_role_calls_what_the_matrix_says(site: Station, comes: Caller) -> None:
    """All calls lack their reason (or key), so those that are granted fail at that and move nothing."""
    objects = {"LoadSheddingType": "LoadShedding", "BreakerType": f"Feeder/{FEEDER}", "GatewayType": "Gateway"}
    declared = {(each.name, method.name): method for each in TYPES for method in each.methods}
    assert declared.keys() == MATRIX.keys()
    for user, role in USERS.items():
        peer = await comes().log_in(user)
        denied = set()
        for (kind, name), method in declared.items():
            result = await peer.call(objects[kind], f"Type/{kind}/{name}", *map(fitting, method.inputs))
            assert result.StatusCode.value in (Codes.BadUserAccessDenied, Codes.BadInvalidArgument), (role, name)
            if result.StatusCode.value == Codes.BadUserAccessDenied:
                denied.add((kind, name))
        assert denied == {each for each, granted in MATRIX.items() if role not in granted}, role
        assert role == "OPERATOR" or denied >= {each for each in declared if each[0] == "BreakerType"}, role
        assert role not in ("VIEWER", "AUDITOR") or denied == declared.keys(), role
        await kept(site, peer.address, "call_refused", f"{user} may not call", len(denied))


async def test_calls_fit_their_object_and_their_declaration(site: Station, comes: Caller) -> None:
    olga = await comes("alice").log_in("olga")
    why, infinite, huge = text("why"), *(ua.Variant(each, ua.VariantType.Double) for each in (math.inf, 1e9))
    tiers, none = (ua.Variant(each, ua.VariantType.String, is_array=True) for each in (["Tier1"], []))
    breaker, opens, starts = f"Feeder/{FEEDER}", "Type/BreakerType/Open", "Type/LoadSheddingType/StartShedding"
    for target, method, inputs, expected in (
        ("LoadShedding", opens, (why,), Codes.BadMethodInvalid),
        ("Type/BreakerType", opens, (why,), Codes.BadNodeIdUnknown),
        ("Feeder/F999-999", opens, (why,), Codes.BadNodeIdUnknown),
        (breaker, starts, (infinite, tiers, why), Codes.BadMethodInvalid),
        (breaker, opens, (), Codes.BadArgumentsMissing),
        (breaker, opens, (why, why), Codes.BadTooManyArguments),
        (breaker, opens, (infinite,), Codes.BadInvalidArgument),
        (breaker, opens, (tiers,), Codes.BadInvalidArgument),
        (breaker, opens, (text("x" * 100_000),), Codes.BadInvalidArgument),
        (breaker, opens, (text("a\x1b[2Jb"),), Codes.BadInvalidArgument),
        ("LoadShedding", starts, (infinite, tiers, why), Codes.BadInvalidArgument),
        ("LoadShedding", starts, (huge, none, why), Codes.BadOutOfRange),
    ):
        result = await olga.call(target, method, *inputs)
        assert result.StatusCode.value == expected, (target, method, result)
    await until(lambda: len(told(site, olga.address, "call_refused")) == 8)
    assert [len(told(site, olga.address, each)) for each in ("BreakerType.Open", "LoadSheddingType.StartShedding")] == [
        2,
        2,
    ]


async def test_subscriptions_of_others_stay_theirs(site: Station, comes: Caller) -> None:
    olga, vera = await comes("alice").log_in("olga"), await comes().log_in("vera")
    number = await olga.subscribe(POS)
    await olga.publish()
    attempts = requests_for(number, POS)
    for request, response in attempts:
        try:
            refused = code_of(await vera.ask(request, response))
        except UaStatusCodeError as error:
            refused = error.code
        assert refused == Codes.BadSubscriptionIdInvalid, request
    assert await refresh(vera, number) == Codes.BadSubscriptionIdInvalid
    await kept(site, vera.address, "attack", f"subscription {number}, which is another session's", len(attempts) + 1)
    (item,) = await olga.watch(number, POS)
    assert item.StatusCode.is_good()
    assert (await olga.publish()).SubscriptionId == number


# --- Too much, too long, too deep


async def test_messages_without_end_are_cut_off(site: Station, comes: Caller, gate: Endpoint) -> None:
    for size, what in ((8000, "too long"), (20, "too many chunks")):
        peer = await comes().open()
        for chunk in chunks(peer, bytes(120 * KB if size > 20 else 4000), last=False, size=size):
            send(peer, chunk)
            await asyncio.sleep(0)
        await peer.gone()
        await kept(site, peer.address, "attack", what)
    async with Raw(gate) as raw:
        raw.writer.write(frame(b"HELF", HELLO) + frame(b"MSGC", b"", 20_000_000))
        assert b"ERR" in await raw.refused()
    await kept(site, raw.address, "attack", "20000000 bytes")


async def test_bombs_cost_their_own_request(site: Station, comes: Caller) -> None:
    olga = await comes("alice").log_in("olga")
    refused = Counter[str]()
    for name, bomb in BOMBS.items():
        began = time.monotonic()
        try:
            data = await ask_raw(olga, CALL, call_with(bomb, of=f"Feeder/{FEEDER}"))
            (result,) = struct_from_binary(ua.CallResponse, data).Results
            assert result.StatusCode.is_bad(), name
            refused["call_refused"] += 1
        except UaStatusCodeError:
            refused["attack"] += 1
        assert time.monotonic() - began < 3, name
    assert min(refused.values()) > 0
    await kept(site, olga.address, "attack", "a request that can't be read", refused["attack"])
    await kept(site, olga.address, "call_refused", f"Open of Feeder/{FEEDER}", refused["call_refused"])
    assert (await olga.read(POS))[0].StatusCode.is_good()


async def test_condition_refresh_is_served_now_and_then(comes: Caller) -> None:
    olga = await comes("alice").log_in("olga")
    number = await olga.subscribe()
    await olga.ask(listen(number, SERVER), ua.CreateMonitoredItemsResponse)
    began = time.monotonic()
    codes = [await refresh(olga, number) for _ in range(200)]
    assert set(codes) == {0, Codes.BadRefreshInProgress}
    assert codes.count(0) <= 1 + time.monotonic() - began


async def test_one_address_can_t_take_all_sessions(site: Station, comes: Caller) -> None:
    crowd = [comes(address="127.0.63.99") for _ in range(SESSIONS)]
    taken = 0
    for peer in crowd:
        with suppress(ConnectionError, BadTooManySessions, TimeoutError):
            await (await peer.open()).session()
            taken += 1
    assert taken == 10
    olga = await comes("alice").log_in("olga")
    assert (await olga.read(POS))[0].StatusCode.is_good()
    await kept(site, "127.0.63.99", "session_refused", "too many connections from this address", SESSIONS - 10)


async def test_sessions_that_nobody_logs_in_to_keep_nobody_out(site: Station, comes: Caller) -> None:
    """From as many addresses as it takes."""
    crowd = [await comes().open() for _ in range(SESSIONS)]
    for peer in crowd:
        await peer.session()
    olga = await comes("alice").log_in("olga")
    assert (await olga.read(POS))[0].StatusCode.is_good()
    ended = [peer for peer in crowd if peer.closed]
    assert 1 <= len(ended) <= 2, "room for olga, and for who sleeps if they still do"
    for peer in ended:
        await kept(site, peer.address, "session_refused", "made room")


async def test_a_flood_of_requests_costs_a_shed_little(
    site: Station, comes: Caller, plant: SimulatorClient, moves: None
) -> None:
    olga = await comes("alice").log_in("olga")
    calm, calm_s = await shed_and_restore(olga, plant)
    crowd = [await comes().log_in("vera") for _ in range(SESSIONS // 2)]
    late = comes()
    assert await code(late.log_in("vera")) == Codes.BadUserAccessDenied
    await kept(site, late.address, "session_refused", "sessions of this user")
    stop = asyncio.Event()
    served, slowest = 0, 0.0

    async def flood(peer: Peer) -> None:
        nonlocal served
        while not stop.is_set():
            await asyncio.gather(*(peer.read(*[POS] * 20) for _ in range(10)))
            served += 10

    async def watchdog() -> None:
        nonlocal slowest
        while not stop.is_set():
            asked = time.monotonic()
            assert (await site.ask("status"))["mode"] == "armed"
            slowest = max(slowest, time.monotonic() - asked)
            await asyncio.sleep(0.1)

    others = [asyncio.ensure_future(each) for each in (watchdog(), *map(flood, crowd))]
    await asyncio.sleep(0.3)
    stormy, stormy_s = await shed_and_restore(olga, plant)
    stop.set()
    await asyncio.gather(*others)
    print(f"calm {calm_s:.2f} s, flooded {stormy_s:.2f} s, {served} served, status at most {slowest:.2f} s")
    assert served > 100
    assert stormy == calm
    assert len(calm) == SHEDDABLE
    assert stormy_s < 5 * calm_s + 3
    assert slowest < 3


async def test_who_hangs_up_in_mid_call_has_operated_once(
    site: Station, comes: Caller, plant: SimulatorClient, moves: None
) -> None:
    before = await plant.counters_of(FEEDER)
    olga = await comes("alice").log_in("olga")
    await plant.fault("slow", FEEDER, value=0.6)
    calling = asyncio.ensure_future(olga.open_breaker("and away", feeder=FEEDER))
    await until(lambda: any(one["op"] == "breakers.open" and one["reason"] == "and away" for one in records(site)))
    assert not calling.done()
    olga.close()
    with pytest.raises(ConnectionError):
        await calling
    await kept(site, olga.address, "BreakerType.Open", f"open {FEEDER}: done")
    after = await plant.counters_of(FEEDER)
    assert (after.open_commands, after.operations) == (before.open_commands + 1, before.operations + 1)
    await plant.clear(FEEDER)


async def test_who_fell_asleep_was_thrown_out(site: Station, comes: Caller, sleeper: Peer) -> None:
    await sleeper.gone(10)
    await kept(site, sleeper.address, "session_expired", "nothing was asked for 5 s")
    other = await comes("alice").open()
    assert await code(other.open_breaker(feeder=FEEDER, token=sleeper.token)) == Codes.BadSessionIdInvalid
