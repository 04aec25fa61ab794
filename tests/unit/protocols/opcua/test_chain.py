"""Chains of authorities and their revocation lists: trusted through an authority, and every way in which that ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from certificate_kit import DAY, NOW, Party, ca, crl, key, make, with_sha1
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from protocols.opcua import chain
from protocols.opcua.chain import MOST_AUTHORITIES, MOST_STEPS
from protocols.opcua.pki import CertificateRefused, Pki, Reason
from protocols.opcua.trust_files import read_trust_list

URI = "urn:test:client"


class Site:
    """A folder of certificates, filled by name."""

    def __init__(self, folder: Path) -> None:
        self.pki = Pki(folder)

    def put(self, place: str, *data: bytes) -> None:
        folder = self.pki.folder / place
        folder.mkdir(parents=True, exist_ok=True)
        for one in data:
            (folder / f"{len(list(folder.iterdir()))}.der").write_bytes(one)

    def trust(self, authority: Party, *lists: bytes) -> None:
        self.put("trusted/certs", authority.der)
        self.put("trusted/crl", *lists)

    def issuer(self, authority: Party, *lists: bytes) -> None:
        self.put("issuers/certs", authority.der)
        self.put("issuers/crl", *lists)

    def refusal(self, party: Party, now=NOW) -> tuple[Reason, str]:
        with pytest.raises(CertificateRefused) as refused:
            self.pki.check(party.der, URI, now)
        return refused.value.reason, str(refused.value)

    def lets_in(self, party: Party, now=NOW) -> None:
        self.pki.check(party.der, URI, now)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "pki")


@pytest.fixture(scope="module")
def root() -> Party:
    return ca("root")


@pytest.fixture(scope="module")
def client(root: Party) -> Party:
    return make(issuer=root)


class TestTrust:
    def test_whom_a_trusted_authority_issued_comes_in(self, site: Site, root: Party, client: Party) -> None:
        site.trust(root, crl(root))
        site.lets_in(client)

    def test_an_authority_that_only_completes_chains_is_not_enough(
        self, site: Site, root: Party, client: Party
    ) -> None:
        site.issuer(root, crl(root))
        assert site.refusal(client)[0] is Reason.UNTRUSTED
        site.put("trusted/certs", client.der)
        site.lets_in(client)

    def test_nobody_knows_the_issuer(self, site: Site, root: Party, client: Party) -> None:
        reason, sentence = site.refusal(client)
        assert reason is Reason.ISSUER_UNKNOWN
        assert "its issuer 'CN=root' is not known here" in sentence
        assert list((site.pki.folder / "rejected").iterdir())
        site.put("trusted/certs", client.der)  # also one that is in the list needs a whole chain
        assert site.refusal(client)[0] is Reason.ISSUER_UNKNOWN

    def test_an_authority_of_the_same_name_with_another_key_is_another(self, site: Site, root: Party) -> None:
        site.trust(root, crl(root))
        thief = ca("root", private=key("thief"))
        assert site.refusal(make(issuer=thief))[0] is Reason.ISSUER_UNKNOWN

    def test_a_chain_of_two(self, site: Site, root: Party) -> None:
        middle = ca("middle", issuer=root)
        client = make(issuer=middle)
        site.trust(middle, crl(middle))
        assert site.refusal(client)[0] is Reason.ISSUER_UNKNOWN  # up to the root, or not at all
        site.issuer(root, crl(root))
        site.lets_in(client)

    @pytest.mark.parametrize(
        ("authority", "says"),
        [
            (lambda: ca("root", authority=False), "not marked as an authority"),
            (lambda: ca("root", usage=["crl_sign"]), "not meant for signing certificates"),
            (lambda: ca("root", uris=["urn:test:tool"]), "application's certificate"),
        ],
    )
    def test_who_is_no_authority_issues_nothing(self, site: Site, authority, says: str) -> None:
        party = authority()
        site.trust(party, crl(party))
        reason, sentence = site.refusal(make(issuer=party))
        assert reason is Reason.ISSUER_UNFIT
        assert says in sentence

    def test_a_weak_authority(self, site: Site) -> None:
        weak = ca("weak", private=key("short", 1024))
        site.trust(weak, crl(weak))
        reason, sentence = site.refusal(make(issuer=weak))
        assert reason is Reason.WEAK_KEY
        assert "its issuer 'CN=weak'" in sentence

    @pytest.mark.parametrize(("now", "reason"), [(NOW - 2 * DAY, "NOT_YET_VALID"), (NOW + 9 * DAY, "EXPIRED")])
    def test_an_authority_out_of_its_time(self, site: Site, now, reason: str) -> None:
        root = ca("root", ends=NOW + 5 * DAY)
        site.trust(root, crl(root))
        client = make(issuer=root, begins=NOW - 10 * DAY)
        told, sentence = site.refusal(client, now)
        assert told is Reason[reason]
        assert "its issuer 'CN=root'" in sentence

    def test_an_authority_that_was_renewed_with_its_key_goes_on(self, site: Site) -> None:
        """The old certificate and the new one have one name and one key; the one in date counts."""
        old, new = ca("root", ends=NOW - DAY / 2), ca("root")
        site.trust(old, crl(new))
        client = make(issuer=old)
        assert site.refusal(client)[0] is Reason.EXPIRED
        site.trust(new)
        site.lets_in(client)

    def test_a_path_length_is_kept(self, site: Site) -> None:
        root = ca("root", path_length=0)
        middle = ca("middle", issuer=root)
        site.trust(root, crl(root))
        site.issuer(middle, crl(middle))
        site.lets_in(make(issuer=root))
        reason, sentence = site.refusal(make(issuer=middle))
        assert reason is Reason.ISSUER_UNFIT
        assert "may have 0 authorities below it, and has 1" in sentence


class TestLoopsAndDepth:
    def test_a_loop_of_authorities_ends(self, site: Site) -> None:
        """A issued B and B issued A: there is no root."""
        a_self, b_self = ca("a"), ca("b")
        a = ca("a", issuer=b_self)
        b = ca("b", issuer=a_self)
        site.trust(a, crl(a))
        site.trust(b, crl(b))
        reason, sentence = site.refusal(make(issuer=a))
        assert reason is Reason.ISSUER_UNFIT
        assert "the chain of its issuer 'CN=b' is a loop" in sentence or "issuer 'CN=a' is a loop" in sentence

    def test_a_loop_of_many_certificates_of_two_names_ends_soon(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        a_self, b_self = ca("a"), ca("b")
        for _ in range(10):
            site.put("trusted/certs", ca("a", issuer=b_self).der, ca("b", issuer=a_self).der)
        looked_at: list[object] = []
        issued_by = chain.issued_by
        monkeypatch.setattr(chain, "issued_by", lambda one, by: looked_at.append(by) or issued_by(one, by))
        assert site.refusal(make(issuer=a_self))[0] is Reason.ISSUER_UNFIT
        assert len(looked_at) <= 10 * MOST_STEPS  # and not 10 to the power of the depth

    @pytest.mark.parametrize("depth", [MOST_AUTHORITIES, MOST_AUTHORITIES + 1])
    def test_a_chain_is_only_so_long(self, site: Site, depth: int) -> None:
        authority = ca("a0")
        site.trust(authority, crl(authority))
        for number in range(1, depth):
            authority = ca(f"a{number}", issuer=authority)
            site.issuer(authority, crl(authority))
        client = make(issuer=authority)
        if depth == MOST_AUTHORITIES:
            site.lets_in(client)
        else:
            reason, sentence = site.refusal(client)
            assert reason is Reason.ISSUER_UNFIT
            assert f"more than {MOST_AUTHORITIES}" in sentence


class TestRevocation:
    def test_who_was_revoked(self, site: Site, root: Party, client: Party) -> None:
        site.trust(root, crl(root, [client]))
        reason, sentence = site.refusal(client)
        assert reason is Reason.REVOKED
        assert "it was revoked by 'CN=root'" in sentence
        site.lets_in(make(issuer=root))

    def test_who_is_in_the_trust_list_itself_is_revoked_all_the_same(
        self, site: Site, root: Party, client: Party
    ) -> None:
        site.issuer(root, crl(root, [client]))
        site.put("trusted/certs", client.der)
        assert site.refusal(client)[0] is Reason.REVOKED

    def test_an_authority_that_was_revoked(self, site: Site, root: Party) -> None:
        middle = ca("middle", issuer=root)
        site.trust(middle, crl(middle))
        site.issuer(root, crl(root, [middle]))
        reason, sentence = site.refusal(make(issuer=middle))
        assert reason is Reason.REVOKED
        assert "its issuer 'CN=middle' was revoked by 'CN=root'" in sentence

    def test_no_list(self, site: Site, root: Party, client: Party) -> None:
        site.trust(root)
        reason, sentence = site.refusal(client)
        assert reason is Reason.NO_CRL
        assert "no revocation list of 'CN=root'" in sentence

    def test_no_list_of_the_authority_above(self, site: Site, root: Party) -> None:
        middle = ca("middle", issuer=root)
        site.trust(middle, crl(middle))
        site.issuer(root)
        assert site.refusal(make(issuer=middle))[0] is Reason.NO_CRL

    def test_a_list_out_of_date(self, site: Site, root: Party, client: Party) -> None:
        site.trust(root, crl(root, until=NOW + DAY))
        site.lets_in(client)
        reason, sentence = site.refusal(client, NOW + 2 * DAY)
        assert reason is Reason.CRL_OUT_OF_DATE
        assert "was good until 2026-06-02 12:00Z" in sentence

    def test_a_list_that_somebody_else_signed_is_none(self, site: Site, root: Party, client: Party) -> None:
        site.trust(root, crl(root, signer=ca("thief")))
        assert site.refusal(client)[0] is Reason.NO_CRL

    def test_a_list_of_an_authority_that_may_sign_none(self, site: Site) -> None:
        root = ca("root", usage=["key_cert_sign"])
        site.trust(root, crl(root))
        assert site.refusal(make(issuer=root))[0] is Reason.NO_CRL

    def test_the_newest_list_counts(self, site: Site, root: Party, client: Party) -> None:
        site.trust(root, crl(root, [client], issued=NOW - 2 * DAY), crl(root, issued=NOW - DAY))
        site.lets_in(client)
        site.put("issuers/crl", crl(root, [client], issued=NOW - DAY / 2))
        assert site.refusal(client)[0] is Reason.REVOKED

    def test_half_a_list_and_a_weak_one_are_none(self, site: Site, root: Party, client: Party) -> None:
        delta = crl(root, more=[(x509.DeltaCRLIndicator(1), True)])
        site.trust(root, delta, with_sha1(crl(root)))
        assert site.refusal(client)[0] is Reason.NO_CRL
        assert len(site.pki.problems()) == 2

    def test_a_list_in_pem(self, site: Site, root: Party, client: Party) -> None:
        pem = x509.load_der_x509_crl(crl(root)).public_bytes(Encoding.PEM)
        site.trust(root, pem)
        site.lets_in(client)


class TestTakingInAList:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "list.crl"

    def test_it_replaces_the_older_one(self, site: Site, root: Party, client: Party, file: Path) -> None:
        site.trust(root)
        for day, revoked in ((3, []), (2, [client])):
            file.write_bytes(crl(root, revoked, issued=NOW - day * DAY))
            assert site.pki.add_crl(file, NOW).revoked == len(revoked)
        assert site.refusal(client)[0] is Reason.REVOKED
        assert len(list((site.pki.folder / "trusted/crl").iterdir())) == 1

    def test_an_older_one_does_not_come_back(self, site: Site, root: Party, client: Party, file: Path) -> None:
        site.trust(root, crl(root, [client]))
        file.write_bytes(crl(root, issued=NOW - 9 * DAY))
        with pytest.raises(CertificateRefused, match="a newer revocation list") as refused:
            site.pki.add_crl(file, NOW)
        assert refused.value.reason is Reason.CRL_OUT_OF_DATE
        assert site.refusal(client)[0] is Reason.REVOKED

    def test_nobody_known_signed_it(self, site: Site, root: Party, file: Path) -> None:
        file.write_bytes(crl(root))
        with pytest.raises(CertificateRefused, match="trust 'CN=root' first"):
            site.pki.add_crl(file, NOW)

    def test_out_of_date_or_no_list_at_all(self, site: Site, root: Party, file: Path) -> None:
        site.trust(root)
        file.write_bytes(crl(root, until=NOW - DAY / 2))
        with pytest.raises(CertificateRefused, match="out of date"):
            site.pki.add_crl(file, NOW)
        file.write_bytes(root.der)
        with pytest.raises(CertificateRefused) as refused:
            site.pki.add_crl(file, NOW)
        assert refused.value.reason is Reason.MALFORMED


def test_a_folder_that_is_not_there_trusts_nobody(tmp_path: Path) -> None:
    found = read_trust_list(tmp_path / "nowhere")
    assert not found.trusted
    assert not found.problems
