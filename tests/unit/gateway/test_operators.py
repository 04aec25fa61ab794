"""What is looked at before the operators' server is started: said in a sentence, or in order."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from config.models import Operators
from gateway.clock import from_us, wall_now
from gateway.operators import Files, prepare
from gateway.starting import StartError


@pytest.fixture
def settings(tmp_path: Path) -> Operators:
    return Operators("127.0.0.1", 0, "urn:test:gridlatch", tmp_path / "pki", tmp_path / "users.toml")


@pytest.fixture
def files(settings: Operators) -> Iterator[Files]:
    made = prepare(settings)
    yield made
    made.close()


def test_the_first_start_makes_the_certificate_and_the_next_one_keeps_it(settings: Operators, files: Files) -> None:
    again = prepare(settings)
    assert again.thumbprint() == files.thumbprint()
    assert from_us(files.expires_us()) > wall_now() + timedelta(days=365)
    again.close()


def test_nobody_made_is_nobody_let_in_and_that_is_said(files: Files) -> None:
    assert any("there is no user yet; make one with gridlatch users add" in one for one in files.warnings())
    files.users.add("ola", "correct-horse-battery", ["OPERATOR"])
    assert files.warnings() == []


def test_users_that_cannot_be_read_are_said(settings: Operators, files: Files) -> None:
    settings.users_file.write_text("not = [toml")
    settings.users_file.chmod(0o600)
    assert any(one.startswith("users of OPC UA: ") for one in files.warnings())


def test_a_certificate_that_was_renewed_is_seen_and_not_read_again_and_again(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    own = files.pki.own
    monkeypatch.setattr(files.pki, "own", lambda: reads.append(1) or own())
    before = files.thumbprint()
    assert files.expires_us()
    assert reads == []
    files.pki.renew(wall_now() + timedelta(days=1))
    assert files.thumbprint() != before
    assert files.thumbprint()
    assert len(reads) == 1


def test_a_certificate_that_is_broken_later_is_a_warning(files: Files) -> None:
    before = files.thumbprint()
    path = files.own().path
    path.write_bytes(b"scrap")
    assert any("certificate can't be read any more" in one for one in files.warnings())
    assert files.thumbprint() == before
    path.unlink()
    assert any("certificate can't be read any more" in one for one in files.warnings())


def test_a_certificate_that_does_not_fit_is_said_at_the_start(settings: Operators, files: Files) -> None:
    with pytest.raises(StartError, match=r"the OPC UA server has no certificate: .* was made for 'urn:test:gridlatch'"):
        prepare(replace(settings, application_uri="urn:test:other"))


def test_a_folder_that_cannot_be_made_is_said_at_the_start(settings: Operators, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="the OPC UA server has no certificate: "):
        prepare(replace(settings, pki_dir=tmp_path / "file" / "pki"))


def test_a_port_that_is_taken_is_said_at_the_start(settings: Operators) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(StartError, match=rf"can't listen at 127.0.0.1:{taken} \(\[operators\] host, port\): "):
            prepare(replace(settings, port=taken))


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "localhost"])
def test_a_port_that_was_free_is_free_afterwards(settings: Operators, host: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    prepare(replace(settings, host=host, port=port)).close()
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_host_that_is_not_ours_is_said_at_the_start(settings: Operators) -> None:
    with pytest.raises(StartError, match=r"can't listen at 192\.0\.2\.1:0"):
        prepare(replace(settings, host="192.0.2.1"))


def test_a_site_without_operators_loads_nothing_of_opc_ua() -> None:
    code = "import sys, gateway.daemon; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "gateway.daemon" in loaded
    assert not {"asyncua", "cryptography", "gateway.operators"} & set(loaded)
