"""The file of users: what it holds, who may change it how, and that a broken one lets nobody in."""

from __future__ import annotations

import multiprocessing
import os
import stat
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.opcua import passwords, user_file
from protocols.opcua.passwords import keep, read_kept, unfit
from protocols.opcua.users import ROLES, Account, BrokenUserFile, NoSuchUser, UserError, UserFile

PASSWORD = "correct horse battery"
PRINT, OTHER = "ab" * 32, "cd" * 32


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """scrypt with the least parameters that are read."""
    monkeypatch.setattr(passwords, "_N", 2**14)


@pytest.fixture
def users(tmp_path: Path) -> UserFile:
    return UserFile(tmp_path / "site" / "users.toml")


class TestPasswords:
    def test_one_is_kept_with_its_own_salt_and_parameters(self) -> None:
        kept, again = keep(PASSWORD), keep(PASSWORD)
        assert kept.fits(PASSWORD)
        assert not kept.fits(PASSWORD + " ")
        assert kept.salt != again.salt
        assert kept.hash != again.hash
        assert read_kept(str(kept)) == kept

    def test_the_parameters_in_use_are_strong(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        assert (passwords.NOBODY.n, passwords.NOBODY.r, passwords.NOBODY.p) == (2**15, 8, 1)
        assert str(keep(PASSWORD)).startswith("scrypt$32768$8$1$")

    def test_those_of_an_older_file_are_used_as_they_are(self) -> None:
        kept = keep(PASSWORD)
        passwords._N = 2**15
        assert kept.n == 2**14
        assert read_kept(str(kept)).fits(PASSWORD)

    def test_it_is_compared_in_a_time_that_tells_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = keep(PASSWORD)
        compared: list[int] = []
        monkeypatch.setattr(passwords.hmac, "compare_digest", lambda a, b: compared.append(len(a)) or a == b)
        assert kept.fits(PASSWORD)
        assert compared == [32]

    def test_it_is_not_shown(self) -> None:
        kept = keep(PASSWORD)
        shown = repr(Account("ana", (), kept))
        assert "scrypt$" not in shown
        assert kept.hash.hex() not in shown

    def test_one_and_the_same_letters_typed_otherwise(self) -> None:
        assert keep("stra\u00dfe \u00e9clair cr\u00eape").fits("stra\u00dfe e\u0301clair cre\u0302pe")

    def test_what_no_keyboard_types_fits_nothing_and_breaks_nothing(self) -> None:
        kept = keep(PASSWORD)
        for password in ("", "\x00", "\ud800", "x" * 200_000):
            assert not kept.fits(password)

    @pytest.mark.parametrize(
        "password",
        [
            "",
            "short",
            "elevenchars",
            "x" * 257,
            "aaaaaaaaaaaaaaaa",
            "abcabcabcabcabc",
            "tab\there and more",
            "ana.schmidt!",
            "ANA.Schmidt2026",
        ],
    )
    def test_unfit(self, password: str) -> None:
        assert unfit(password, "ana.schmidt")

    @pytest.mark.parametrize("password", ["twelve chars", "ana.schmidt likes skiing", "x1" * 100 + "yz"])
    def test_fit(self, password: str) -> None:
        assert unfit(password, "ana.schmidt") == ""

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "correct horse battery",
            "scrypt$16384$8$1$AAAA$AAAA",
            "scrypt$1024$8$1$" + "A" * 24 + "$" + "A" * 44,  # too cheap
            "scrypt$4194304$8$1$" + "A" * 24 + "$" + "A" * 44,  # would take the machine down
            "scrypt$16385$8$1$" + "A" * 24 + "$" + "A" * 44,
            "scrypt$16384$900$1$" + "A" * 24 + "$" + "A" * 44,
            "scrypt$16384$8$0$" + "A" * 24 + "$" + "A" * 44,
            "scrypt$16384$8$1$" + "A" * 23 + "$" + "A" * 44,
        ],
    )
    def test_what_is_no_kept_password(self, text: str) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - its text is of no matter here
            read_kept(text)


class TestTheFile:
    def test_there_is_nobody_to_begin_with(self, users: UserFile) -> None:
        assert not users.accounts()
        assert users.list() == []
        assert not users.path.exists()

    def test_a_user_is_added_and_read_by_another_process(self, users: UserFile) -> None:
        users.add("ana", PASSWORD, ["OPERATOR", "VIEWER", "OPERATOR"])
        (ana,) = UserFile(users.path).list()
        assert (ana.name, ana.roles, ana.locked, ana.certificates) == ("ana", ("VIEWER", "OPERATOR"), False, ())
        assert ana.password is not None
        assert ana.password.fits(PASSWORD)

    def test_only_the_owner_reads_it_and_no_password_stands_in_it(self, users: UserFile) -> None:
        users.add("ana", PASSWORD, ["OPERATOR"])
        assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
        assert PASSWORD not in users.path.read_text()
        assert [path.name for path in users.path.parent.iterdir()] == ["users.toml"]

    def test_a_change_is_seen_at_once(self, users: UserFile) -> None:
        users.add("ana", PASSWORD, ["OPERATOR"])
        daemon = UserFile(users.path)
        assert not daemon.accounts()["ana"].locked
        users.lock("ana")
        assert daemon.accounts()["ana"].locked
        users.unlock("ana")
        assert not daemon.accounts()["ana"].locked
        users.role("ana", ["ENGINEER", "AUDITOR"])
        assert daemon.accounts()["ana"].roles == ("ENGINEER", "AUDITOR")
        users.passwd("ana", "another fine password")
        kept = daemon.accounts()["ana"].password
        assert kept is not None
        assert kept.fits("another fine password")
        users.remove("ana")
        assert not daemon.accounts()

    def test_without_a_change_it_is_not_read_again(self, users: UserFile, monkeypatch: pytest.MonkeyPatch) -> None:
        users.add("ana", PASSWORD, ["OPERATOR"])
        users.accounts()
        monkeypatch.setattr(user_file.tomllib, "loads", lambda text: pytest.fail("read again"))
        assert "ana" in users.accounts()

    def test_a_user_of_certificates_alone(self, users: UserFile) -> None:
        assert users.add("hmi", None, ["VIEWER"], PRINT).password is None
        users.certificate("hmi", OTHER)
        assert UserFile(users.path).accounts()["hmi"].certificates == (PRINT, OTHER)
        users.certificate("hmi", PRINT, remove=True)
        assert UserFile(users.path).accounts()["hmi"].certificates == (OTHER,)


class TestWhatIsRefused:
    @pytest.fixture
    def users(self, users: UserFile) -> UserFile:
        users.add("ana", PASSWORD, ["OPERATOR"], PRINT)
        users.add("bob", None, ["VIEWER"])
        return users

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda users: users.add("ana", PASSWORD, ["VIEWER"]), "there is a user ana already"),
            (lambda users: users.add("ANA", PASSWORD, ["VIEWER"]), "there is a user ana already"),
            (lambda users: users.add("", PASSWORD, ["VIEWER"]), "no user's name"),
            (lambda users: users.add('a"b', PASSWORD, ["VIEWER"]), "no user's name"),
            (lambda users: users.add("a\nb", PASSWORD, ["VIEWER"]), "no user's name"),
            (lambda users: users.add("x" * 65, PASSWORD, ["VIEWER"]), "no user's name"),
            (lambda users: users.add("eve", PASSWORD, ["ADMIN"]), "'ADMIN' is no role"),
            (lambda users: users.add("eve", "short", ["VIEWER"]), "12 to 256 characters"),
            (lambda users: users.add("eve", "", ["VIEWER"]), "12 to 256 characters"),
            (lambda users: users.add("evelyn.wright", "Evelyn.Wright", ["VIEWER"]), "own name"),
            (lambda users: users.add("eve", None, ["VIEWER"], PRINT), "the certificate of ana"),
            (lambda users: users.passwd("ana", "short"), "12 to 256 characters"),
            (lambda users: users.role("ana", ["operator"]), "'operator' is no role"),
            (lambda users: users.certificate("bob", PRINT), "the certificate of ana"),
            (lambda users: users.certificate("bob", PRINT.upper()), "no SHA-256 thumbprint"),
            (lambda users: users.certificate("bob", PRINT, remove=True), "bob has no certificate"),
        ],
    )
    def test_and_nothing_is_changed(self, users: UserFile, change, says: str) -> None:
        before = users.path.read_bytes()
        with pytest.raises(UserError, match=says):
            change(users)
        assert users.path.read_bytes() == before

    @pytest.mark.parametrize(
        "change",
        [
            lambda users: users.passwd("eve", PASSWORD),
            lambda users: users.role("eve", ["VIEWER"]),
            lambda users: users.lock("eve"),
            lambda users: users.unlock("eve"),
            lambda users: users.remove("eve"),
            lambda users: users.certificate("eve", OTHER),
        ],
    )
    def test_a_user_who_is_not_there(self, users: UserFile, change) -> None:
        with pytest.raises(NoSuchUser, match="no user 'eve'"):
            change(users)

    def test_too_many(self, users: UserFile, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(user_file, "MOST_USERS", 2)
        monkeypatch.setattr(user_file, "MOST_CERTIFICATES", 1)
        with pytest.raises(UserError, match="2 users already"):
            users.add("eve", None, ["VIEWER"])
        with pytest.raises(UserError, match="1 certificates already"):
            users.certificate("ana", OTHER)

    def test_a_disk_that_takes_nothing_leaves_the_file(self, users: UserFile, monkeypatch: pytest.MonkeyPatch) -> None:
        before = users.path.read_bytes()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(BrokenUserFile, match="No space left"):
            users.lock("ana")
        assert users.path.read_bytes() == before
        assert [path.name for path in users.path.parent.iterdir()] == ["users.toml"]


BROKEN = [
    "[users",
    "x = 1",
    "users = 3",
    "[users.ana]\nroles = 3",
    '[users.ana]\nroles = ["ADMIN"]',
    "[users.ana]\nroles = [[]]",
    '[users.ana]\nrole = ["VIEWER"]',
    '[users.ana]\nroles = ["VIEWER"]\nlocked = "no"',
    '[users.ana]\nroles = ["VIEWER"]\npassword = "plain text password"',
    '[users.ana]\nroles = ["VIEWER"]\npassword = 5',
    '[users.ana]\nroles = ["VIEWER"]\ncertificates = ["AB"]',
    f'[users.ana]\ncertificates = ["{PRINT}"]\n[users.bob]\ncertificates = ["{PRINT}"]',
    "[users.ana]\n[users.Ana]",
    '[users."a b"]\nroles = []',
    "users.ana = 1",
    "x = " + "[" * 2000,
]


class TestABrokenFile:
    @pytest.mark.parametrize("text", BROKEN)
    def test_lets_nobody_in_and_says_so_and_is_not_overwritten(self, users: UserFile, text: str) -> None:
        users.add("bob", PASSWORD, ["OPERATOR"])
        daemon = UserFile(users.path)
        assert daemon.accounts()
        users.path.write_text(text)
        for _ in range(2):
            with pytest.raises(BrokenUserFile, match="nobody can log in"):
                daemon.accounts()
        with pytest.raises(BrokenUserFile):
            users.add("eve", PASSWORD, ["SECADM"])
        assert users.path.read_text() == text

    @pytest.mark.parametrize("mode", [0o604, 0o620, 0o602, 0o666])
    def test_neither_does_one_that_others_may_read_or_write(self, users: UserFile, mode: int) -> None:
        users.add("bob", PASSWORD, ["OPERATOR"])
        users.path.chmod(mode)
        with pytest.raises(BrokenUserFile, match="others may write or read"):
            users.accounts()
        users.path.chmod(0o640)  # a group of the daemon's own
        assert users.accounts()

    def test_one_that_is_mended_is_used_again(self, users: UserFile) -> None:
        users.add("bob", PASSWORD, ["OPERATOR"])
        good = users.path.read_bytes()
        users.path.write_bytes(b"\xff\xfe")
        with pytest.raises(BrokenUserFile):
            users.accounts()
        users.path.write_bytes(good)
        assert users.accounts()

    def test_one_without_end(self, users: UserFile, monkeypatch: pytest.MonkeyPatch) -> None:
        users.add("bob", PASSWORD, ["OPERATOR"])
        monkeypatch.setattr(user_file, "MOST_BYTES", 10)
        with pytest.raises(BrokenUserFile, match="more than 10 bytes"):
            UserFile(users.path).accounts()

    @settings(max_examples=150, deadline=None)
    @given(st.text(max_size=200) | st.sampled_from(BROKEN))
    def test_any_text_is_users_or_a_sentence(self, text: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "users.toml"
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
            path.chmod(0o600)
            _read_or_refuse(path)

    @settings(max_examples=150, deadline=None)
    @given(
        st.dictionaries(
            st.text(max_size=8),
            st.fixed_dictionaries(
                {},
                optional={
                    "roles": st.lists(st.sampled_from([*ROLES, "ROOT"]), max_size=3),
                    "password": st.text(max_size=20) | st.just(f"scrypt$16384$8$1${'A' * 24}${'A' * 44}"),
                    "certificates": st.lists(st.sampled_from([PRINT, OTHER, "x"]), max_size=3),
                    "locked": st.booleans() | st.integers(),
                },
            ),
            max_size=4,
        )
    )
    def test_any_table_is_users_or_a_sentence(self, tables: dict[str, dict[str, object]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "users.toml"
            path.write_text("".join(_toml(name, table) for name, table in tables.items()), encoding="utf-8")
            path.chmod(0o600)
            _read_or_refuse(path)


def _toml(name: str, table: dict[str, object]) -> str:
    lines = [f"[users.{_quoted(name)}]"]
    for key, value in table.items():
        match value:
            case bool() | int():
                lines.append(f"{key} = {str(value).lower()}")
            case str():
                lines.append(f"{key} = {_quoted(value)}")
            case list():
                lines.append(f"{key} = [{', '.join(map(_quoted, value))}]")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" for c in text if not "\ud800" <= c <= "\udfff") + '"'


def _read_or_refuse(path: Path) -> None:
    try:
        accounts = UserFile(path).accounts()
    except BrokenUserFile:
        return
    assert set(accounts) == set(tomllib.loads(path.read_text()).get("users", {}))
    for account in accounts.values():
        assert set(account.roles) <= set(ROLES)
        assert account.password is None or account.password.n <= 2**17


def _add(path: Path, names: list[str]) -> None:
    passwords._N = 2**14
    for name in names:
        UserFile(path).add(name, None, ["VIEWER"])


def test_several_people_at_once_lose_nothing(users: UserFile) -> None:
    names = [[f"p{process}-{number}" for number in range(5)] for process in range(3)]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add, args=(users.path, some)) for some in names]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert set(users.accounts()) == {name for some in names for name in some}
