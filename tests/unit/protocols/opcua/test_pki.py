"""The folder of certificates: the gateway's own, who is let in, who is turned away and why."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from certificate_kit import APPLICATION, CLIENT, DAY, NOW, SERVER, Party, ca, key, long_key, make, with_sha1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from protocols.opcua import pki as module
from protocols.opcua import trust_files
from protocols.opcua.pki import (
    CertificateRefused,
    NotFound,
    Pki,
    PkiError,
    Place,
    Reason,
    Use,
    host_names_of,
    thumbprint,
)

URI = "urn:test:client"
PEM_OF_NOTHING = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"


@dataclass
class Raw:
    """Bytes in the place of a certificate."""

    der: bytes


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path / "pki")


def put(pki: Pki, data: bytes, place: str = "trusted/certs", name: str = "one.der") -> Path:
    folder = pki.folder / place
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def refusal(pki: Pki, der: bytes, uri: str | None = URI, use: Use = Use.CLIENT, now=NOW) -> CertificateRefused:
    with pytest.raises(CertificateRefused) as refused:
        pki.check(der, uri, now, use)
    return refused.value


class TestItsOwn:
    def test_the_first_start_makes_a_key_and_a_certificate_and_the_next_one_keeps_them(self, pki: Pki) -> None:
        assert pki.ensure_own("urn:test:gateway", ["riverside", "192.0.2.7"], NOW) is True
        own = pki.own()
        assert pki.ensure_own("urn:test:gateway", ["other"], NOW) is False
        assert pki.own() == own
        assert own.application_uri == "urn:test:gateway"
        assert own.host_names == ("riverside", "192.0.2.7")
        assert own.thumbprint == thumbprint(own.der)
        assert 5 * 365 * DAY <= own.expires - NOW <= 5 * 366 * DAY

    def test_it_is_as_opc_ua_asks_for_an_application(self, pki: Pki) -> None:
        pki.ensure_own("urn:test:gateway", ["riverside"], NOW)
        certificate = x509.load_der_x509_certificate(pki.own().der)
        extensions = certificate.extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        assert all(getattr(usage, name) for name in APPLICATION)
        assert usage.key_cert_sign  # for self-signed ones
        assert set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {CLIENT, SERVER}
        assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["urn:test:gateway"]
        assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
        assert certificate.public_key().key_size >= 2048
        assert certificate.not_valid_before_utc < NOW  # for clients whose clocks are behind

    def test_another_gateway_that_trusts_it_lets_it_in_as_server_and_as_client(self, pki: Pki, tmp_path: Path) -> None:
        other = Pki(tmp_path / "other")
        other.ensure_own(URI, ["other"], NOW)
        put(pki, other.own().der)
        for use in Use.CLIENT, Use.SERVER, Use.ANY:
            pki.check(other.own().der, URI, NOW, use)

    def test_nobody_but_the_owner_reads_the_key(self, pki: Pki) -> None:
        pki.ensure_own("urn:test:gateway", ["riverside"], NOW)
        assert stat.S_IMODE(pki.own().key_path.stat().st_mode) == 0o600
        for folder in (pki.folder, *(path for path in pki.folder.rglob("*") if path.is_dir())):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder

    def test_a_key_that_others_may_read_is_not_used(self, pki: Pki) -> None:
        pki.ensure_own("urn:test:gateway", ["riverside"], NOW)
        (pki.folder / "own/key.pem").chmod(0o640)
        with pytest.raises(PkiError, match="others than its owner may read or change"):
            pki.own()
        with pytest.raises(PkiError):
            pki.ensure_own("urn:test:gateway", ["riverside"], NOW)

    def test_a_certificate_for_another_uri_is_told_at_the_start(self, pki: Pki) -> None:
        pki.ensure_own("urn:test:old", ["riverside"], NOW)
        with pytest.raises(PkiError, match="made for 'urn:test:old', and the site says 'urn:test:new'"):
            pki.ensure_own("urn:test:new", ["riverside"], NOW)

    @pytest.mark.parametrize("lost", ["own/key.pem", "own/cert.der"])
    def test_half_of_a_pair(self, pki: Pki, lost: str) -> None:
        pki.ensure_own("urn:test:gateway", ["riverside"], NOW)
        before = pki.own()
        (pki.folder / lost).unlink()
        if lost.endswith("key.pem"):
            with pytest.raises(PkiError, match="there is no key"):
                pki.ensure_own("urn:test:gateway", ["riverside"], NOW)
        else:  # a crash at the first start: nobody has seen a certificate of this key
            assert pki.ensure_own("urn:test:gateway", ["riverside"], NOW) is True
            assert pki.own().thumbprint != before.thumbprint

    def test_a_key_of_something_else(self, pki: Pki, tmp_path: Path) -> None:
        other = Pki(tmp_path / "other")
        for one in pki, other:
            one.ensure_own("urn:test:gateway", ["riverside"], NOW)
        (pki.folder / "own/key.pem").write_bytes((other.folder / "own/key.pem").read_bytes())
        with pytest.raises(PkiError, match="is not the key of"):
            pki.own()

    @pytest.mark.parametrize("damaged", ["own/key.pem", "own/cert.der"])
    @pytest.mark.parametrize("content", [b"", b"\xff\x00 damaged", PEM_OF_NOTHING])
    def test_damage_is_a_sentence(self, pki: Pki, damaged: str, content: bytes) -> None:
        pki.ensure_own("urn:test:gateway", ["riverside"], NOW)
        (pki.folder / damaged).write_bytes(content)
        with pytest.raises(PkiError, match=r"can't be used|put it back"):
            pki.own()

    def test_nothing_is_there_yet(self, pki: Pki) -> None:
        with pytest.raises(PkiError, match="no certificate of our own"):
            pki.own()
        assert not list(pki.list())

    def test_renewal_keeps_key_uri_and_names_and_the_old_certificate(self, pki: Pki) -> None:
        pki.ensure_own("urn:test:gateway", ["riverside", "192.0.2.7"], NOW)
        old, old_key = pki.own(), pki.own().key_path.read_bytes()
        new = pki.renew(NOW + 1000 * DAY, years=2)
        assert (new.application_uri, new.host_names) == (old.application_uri, old.host_names)
        assert new.expires > NOW + 1700 * DAY
        assert new.key_path.read_bytes() == old_key
        assert (pki.folder / "own/previous" / f"{old.thumbprint[:16]}.der").read_bytes() == old.der
        assert (pki.folder / "own/previous" / f"{old.thumbprint[:16]}.pem").read_bytes() == old_key

    def test_a_new_one_has_a_new_key_and_the_last_five_are_kept(self, pki: Pki) -> None:
        pki.ensure_own("urn:test:gateway", ["riverside"], NOW)
        old_key = pki.own().key_path.read_bytes()
        assert pki.new("urn:test:other", ["a"], NOW).application_uri == "urn:test:other"
        assert pki.own().key_path.read_bytes() != old_key
        for day in range(6):
            pki.renew(NOW + day * DAY)
        kept = sorted(path.suffix for path in (pki.folder / "own/previous").iterdir())
        assert kept == [".der"] * 5 + [".pem"] * 5
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (pki.folder / "own/previous").iterdir()}
        assert modes == {0o600}

    def test_a_name_that_fits_into_no_certificate(self, pki: Pki) -> None:
        with pytest.raises(PkiError, match="no certificate can be made"):
            pki.ensure_own("urn:test:gatewäy", ["riverside"], NOW)

    def test_a_disk_that_takes_nothing(self, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(PkiError, match="No space left"):
            pki.ensure_own("urn:test:gateway", ["riverside"], NOW)
        assert not (pki.folder / "own/cert.der").exists()
        assert not list((pki.folder / "own").glob(".new-*"))


class TestWhoIsTurnedAway:
    def test_who_is_in_the_trust_list_comes_in(self, pki: Pki) -> None:
        client = make()
        put(pki, client.der)
        pki.check(client.der, URI, NOW)
        pki.check(client.der, None, NOW)

    def test_a_stranger_does_not_and_lies_in_rejected(self, pki: Pki) -> None:
        client = make()
        refused = refusal(pki, client.der)
        assert refused.reason is Reason.UNTRUSTED
        assert str(refused).startswith(f"certificate {thumbprint(client.der)[:16]} of 'CN=client': ")
        assert (pki.folder / "rejected" / f"{thumbprint(client.der)}.der").read_bytes() == client.der

    def test_neither_does_one_with_the_name_and_uri_of_somebody_trusted(self, pki: Pki) -> None:
        put(pki, make().der)
        assert refusal(pki, make(private=key("thief")).der).reason is Reason.UNTRUSTED

    def test_nor_one_that_somebody_trusted_has_signed(self, pki: Pki) -> None:
        """Tools make self-signed certificates that say they are authorities."""
        tool = make("tool", authority=True, usage=(*APPLICATION, "key_cert_sign", "crl_sign"))
        put(pki, tool.der)
        pki.check(tool.der, URI, NOW)
        refused = refusal(pki, make("thief", issuer=tool).der)
        assert refused.reason is Reason.ISSUER_UNFIT
        assert "application's certificate" in str(refused)

    @pytest.mark.parametrize(
        ("party", "reason", "says"),
        [
            (lambda: make(begins=NOW + DAY), Reason.NOT_YET_VALID, "it is not valid before 2026-06-02 12:00Z"),
            (lambda: make(ends=NOW - DAY / 2), Reason.EXPIRED, "it expired at 2026-06-01 00:00Z"),
            (lambda: make(private=key("short", 1024)), Reason.WEAK_KEY, "1024 bits"),
            (lambda: make(public=long_key(4352)), Reason.WEAK_KEY, "4352 bits"),
            (lambda: make(private=ec.generate_private_key(ec.SECP256R1())), Reason.WEAK_KEY, "no RSA key"),
            (lambda: Raw(with_sha1(make().der)), Reason.WEAK_HASH, "weak hash"),
            (lambda: make(uris=["urn:test:other"]), Reason.WRONG_URI, "made for 'urn:test:other'"),
            (lambda: make(uris=[]), Reason.WRONG_URI, "no URI"),
            (lambda: make(uris=[URI, "urn:test:other"]), Reason.WRONG_URI, "2 URIs"),
            (lambda: make(usage=APPLICATION[:1]), Reason.WRONG_USE, "lacks nonRepudiation, keyEncipherment"),
            (lambda: make(usage=None), Reason.WRONG_USE, "does not say what its key is for"),
            (lambda: make(extended=[SERVER]), Reason.WRONG_USE, "lacks clientAuth"),
            (lambda: make(extended=None), Reason.WRONG_USE, "does not say what its key is for"),
            (
                lambda: make(more=[(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]),
                Reason.UNSUPPORTED,
                "critical extension that is not understood (1.2.3.4)",
            ),
        ],
    )
    def test_in_the_trust_list_and_refused_all_the_same(
        self, pki: Pki, party: Callable[[], Party | Raw], reason: Reason, says: str
    ) -> None:
        client = party()
        put(pki, client.der)
        refused = refusal(pki, client.der)
        assert refused.reason is reason
        assert says in str(refused)
        assert not list((pki.folder / "rejected").glob("*")) if (pki.folder / "rejected").exists() else True

    def test_a_client_is_no_server(self, pki: Pki) -> None:
        client = make(extended=[CLIENT])
        put(pki, client.der)
        assert refusal(pki, client.der, use=Use.SERVER).reason is Reason.WRONG_USE
        pki.check(client.der, URI, NOW, Use.ANY)
        other = make("other", extended=[ExtendedKeyUsageOID.CODE_SIGNING])
        put(pki, other.der, name="other.der")
        assert refusal(pki, other.der, use=Use.ANY).reason is Reason.WRONG_USE

    @pytest.mark.parametrize("der", [b"", b"no certificate", b"\x30\x82\xff\xff", bytes(20_000)])
    def test_what_is_no_certificate(self, pki: Pki, der: bytes) -> None:
        assert refusal(pki, der).reason is Reason.MALFORMED

    def test_more_bytes_than_any_certificate_has_are_not_even_parsed(self, pki: Pki) -> None:
        comment = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x04\x82\x40\x00" + bytes(0x4000))
        client = make(more=[(comment, False)])
        put(pki, client.der)
        refused = refusal(pki, client.der)
        assert refused.reason is Reason.MALFORMED
        assert "no more than 16384 are read" in str(refused)

    def test_a_certificate_with_something_behind_it(self, pki: Pki) -> None:
        client = make()
        put(pki, client.der)
        assert refusal(pki, client.der + make("other").der).reason is Reason.MALFORMED
        assert refusal(pki, client.der[:-1]).reason is Reason.MALFORMED

    def test_dates_are_looked_at_each_time(self, pki: Pki) -> None:
        client = make(ends=NOW + DAY)
        put(pki, client.der)
        pki.check(client.der, URI, NOW)
        assert refusal(pki, client.der, now=NOW + 2 * DAY).reason is Reason.EXPIRED
        pki.check(client.der, URI, NOW)

    def test_a_name_with_control_characters_stays_in_its_line(self, pki: Pki) -> None:
        refused = refusal(pki, make("evil\nname\x1b[2J").der)
        assert str(refused).isprintable()


class TestChangesWithoutARestart:
    def test_trusting_and_rejecting_hold_from_the_next_check_on(self, pki: Pki) -> None:
        client = make()
        refusal(pki, client.der)
        trusted = Pki(pki.folder).trust(thumbprint(client.der)[:8], NOW)  # another process
        assert trusted.place is Place.TRUSTED
        assert trusted.path.parent == pki.folder / "trusted/certs"
        assert not list((pki.folder / "rejected").iterdir())
        pki.check(client.der, URI, NOW)
        Pki(pki.folder).reject(thumbprint(client.der))
        assert refusal(pki, client.der).reason is Reason.UNTRUSTED

    def test_a_file_that_is_changed_in_its_place_is_seen(self, pki: Pki) -> None:
        first, second = make("one"), make("two")
        path = put(pki, first.der)
        pki.check(first.der, URI, NOW)
        stamp = path.stat().st_mtime_ns
        path.unlink()
        put(pki, second.der)
        os.utime(path, ns=(stamp, stamp))
        pki.check(second.der, URI, NOW)
        assert refusal(pki, first.der).reason is Reason.UNTRUSTED

    def test_a_look_without_a_change_reads_no_file(self, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
        client = make()
        put(pki, client.der)
        pki.check(client.der, URI, NOW)
        monkeypatch.setattr(module, "read_trust_list", lambda *_: pytest.fail("read again"))
        pki.check(client.der, URI, NOW)

    def test_after_a_change_only_what_changed_is_read(self, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second = make("one"), make("two")
        put(pki, first.der)
        pki.check(first.der, URI, NOW)
        read: list[str] = []
        read_file = trust_files.read_file
        monkeypatch.setattr(
            trust_files, "read_file", lambda path, limit: read.append(path.name) or read_file(path, limit)
        )
        put(pki, second.der, name="two.der")
        pki.check(second.der, URI, NOW)
        pki.check(first.der, URI, NOW)
        assert read == ["two.der"]

    def test_what_cannot_be_looked_at_trusts_nobody(self, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
        client = make()
        put(pki, client.der)
        pki.check(client.der, URI, NOW)

        def denied(folder: Path) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(module, "mark_of", denied)
        assert refusal(pki, client.der).reason is Reason.UNTRUSTED
        assert any("Permission denied" in problem for problem in pki.problems())
        monkeypatch.undo()
        pki.check(client.der, URI, NOW)

    def test_a_file_that_is_of_no_use_is_told_and_harms_no_other(self, pki: Pki) -> None:
        client = make()
        put(pki, client.der)
        put(pki, b"rubbish", name="rubbish.der")
        put(pki, client.pem + client.pem, name="two.pem")
        put(pki, bytes(100_000), name="long.der")
        put(pki, b"rubbish", place="trusted/crl", name="rubbish.crl")
        pki.check(client.der, URI, NOW)
        assert len(pki.problems()) == 4
        assert all(str(pki.folder) in problem for problem in pki.problems())

    def test_only_so_many_files_are_read(self, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("protocols.opcua.trust_files.MOST_FILES", 2)
        for name in "abc":
            put(pki, make(name).der, name=f"{name}.der")
        assert "holds 3 files, and no more than 2 are read" in pki.problems()[0]
        assert refusal(pki, make("c").der).reason is Reason.UNTRUSTED

    def test_what_is_remembered_is_bounded(self, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_REMEMBERED", 3)
        for number in range(6):
            refusal(pki, make(serial=number + 1).der)
        assert len(pki._known) == 3


class TestRejected:
    def test_only_the_newest_are_kept(self, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MOST_REJECTED", 3)
        parties = [make(serial=number + 1) for number in range(5)]
        for age, party in enumerate(parties):
            refusal(pki, party.der)
            path = pki.folder / "rejected" / f"{thumbprint(party.der)}.der"
            os.utime(path, (1_000 + age, 1_000 + age))
        kept = {path.stem for path in (pki.folder / "rejected").iterdir()}
        assert kept == {thumbprint(party.der) for party in parties[2:]}

    def test_who_knocks_again_is_new_again(self, pki: Pki) -> None:
        client = make()
        refusal(pki, client.der)
        path = pki.folder / "rejected" / f"{thumbprint(client.der)}.der"
        os.utime(path, (1_000, 1_000))
        refusal(pki, client.der)
        assert path.stat().st_mtime > 1_000

    def test_a_disk_that_is_full_changes_nothing_else(self, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        assert refusal(pki, make().der).reason is Reason.UNTRUSTED


class TestWhatPeopleDo:
    def test_a_file_is_trusted_der_or_pem(self, pki: Pki, tmp_path: Path) -> None:
        one, two = make("one"), make("two")
        (tmp_path / "one.der").write_bytes(one.der)
        (tmp_path / "two.pem").write_bytes(b"Bag Attributes\n" + two.pem)
        for name, party in (("one.der", one), ("two.pem", two)):
            pki.trust(tmp_path / name, NOW)
            pki.check(party.der, URI, NOW)
            assert (tmp_path / name).exists()

    @pytest.mark.parametrize(
        ("party", "reason"),
        [
            (lambda: make(ends=NOW - DAY / 2), Reason.EXPIRED),
            (lambda: make(private=key("short", 1024)), Reason.WEAK_KEY),
            (lambda: make(usage=None), Reason.WRONG_USE),
        ],
    )
    def test_what_would_be_refused_all_the_same_is_not_trusted(
        self, pki: Pki, tmp_path: Path, party: Callable[[], Party], reason: Reason
    ) -> None:
        (tmp_path / "one.der").write_bytes(party().der)
        with pytest.raises(CertificateRefused) as refused:
            pki.trust(tmp_path / "one.der", NOW)
        assert refused.value.reason is reason
        assert not list(pki.list())

    def test_only_an_authority_completes_chains(self, pki: Pki, tmp_path: Path) -> None:
        (tmp_path / "one.der").write_bytes(make().der)
        (tmp_path / "root.der").write_bytes(ca().der)
        with pytest.raises(CertificateRefused, match="can't be the certificate of an issuer"):
            pki.trust(tmp_path / "one.der", NOW, issuer=True)
        assert pki.trust(tmp_path / "root.der", NOW, issuer=True).place is Place.ISSUER

    @pytest.mark.parametrize("given", ["", "abc", "xyzxyzxyz", "12345678", "../../etc/passwd"])
    def test_nobody_is_meant(self, pki: Pki, given: str) -> None:
        refusal(pki, make().der)
        with pytest.raises(NotFound):
            pki.trust(given, NOW)
        with pytest.raises(NotFound):
            pki.reject(given)
        with pytest.raises(NotFound):
            pki.trust(Path("/nowhere/at/all.der"), NOW)

    def test_a_beginning_that_fits_two_means_none(self, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "LEAST_PREFIX", 0)
        for name in "one", "two":
            put(pki, make(name).der, name=f"{name}.der")
        with pytest.raises(NotFound, match="give more digits"):
            pki.find("")

    def test_thumbprints_as_tools_show_them(self, pki: Pki) -> None:
        client = make()
        put(pki, client.der)
        (one,) = pki.list()
        assert one.facts is not None
        sha1 = one.facts.sha1.upper()
        spaced = ":".join(sha1[i : i + 2] for i in range(0, 40, 2))
        assert pki.find(spaced) == pki.find(thumbprint(client.der)) == one

    def test_the_list_has_all_places_and_what_cannot_be_read(self, pki: Pki) -> None:
        pki.ensure_own("urn:test:gateway", ["riverside"], NOW)
        put(pki, make("one").der)
        put(pki, ca().der, place="issuers/certs")
        put(pki, b"rubbish", name="rubbish")
        refusal(pki, make("two").der)
        told = [(one.place, one.facts.subject if one.facts else one.problem) for one in pki.list()]
        assert [place for place, _ in told] == [
            Place.OWN,
            Place.TRUSTED,
            Place.TRUSTED,
            Place.ISSUER,
            Place.REJECTED,
        ]
        assert any("no certificate that can be read" in what for _, what in told)

    def test_host_names(self) -> None:
        assert host_names_of("192.0.2.7")[0] == "192.0.2.7"
        assert "0.0.0.0" not in host_names_of("0.0.0.0")
        assert len(set(host_names_of("localhost"))) == len(host_names_of("localhost"))
