"""``gridlatch users``: the first user is made on the box, and no password is ever seen."""

from __future__ import annotations

import getpass
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from certificate_kit import make

from gateway.cli import main
from gateway.cli.site_parser import ROLES as OFFERED
from protocols.opcua import passwords
from protocols.opcua.pki import thumbprint
from protocols.opcua.users import ROLES, UserFile

EXAMPLE = Path(__file__).parents[4] / "config" / "examples" / "substation"
PASSWORD = "correct horse battery"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserFile:
    """The users of a site that is found by the environment."""
    monkeypatch.setattr(passwords, "_N", 2**14)
    folder = shutil.copytree(EXAMPLE, tmp_path / "site")
    with open(folder / "site.toml", "a") as toml:
        toml.write('\n[operators]\nhost = "192.0.2.7"\n')
    monkeypatch.setenv("GRIDLATCH_SITE", str(folder))
    return UserFile(folder / "users.toml")


class Run:
    """Runs a command with something on standard input; what it printed is in out and err."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch
        self.out = self.err = ""

    def __call__(self, *words: str, given: str = "") -> int:
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        code = main(["users", *words])
        self.out, self.err = self.capsys.readouterr()
        assert PASSWORD not in self.out + self.err
        assert "scrypt$" not in self.out + self.err
        return code


@pytest.fixture
def run(file: UserFile, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(capsys, monkeypatch)


@pytest.fixture
def ana(file: UserFile) -> UserFile:
    file.add("ana", PASSWORD, ["OPERATOR"])
    return file


def at_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str], *answers: str) -> tuple[int, list[str]]:
    """A person sits there, who answers so; gives the exit code and what was asked."""
    asked: list[str] = []
    left = list(answers)

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return left.pop(0)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(getpass, "getpass", answer)
    monkeypatch.setattr(sys, "stdin", Terminal())
    code = main(["users", *words])
    run.out, run.err = run.capsys.readouterr()
    return code, asked


def test_to_begin_with_there_is_nobody(run: Run, file: UserFile) -> None:
    assert run("list") == 0
    assert "No user yet, so nobody can log in" in run.out
    assert not file.path.exists()


class TestAdd:
    def test_the_password_is_asked_for_twice(self, run: Run, file: UserFile, monkeypatch) -> None:
        code, asked = at_a_terminal(run, monkeypatch, ["add", "ana", "--role", "OPERATOR"], PASSWORD, PASSWORD)
        assert code == 0
        assert asked == ["Password of ana: ", "Once more: "]
        assert run.out == "ana may log in as OPERATOR, by password.\n"
        kept = file.accounts()["ana"].password
        assert kept is not None
        assert kept.fits(PASSWORD)

    def test_two_that_differ_make_nobody(self, run: Run, file: UserFile, monkeypatch) -> None:
        code, _ = at_a_terminal(run, monkeypatch, ["add", "ana", "--role", "OPERATOR"], PASSWORD, PASSWORD + "x")
        assert code == 2
        assert "the two passwords differ" in run.err
        assert not file.accounts()

    @pytest.mark.parametrize("given", [PASSWORD, PASSWORD + "\n", PASSWORD + "\r\nmore"])
    def test_or_it_comes_from_standard_input(self, run: Run, file: UserFile, given: str) -> None:
        assert run("add", "ana", "--role", "OPERATOR", "--role", "SECADM", "--password-stdin", given=given) == 0
        account = file.accounts()["ana"]
        assert account.roles == ("OPERATOR", "SECADM")
        assert account.password is not None
        assert account.password.fits(PASSWORD)

    def test_nobody_to_ask_and_nothing_given(self, run: Run, file: UserFile) -> None:
        assert run("add", "ana", "--role", "OPERATOR") == 2
        assert "--password-stdin" in run.err
        assert run("add", "ana", "--role", "OPERATOR", "--password-stdin") == 2
        assert not file.accounts()

    @pytest.mark.parametrize(
        "words", [["add", "ana"], ["add", "ana", "--role", "ROOT"], ["add", "ana", "--password", PASSWORD]]
    )
    def test_wrong_usage(self, run: Run, words: list[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            run(*words)
        assert ended.value.code == 2

    def test_an_unfit_password_is_refused(self, run: Run, file: UserFile) -> None:
        assert run("add", "ana", "--role", "VIEWER", "--password-stdin", given="short\n") == 4
        assert "12 to 256 characters" in run.err
        assert not file.accounts()

    def test_somebody_who_is_there_already(self, run: Run, ana: UserFile) -> None:
        assert run("add", "Ana", "--role", "VIEWER", "--password-stdin", given=PASSWORD) == 4
        assert "there is a user ana already" in run.err

    def test_by_certificate_without_a_password(self, run: Run, file: UserFile, tmp_path: Path) -> None:
        party = make("hmi")
        (tmp_path / "hmi.pem").write_bytes(party.pem)
        assert run("add", "hmi", "--role", "VIEWER", "--certificate", str(tmp_path / "hmi.pem")) == 0
        assert run.out == "hmi may log in as VIEWER, by certificate.\n"
        account = file.accounts()["hmi"]
        assert (account.password, account.certificates) == (None, (thumbprint(party.der),))


class TestChange:
    def test_list_shows_who_and_how_and_nothing_secret(self, run: Run, ana: UserFile) -> None:
        ana.certificate("ana", "ab" * 32)
        ana.add("bob", None, ["VIEWER", "AUDITOR"])
        ana.lock("bob")
        assert run("list") == 0
        lines = [line.split(maxsplit=1) for line in run.out.splitlines()]
        assert lines[1][0] == "ana"
        assert "password and certificate" in lines[1][1]
        assert "LOCKED" in lines[2][1]
        assert run("list", "--json") == 0
        told = json.loads(run.out)["users"]
        assert told[0] == {
            "name": "ana",
            "roles": ["OPERATOR"],
            "password": True,
            "certificates": ["ab" * 32],
            "locked": False,
        }

    def test_passwd(self, run: Run, ana: UserFile) -> None:
        assert run("passwd", "ana", "--password-stdin", given="another fine password") == 0
        kept = ana.accounts()["ana"].password
        assert kept is not None
        assert kept.fits("another fine password")

    def test_role_lock_unlock_remove(self, run: Run, ana: UserFile) -> None:
        assert run("role", "ana", "ENGINEER", "VIEWER") == 0
        assert ana.accounts()["ana"].roles == ("VIEWER", "ENGINEER")
        assert run("lock", "ana") == 0
        assert ana.accounts()["ana"].locked
        assert run("unlock", "ana") == 0
        assert "ana is not locked" in run.out
        assert "ends by itself" in run.out, "a lock-out is in the daemon's memory, and not lifted here"
        assert not ana.accounts()["ana"].locked
        assert run("remove", "ana") == 0
        assert not ana.accounts()

    def test_certificate(self, run: Run, ana: UserFile) -> None:
        digits = "AB:" * 31 + "AB"
        assert run("certificate", "ana", digits) == 0
        assert ana.accounts()["ana"].certificates == ("ab" * 32,)
        assert run("certificate", "ana", "ab" * 32, "--remove") == 0
        assert ana.accounts()["ana"].certificates == ()
        assert run("certificate", "ana", "ab" * 32, "--remove") == 4
        assert run("certificate", "ana", "abcdef0123") == 3
        assert run("certificate", "ana", str(ana.path)) == 4

    @pytest.mark.parametrize(
        "words",
        [
            ["passwd", "eve", "--password-stdin"],
            ["role", "eve", "VIEWER"],
            ["lock", "eve"],
            ["unlock", "eve"],
            ["remove", "eve"],
            ["certificate", "eve", "ab" * 32],
        ],
    )
    def test_somebody_who_is_not_there(self, run: Run, ana: UserFile, words: list[str]) -> None:
        assert run(*words, given=PASSWORD) == 3
        assert "there is no user 'eve'" in run.err

    @pytest.mark.parametrize(
        "words", [["list"], ["lock", "ana"], ["add", "eve", "--role", "VIEWER", "--password-stdin"]]
    )
    def test_a_broken_file_is_told_and_left_alone(self, run: Run, ana: UserFile, words: list[str]) -> None:
        ana.path.write_text("broken")
        assert run(*words, given=PASSWORD) == 1
        assert "nobody can log in" in run.err
        assert ana.path.read_text() == "broken"


class TestCheck:
    def test_it_says_that_nobody_can_log_in_yet(self, file: UserFile, capsys) -> None:
        assert main(["check", str(file.path.parent)]) == 0
        assert "[operators] has no user yet, so nobody can log in" in capsys.readouterr().out
        file.add("ana", PASSWORD, ["OPERATOR"])
        assert main(["check", str(file.path.parent)]) == 0
        assert "nobody can log in" not in capsys.readouterr().out

    def test_it_says_that_the_file_is_broken(self, ana: UserFile, capsys) -> None:
        ana.path.write_text("broken")
        assert main(["check", str(ana.path.parent)]) == 0
        assert "is broken, so nobody can log in" in capsys.readouterr().out


def test_the_roles_that_are_offered_are_those_there_are() -> None:
    assert OFFERED == ROLES
