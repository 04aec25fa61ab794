"""The doorman: who is let in, what a stranger learns (nothing), and that guessing is slow, counted and bounded."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from certificate_kit import DAY, NOW, Party, key, make
from cryptography.hazmat.primitives.asymmetric import ec

from protocols.opcua import passwords
from protocols.opcua import users as module
from protocols.opcua.passwords import Kept
from protocols.opcua.pki import thumbprint
from protocols.opcua.users import Doorman, LoginRefused, User, UserFile, Why

RIGHT, WRONG = "correct horse battery", "wrong horse battery"


class Clock:
    """A monotonic clock that stands."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """scrypt with the least parameters that are read, for those that are known and unknown."""
    monkeypatch.setattr(passwords, "_N", 2**14)
    monkeypatch.setattr(module, "NOBODY", Kept(2**14, 8, 1, b"nobody's salt...", bytes(32)))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def users(tmp_path: Path) -> UserFile:
    file = UserFile(tmp_path / "users.toml")
    file.add("ana", RIGHT, ["OPERATOR", "VIEWER"])
    return file


@pytest.fixture
def doorman(users: UserFile, clock: Clock) -> Iterator[Doorman]:
    doorman = Doorman(users, 3, 60.0, clock)
    yield doorman
    doorman.close()


async def refused(doorman: Doorman, name: str = "ana", password: str = WRONG) -> LoginRefused:
    with pytest.raises(LoginRefused) as caught:
        await doorman.by_password(name, password)
    return caught.value


async def refused_certificate(doorman: Doorman, der: bytes, now: datetime = NOW) -> LoginRefused:
    with pytest.raises(LoginRefused) as caught:
        await doorman.by_certificate(der, now)
    return caught.value


class TestByPassword:
    async def test_the_right_one_lets_in_with_the_roles(self, doorman: Doorman) -> None:
        assert await doorman.by_password("ana", RIGHT) == User("ana", frozenset({"OPERATOR", "VIEWER"}))

    async def test_a_wrong_one_does_not(self, doorman: Doorman) -> None:
        assert (await refused(doorman)).why is Why.WRONG_PASSWORD

    @pytest.mark.parametrize("name", ["bob", "Ana", "", "ana ", "ana\x00", "\ud800", "x" * 50_000])
    async def test_nobody_of_this_name(self, doorman: Doorman, name: str) -> None:
        error = await refused(doorman, name, RIGHT)
        assert error.why is Why.UNKNOWN
        assert len(str(error)) < 200
        assert str(error).isprintable()

    @pytest.mark.parametrize("password", ["", RIGHT + "x", RIGHT[:-1], RIGHT.upper(), "\ud800", "x" * 100_000])
    async def test_no_password_like_it(self, doorman: Doorman, password: str) -> None:
        assert (await refused(doorman, password=password)).why is Why.WRONG_PASSWORD

    async def test_neither_name_nor_default_password_is_there_to_begin_with(self, tmp_path: Path) -> None:
        doorman = Doorman(UserFile(tmp_path / "none.toml"), 3, 60.0)
        for name in ("admin", "root", "gridlatch", "anonymous", ""):
            for password in ("", name, "admin"):
                assert (await refused(doorman, name, password)).why in (Why.UNKNOWN, Why.LOCKED_OUT)
        doorman.close()

    async def test_no_password_is_written_into_any_sentence(self, doorman: Doorman) -> None:
        for name in "ana", "bob":
            assert WRONG not in str(await refused(doorman, name))

    async def test_a_user_who_is_locked(self, doorman: Doorman, users: UserFile) -> None:
        users.lock("ana")
        assert (await refused(doorman, password=RIGHT)).why is Why.LOCKED
        assert (await refused(doorman)).why is Why.WRONG_PASSWORD  # only who knows the password learns of it
        users.unlock("ana")
        await doorman.by_password("ana", RIGHT)

    async def test_a_user_without_a_role(self, doorman: Doorman, users: UserFile) -> None:
        users.role("ana", [])
        assert (await refused(doorman, password=RIGHT)).why is Why.NO_ROLE

    async def test_a_user_without_a_password(self, doorman: Doorman, users: UserFile) -> None:
        users.add("hmi", None, ["VIEWER"])
        for password in "", RIGHT, "None":
            assert (await refused(doorman, "hmi", password)).why is Why.WRONG_PASSWORD

    async def test_a_broken_file_lets_nobody_in_and_counts_nothing(self, doorman: Doorman, users: UserFile) -> None:
        good = users.path.read_bytes()
        users.path.write_text("broken")
        for _ in range(5):
            error = await refused(doorman, password=RIGHT)
            assert error.why is Why.BROKEN_FILE
        users.path.write_bytes(good)
        await doorman.by_password("ana", RIGHT)


class TestTheSameForAStranger:
    async def test_somebody_unknown_costs_one_hash_like_a_wrong_password(
        self, doorman: Doorman, users: UserFile, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        users.add("hmi", None, ["VIEWER"])
        hashed: list[tuple[int, int, int]] = []
        scrypt = passwords._scrypt

        def counted(password: str, n: int, r: int, p: int, salt: bytes, length: int) -> bytes:
            hashed.append((n, r, p))
            return scrypt(password, n, r, p, salt, length)

        monkeypatch.setattr(passwords, "_scrypt", counted)
        for name, password in (("ana", WRONG), ("bob", WRONG), ("hmi", WRONG), ("ana", "x" * 9999), ("bob", "")):
            await refused(doorman, name, password)
        assert hashed == [(2**14, 8, 1)] * 5

    async def test_a_name_that_nobody_has_is_locked_out_as_well(self, doorman: Doorman) -> None:
        told = {name: [(await refused(doorman, name)).why for _ in range(4)] for name in ("ana", "bob")}
        assert told["ana"][3] is told["bob"][3] is Why.LOCKED_OUT
        assert doorman.locked_out() == ("ana", "bob")

    def test_those_not_known_are_compared_with_the_parameters_of_new_passwords(self, monkeypatch) -> None:
        monkeypatch.undo()
        kept = passwords.keep(RIGHT)
        assert (kept.n, kept.r, kept.p) == (passwords.NOBODY.n, passwords.NOBODY.r, passwords.NOBODY.p)


class TestLockOut:
    async def test_the_last_free_failure_says_that_it_locks_out(self, doorman: Doorman) -> None:
        assert [(await refused(doorman)).locks_out for _ in range(4)] == [False, False, True, False]

    async def test_then_the_right_password_is_refused_until_the_time_is_over(
        self, doorman: Doorman, clock: Clock
    ) -> None:
        for _ in range(3):
            await refused(doorman)
        clock.now += 59.9
        error = await refused(doorman, password=RIGHT)
        assert error.why is Why.LOCKED_OUT
        assert "locked out for 0 s more" in str(error)
        clock.now += 0.2
        assert (await doorman.by_password("ana", RIGHT)).name == "ana"
        assert doorman.locked_out() == ()

    async def test_nobody_else_is_locked_out(self, doorman: Doorman, users: UserFile) -> None:
        users.add("bob", RIGHT, ["VIEWER"])
        for _ in range(3):
            await refused(doorman)
        await doorman.by_password("bob", RIGHT)

    async def test_success_forgets_failures(self, doorman: Doorman) -> None:
        for _ in range(3):
            for _ in range(2):
                assert not (await refused(doorman)).locks_out
            await doorman.by_password("ana", RIGHT)

    async def test_failures_long_ago_do_not_count(self, doorman: Doorman, clock: Clock) -> None:
        for _ in range(6):
            assert not (await refused(doorman)).locks_out
            clock.now += 31

    async def test_after_a_lock_out_the_count_begins_anew(self, doorman: Doorman, clock: Clock) -> None:
        for _ in range(2):
            assert [(await refused(doorman)).why for _ in range(4)][3] is Why.LOCKED_OUT
            clock.now += 61

    async def test_many_guesses_at_once_are_no_more_guesses(
        self, doorman: Doorman, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[str] = []
        fits = Kept.fits
        monkeypatch.setattr(Kept, "fits", lambda kept, password: made.append(password) or fits(kept, password))
        told = await asyncio.gather(*(refused(doorman, password=f"{WRONG} {number}") for number in range(10)))
        assert len(made) == 3
        assert [error.why for error in told].count(Why.LOCKED_OUT) == 7

    async def test_the_same_user_from_many_places_at_once_is_no_attack(self, doorman: Doorman) -> None:
        for _ in range(2):
            await refused(doorman)
        users = await asyncio.gather(*(doorman.by_password("ana", RIGHT) for _ in range(8)))
        assert [user.name for user in users] == ["ana"] * 8

    async def test_breaking_off_wins_no_free_guess(self, doorman: Doorman) -> None:
        for _ in range(3):
            guess = asyncio.create_task(doorman.by_password("ana", WRONG))
            await asyncio.sleep(0)
            guess.cancel()
            with pytest.raises(asyncio.CancelledError):
                await guess
        assert (await refused(doorman, password=RIGHT)).why is Why.LOCKED_OUT

    async def test_names_that_are_remembered_are_bounded_and_users_stay(
        self, doorman: Doorman, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_NAMES", 4)
        for _ in range(3):
            await refused(doorman)
        for number in range(8):
            await refused(doorman, f"nobody-{number}")
        assert len(doorman._tries) <= 4
        assert doorman.locked_out() == ("ana",)

    async def test_who_comes_in_leaves_nothing_behind(self, doorman: Doorman) -> None:
        await doorman.by_password("ana", RIGHT)
        assert not doorman._tries


class Gate:
    """scrypt that waits until it is let through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.inside = self.most = 0
        self._lock = threading.Lock()
        monkeypatch.setattr(Kept, "fits", self.fits)

    def fits(self, password: str) -> bool:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.open.wait(10)
        with self._lock:
            self.inside -= 1
        return password == RIGHT


class TestBounds:
    @pytest.fixture
    def gate(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
        gate = Gate(monkeypatch)
        yield gate
        gate.open.set()

    async def test_two_at_once_and_a_bounded_number_waits(
        self, doorman: Doorman, gate: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_WAITING", 5)
        waiting = [asyncio.create_task(refused(doorman, f"nobody-{number}")) for number in range(5)]
        await asyncio.sleep(0.05)
        assert (await refused(doorman, "ana", RIGHT)).why is Why.BUSY
        gate.open.set()
        assert {error.why for error in await asyncio.gather(*waiting)} == {Why.UNKNOWN}
        assert gate.most == 2
        await doorman.by_password("ana", RIGHT)

    async def test_one_name_does_not_take_all_places(
        self, doorman: Doorman, gate: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_OF_ONE_NAME", 2)
        waiting = [asyncio.create_task(refused(doorman, "nobody")) for _ in range(2)]
        await asyncio.sleep(0)
        assert (await refused(doorman, "nobody")).why is Why.BUSY
        ana = asyncio.create_task(doorman.by_password("ana", RIGHT))
        await asyncio.sleep(0)
        gate.open.set()
        assert (await ana).name == "ana"
        await asyncio.gather(*waiting)

    async def test_busy_does_not_count_as_a_failure(
        self, doorman: Doorman, gate: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_WAITING", 0)
        for _ in range(9):
            assert (await refused(doorman, "ana", RIGHT)).why is Why.BUSY
        monkeypatch.setattr(module, "MOST_WAITING", 5)
        gate.open.set()
        await doorman.by_password("ana", RIGHT)

    async def test_the_loop_goes_on_meanwhile(self, doorman: Doorman, gate: Gate) -> None:
        login = asyncio.create_task(doorman.by_password("ana", RIGHT))
        before = time.monotonic()
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not login.done()
        assert time.monotonic() - before < 5
        gate.open.set()
        await login


class TestByCertificate:
    @pytest.fixture
    def ana(self, users: UserFile) -> Party:
        """A person's certificate: no URI, no extended key usage, as many of them are."""
        party = make("ana", uris=[], usage=["digital_signature"], extended=None)
        users.certificate("ana", thumbprint(party.der))
        return party

    async def test_one_that_is_the_users_lets_in(self, doorman: Doorman, ana: Party) -> None:
        assert await doorman.by_certificate(ana.der, NOW) == User("ana", frozenset({"OPERATOR", "VIEWER"}))

    async def test_one_of_the_same_name_does_not(self, doorman: Doorman, ana: Party) -> None:
        thief = make("ana", private=key("thief"), uris=[], usage=["digital_signature"], extended=None)
        error = await refused_certificate(doorman, thief.der)
        assert error.why is Why.UNKNOWN
        assert thumbprint(thief.der)[:16] in str(error)

    @pytest.mark.parametrize(
        "party",
        [
            lambda: make(ends=NOW - DAY / 2),
            lambda: make(begins=NOW + DAY),
            lambda: make(private=key("short", 1024)),
            lambda: make(private=ec.generate_private_key(ec.SECP256R1())),
            lambda: make(usage=["key_agreement"]),
        ],
    )
    async def test_one_that_is_the_users_and_no_good(self, doorman: Doorman, users: UserFile, party) -> None:
        der = party().der
        users.certificate("ana", thumbprint(der))
        assert (await refused_certificate(doorman, der)).why is Why.WRONG_CERTIFICATE

    @pytest.mark.parametrize("der", [b"", b"rubbish", bytes(20_000)])
    async def test_no_certificate_at_all(self, doorman: Doorman, der: bytes) -> None:
        assert (await refused_certificate(doorman, der)).why is Why.WRONG_CERTIFICATE

    async def test_locked_without_a_role_and_with_a_broken_file(
        self, doorman: Doorman, users: UserFile, ana: Party
    ) -> None:
        users.lock("ana")
        assert (await refused_certificate(doorman, ana.der)).why is Why.LOCKED
        users.unlock("ana")
        users.role("ana", [])
        assert (await refused_certificate(doorman, ana.der)).why is Why.NO_ROLE
        users.path.write_text("broken")
        assert (await refused_certificate(doorman, ana.der)).why is Why.BROKEN_FILE

    async def test_wrong_passwords_of_a_stranger_do_not_keep_its_holder_out(self, doorman: Doorman, ana: Party) -> None:
        for _ in range(3):
            await refused(doorman)
        assert (await doorman.by_certificate(ana.der, NOW)).name == "ana"
