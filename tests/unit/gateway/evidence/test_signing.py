"""The device's key and signed heads: made once, kept, and every changed character of a line is found."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from gateway.evidence.errors import SigningError
from gateway.evidence.signing import Signer, check_line, load_public, read_head
from journal.rows import Head

HEAD = Head(543, 9_120, "0c" * 32, 1_768_377_600_000_000)


def test_the_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    first, second = Signer.open(tmp_path), Signer.open(tmp_path)
    assert first.fingerprint == second.fingerprint
    assert stat.S_IMODE((tmp_path / "device.key").stat().st_mode) == 0o600
    check_line(first.sign(HEAD), load_public(tmp_path / "device.pub"))


def test_a_lost_public_half_is_written_again(tmp_path: Path) -> None:
    signer = Signer.open(tmp_path)
    (tmp_path / "device.pub").unlink()
    Signer.open(tmp_path)
    check_line(signer.sign(HEAD), load_public(tmp_path / "device.pub"))


def test_a_key_that_is_gone_is_not_replaced_by_itself(tmp_path: Path) -> None:
    old = Signer.open(tmp_path)
    (tmp_path / "device.key").unlink()
    with pytest.raises(SigningError, match=r"is gone, and device\.pub is there.*audit key --new"):
        Signer.open(tmp_path)
    assert not (tmp_path / "device.key").exists()
    new = Signer.make(tmp_path)
    assert new.fingerprint != old.fingerprint
    assert Signer.open(tmp_path).fingerprint == new.fingerprint
    kept = load_public(tmp_path / f"device-{old.fingerprint}.pub")
    check_line(old.sign(HEAD), kept)
    with pytest.raises(SigningError, match="a key that can sign is not replaced"):
        Signer.make(tmp_path)


def test_a_key_that_the_journal_knows_is_not_replaced_either(tmp_path: Path) -> None:
    with pytest.raises(SigningError, match="the journal knows key 0123456789abcdef"):
        Signer.open(tmp_path, "0123456789abcdef")
    assert list(tmp_path.iterdir()) == []


def test_halves_that_do_not_fit_sign_nothing(tmp_path: Path) -> None:
    own = Signer.open(tmp_path)
    (tmp_path / "other").mkdir()
    other = Signer.open(tmp_path / "other")
    (tmp_path / "device.pub").write_bytes((tmp_path / "other" / "device.pub").read_bytes())
    with pytest.raises(SigningError, match=f"it is key {own.fingerprint}, and device.pub .* key {other.fingerprint}"):
        Signer.open(tmp_path)
    assert load_public(tmp_path / "device.pub").public_bytes_raw() == other.public.public_bytes_raw()


def test_what_a_start_left_half_written_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "device.key.new").write_text("half a key")
    Signer.open(tmp_path)


def test_a_signed_line_says_what_the_head_was(tmp_path: Path) -> None:
    signer = Signer.open(tmp_path)
    told = read_head(signer.sign(HEAD))
    assert (told.batch, told.seq, told.hash_hex, told.time_us) == (543, 9_120, "0c" * 32, HEAD.time_us)
    assert told.key == signer.fingerprint


def test_every_changed_character_is_found(tmp_path: Path) -> None:
    signer = Signer.open(tmp_path)
    line = signer.sign(HEAD)
    for at, character in enumerate(line):
        other = "1" if character != "1" else "2"
        with pytest.raises(SigningError):
            check_line(line[:at] + other + line[at + 1 :], signer.public)


def test_another_device_s_signature_is_none(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Signer.open(tmp_path / "other")
    with pytest.raises(SigningError, match="not that of key"):
        check_line(Signer.open(tmp_path).sign(HEAD), other.public)


@pytest.mark.parametrize("line", ["", "543:0c", "gridlatch-head-1 batch=x sig=AA==", "gridlatch-head-2 batch=1"])
def test_what_is_no_signed_head_is_refused(line: str) -> None:
    with pytest.raises(SigningError, match="no signed head"):
        read_head(line)


def test_a_file_that_holds_no_such_key_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "device.key").write_text("scribble")
    with pytest.raises(SigningError, match=r"device\.key holds no key"):
        Signer.open(tmp_path)
    assert (tmp_path / "device.key").read_text() == "scribble"
    stranger = generate_private_key(SECP256R1())
    (tmp_path / "device.key").write_bytes(stranger.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SigningError, match="another kind than Ed25519"):
        Signer.open(tmp_path)
    public = tmp_path / "x.pub"
    public.write_bytes(stranger.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(SigningError, match="another kind than Ed25519"):
        load_public(public)
    public.write_text("scribble")
    with pytest.raises(SigningError, match="no public key"):
        load_public(public)
