"""``gridlatch certs``: the files of a site's certificates, as a person and as a script see them."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from certificate_kit import Party, ca, crl, make

from gateway.cli import main
from gateway.clock import wall_now
from protocols.opcua.pki import CertificateRefused, Pki, thumbprint

EXAMPLE = Path(__file__).parents[4] / "config" / "examples" / "substation"
NOW = wall_now()
URI = "urn:test:client"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site with an OPC UA server; it is found by the environment."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "site")
    with open(folder / "site.toml", "a") as file:
        file.write('\n[operators]\nhost = "192.0.2.7"\napplication_uri = "urn:test:gateway"\n')
    monkeypatch.setenv("GRIDLATCH_SITE", str(folder))
    return folder


@pytest.fixture
def pki(site: Path) -> Pki:
    return Pki(site / "pki")


def client(name: str = "client", **more: object) -> Party:
    """A client's certificate that is good today."""
    span = {"begins": NOW - timedelta(days=1), "ends": NOW + timedelta(days=20)}
    return make(name, **{**span, **more})


def knock(pki: Pki, party: Party) -> str:
    """A client that nobody knows was here; gives the reason why it was refused."""
    with pytest.raises(CertificateRefused) as refused:
        pki.check(party.der, URI, NOW)
    return refused.value.reason.value


class Run:
    """Runs a command; what it printed is in out and err."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.out = self.err = ""

    def __call__(self, *words: str) -> int:
        code = main(["certs", *words])
        self.out, self.err = self.capsys.readouterr()
        return code

    def json(self, *words: str) -> dict:
        assert self(*words, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def run(site: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


class TestOwn:
    def test_a_new_one_before_the_first_start(self, run: Run, pki: Pki) -> None:
        assert run("new") == 0
        own = pki.own()
        assert own.application_uri == "urn:test:gateway"
        assert {"192.0.2.7", "localhost"} <= set(own.host_names)
        assert own.thumbprint in run.out
        assert own.sha1 in run.out
        assert "previous" not in run.out
        assert pki.ensure_own("urn:test:gateway", [], NOW) is False  # the daemon takes it as it is

    def test_hosts_uri_and_years_may_be_said(self, run: Run, pki: Pki) -> None:
        told = run.json("new", "--host", "scada-1", "--host", "192.0.2.9", "--uri", "urn:other", "--years", "2")
        assert told["host_names"] == ["scada-1", "192.0.2.9"]
        assert told["application_uri"] == "urn:other"
        assert told["expires"] == pki.own().expires.isoformat()
        assert 700 < (pki.own().expires - NOW).days < 740

    def test_renewal_says_where_the_old_one_is(self, run: Run, pki: Pki) -> None:
        run("new")
        old = pki.own()
        assert run("renew") == 0
        assert f"{pki.folder}/own/previous" in run.out
        assert pki.own().thumbprint != old.thumbprint
        assert (pki.folder / "own/previous" / f"{old.thumbprint[:16]}.der").exists()

    def test_there_is_none_to_renew(self, run: Run) -> None:
        assert run("renew") == 1
        assert "no certificate of our own" in run.err

    def test_show_tells_all_of_it(self, run: Run, pki: Pki) -> None:
        run("new")
        assert run("show") == 0
        assert run.out.count(pki.own().thumbprint) == 1
        assert "urn:test:gateway" in run.out
        assert run.json("show")["key_bits"] == 2048


class TestOthers:
    def test_from_the_first_knock_to_trusted_and_back(self, run: Run, pki: Pki) -> None:
        party = client()
        assert knock(pki, party) == "untrusted"
        assert run("list") == 0
        (row,) = (line for line in run.out.splitlines() if "CN=client" in line)
        assert row.split()[:2] == ["rejected", thumbprint(party.der)[:16]]
        assert "in 19 d" in row
        assert run("trust", thumbprint(party.der)[:16]) == 0
        assert "Trusted from now on: CN=client" in run.out
        pki.check(party.der, URI, NOW)
        assert run("reject", thumbprint(party.der)[:16]) == 0
        assert knock(pki, party) == "untrusted"

    def test_a_file(self, run: Run, pki: Pki, tmp_path: Path) -> None:
        party = client()
        (tmp_path / "hmi.pem").write_bytes(party.pem)
        told = run.json("trust", str(tmp_path / "hmi.pem"))
        assert told["thumbprint"] == thumbprint(party.der)
        assert told["doubt"] == ""
        pki.check(party.der, URI, NOW)

    def test_an_authority_and_its_revocation_list(self, run: Run, pki: Pki, tmp_path: Path) -> None:
        span = {"begins": NOW - timedelta(days=1), "ends": NOW + timedelta(days=99)}
        root = ca(**span)
        good, bad = client(issuer=root), client("bad", issuer=root)
        (tmp_path / "root.der").write_bytes(root.der)
        revoked = crl(root, [bad], issued=NOW - timedelta(hours=1), until=NOW + timedelta(days=9))
        (tmp_path / "root.crl").write_bytes(revoked)
        assert run("trust", str(tmp_path / "root.der")) == 0
        assert "! what it issues gets in only while its revocation list is here" in run.out
        assert knock(pki, good) == "no_crl"
        assert run("crl", str(tmp_path / "root.crl")) == 0
        assert "1 certificate revoked" in run.out
        pki.check(good.der, URI, NOW)
        assert knock(pki, bad) == "revoked"

    def test_one_whose_issuer_is_not_known_is_trusted_with_a_doubt(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "hmi.der").write_bytes(client(issuer=ca()).der)
        assert run("trust", str(tmp_path / "hmi.der")) == 0
        assert "! it would not get in yet: its issuer 'CN=root' is not known here" in run.out

    def test_an_issuer_that_is_none(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "hmi.der").write_bytes(client().der)
        assert run("trust", "--issuer", str(tmp_path / "hmi.der")) == 4
        assert "nothing was changed" in run.err

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["trust", "0123456789abcdef"], 3),
            (["trust", "/nowhere.der"], 3),
            (["reject", "0123456789abcdef"], 3),
            (["show", "not a thumbprint"], 3),
            (["show"], 1),
            (["crl", "/nowhere.crl"], 1),
        ],
    )
    def test_what_is_not_there(self, run: Run, words: list[str], code: int) -> None:
        assert run(*words) == code
        assert run.err.startswith("gridlatch: ")
        assert not run.out

    @pytest.mark.parametrize("content", [b"", b"rubbish", b"\x30\x82\xff\xff"])
    def test_what_is_no_certificate_is_refused(self, run: Run, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.der").write_bytes(content)
        assert run("trust", str(tmp_path / "x.der")) == 4
        assert run("crl", str(tmp_path / "x.der")) == 4

    def test_an_expired_one_is_refused(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "x.der").write_bytes(client(ends=NOW - timedelta(hours=1)).der)
        assert run("trust", str(tmp_path / "x.der")) == 4
        assert "it expired at" in run.err

    def test_a_strangers_name_cannot_redraw_the_terminal(self, run: Run, pki: Pki) -> None:
        party = client("evil\x1b[2J")
        knock(pki, party)
        for words in (["list"], ["show", thumbprint(party.der)]):
            assert run(*words) == 0
            assert "\x1b" not in run.out

    def test_a_file_that_cannot_be_read_is_told(self, run: Run, pki: Pki) -> None:
        run("new")
        (pki.folder / "trusted/certs/odd.der").write_bytes(b"rubbish")
        assert run("list") == 0
        assert "! " in run.out
        assert len(run.json("list")["problems"]) == 1

    def test_an_empty_folder(self, run: Run) -> None:
        assert run("list") == 0
        assert run.out == "No certificate yet.\n"


class TestWhere:
    def test_another_folder(self, run: Run, tmp_path: Path) -> None:
        assert run("new", "--pki", str(tmp_path / "client"), "--uri", "urn:test:devices") == 0
        assert Pki(tmp_path / "client").own().application_uri == "urn:test:devices"
        with pytest.raises(SystemExit):
            main(["certs", "new", "--years", "0"])

    def test_another_folder_needs_a_uri(self, run: Run, tmp_path: Path) -> None:
        assert run("new", "--pki", str(tmp_path / "client")) == 2
        assert "--uri" in run.err

    @pytest.mark.parametrize("command", ["certs", "users"])
    def test_a_site_without_operators(self, command: str, monkeypatch, capsys) -> None:
        assert main([command, "list", "--site", str(EXAMPLE)]) == 2
        assert "has no table [operators]" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["certs", "users"])
    def test_no_site(self, command: str, tmp_path: Path, capsys) -> None:
        assert main([command, "list", "--site", str(tmp_path / "nowhere")]) == 2
        assert "there is no site at" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["certs", "users"])
    def test_a_wrong_table(self, command: str, site: Path, capsys) -> None:
        text = (site / "site.toml").read_text()
        (site / "site.toml").write_text(text + "port = 0\n")
        assert main([command, "list"]) == 2
        assert "port" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["certs", "users"])
    def test_the_rest_of_the_site_may_be_in_pieces(self, command: str, site: Path, capsys) -> None:
        (site / "feeders.csv").write_text("under construction")
        assert main([command, "list"]) == 0
