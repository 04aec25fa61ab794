"""Exports sent to collectors on real sockets, read back by a parser written from the grammar of RFC 5424 alone."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from unit.gateway.evidence.records import AT, NASTY, some_batches

from gateway.evidence import syslog
from gateway.evidence.entry import Entry, Wanted
from gateway.evidence.errors import SinkError
from gateway.evidence.exporting import Exported, send
from gateway.evidence.formats import CLOSINGS
from gateway.evidence.reading import open_record
from gateway.evidence.seal import check_export
from gateway.evidence.sinks import Sink, Target, to_collector

HOST = "127.0.0.1"
UDP, TCP, TLS, STRANGE, NOBODY = 15460, 15461, 15462, 15463, 15464
NOW = "2026-01-14T09:00:00.000Z"

# RFC 5424, section 6, rule by rule.
_NAME = r"[!#-<>-\\^-~]{1,32}"  # SD-NAME: printable ASCII except = SP ] "
_PARAM = rf'{_NAME}="(?:[^"\\\]]|\\.)*"'
_ELEMENT = rf"\[{_NAME}(?: {_PARAM})*\]"
_TIMESTAMP = r"-|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)"
MESSAGE = re.compile(
    rf"<(?P<pri>\d{{1,3}})>(?P<version>[1-9]\d{{0,2}}) (?P<time>{_TIMESTAMP}) (?P<host>[!-~]{{1,255}})"
    rf" (?P<app>[!-~]{{1,48}}) (?P<proc>[!-~]{{1,128}}) (?P<msgid>[!-~]{{1,32}})"
    rf" (?P<data>-|(?:{_ELEMENT})+)(?: (?P<msg>.*))?",
    re.DOTALL,
)


@dataclass
class Message:
    facility: int
    severity: int
    time: str
    msgid: str
    params: dict[str, str]
    text: str


def parse(content: bytes) -> Message:
    found = MESSAGE.fullmatch(content.decode())
    assert found is not None, content
    assert found["version"] == "1"
    assert found["app"] == "gridlatch"
    priority = int(found["pri"])
    assert priority <= 191
    params = re.findall(rf'({_NAME})="((?:[^"\\\]]|\\.)*)"', found["data"])
    values = {name: re.sub(r"\\(.)", r"\1", value) for name, value in params}
    text = (found["msg"] or "").removeprefix("\ufeff")
    return Message(priority // 8, priority % 8, found["time"], found["msgid"], values, text)


def unframe(stream: bytes) -> list[bytes]:
    """RFC 6587, 3.4.1: MSG-LEN SP SYSLOG-MSG."""
    found = []
    while stream:
        length, _, rest = stream.partition(b" ")
        assert re.fullmatch(rb"[1-9][0-9]*", length)
        found.append(rest[: int(length)])
        assert len(found[-1]) == int(length)
        stream = rest[int(length) :]
    return found


class Collector:
    """Listens on TCP, with TLS or without, and keeps what comes."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server((HOST, port))
        self._listener.settimeout(20)
        self._context = context
        self.got = b""
        self.error = ""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            with self._listener, self._listener.accept()[0] as plain:
                plain.settimeout(20)
                connection = plain if self._context is None else self._context.wrap_socket(plain, server_side=True)
                with connection:
                    while content := connection.recv(65_536):
                        self.got += content
        except (OSError, ssl.SSLError) as error:
            self.error = str(error)

    def wait(self) -> bytes:
        self._thread.join(25)
        assert not self._thread.is_alive()
        return self.got


def certificate(folder: Path, name: str, *addresses: str) -> Path:
    """Self-signed, with its key, in one PEM file."""
    key = generate_private_key(SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(one)) for one in addresses] or [x509.DNSName(name)])
    begin = datetime.now(UTC) - timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=10))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    file = folder / f"{name}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + made.public_bytes(Encoding.PEM))
    return file


def serving(own: Path, clients: Path | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def sent(journal: Path, sink: Sink, limit: int = 8_192) -> Exported:
    with open_record(journal) as source:
        return send(source, Wanted(), sink, NOW, None, limit)


def check(messages: list[bytes], tmp_path: Path) -> None:
    """All entries are there, whole, and what a collector wrote to a file is verified by its seal."""
    *told, last = [parse(one) for one in messages]
    assert [int(one.params["seq"]) for one in told] == list(range(1, 9))
    assert {one.facility for one in told} == {13}
    given = [record for batch in some_batches() for record in batch]
    assert [one.msgid for one in told] == [kind for _, kind, _ in given]
    assert [one.severity for one in told] == [5, 5, 6, 4, 6, 6, 6, 5]
    assert json.loads(told[3].text)["refused"] == NASTY
    assert told[0].time == "2026-01-14T08:00:00.000000Z"
    assert told[2].params["instance"] == "@breaker@F1"
    assert last.msgid == "seal"
    file = tmp_path / "collected.log"
    file.write_bytes(b"".join(one + b"\n" for one in messages))
    assert check_export(file, CLOSINGS, None).entries == 8


@pytest.mark.timeout(60)
def test_udp_takes_one_message_a_datagram(journal: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind((HOST, UDP))
        collector.settimeout(20)
        with to_collector(Target.of(f"udp://{HOST}:{UDP}")) as sink:
            sent(journal, sink)
        check([collector.recv(65_536) for _ in range(9)], tmp_path)


@pytest.mark.timeout(60)
def test_tcp_counts_octets(journal: Path, tmp_path: Path) -> None:
    collector = Collector(TCP)
    with to_collector(Target.of(f"tcp://{HOST}:{TCP}")) as sink:
        sent(journal, sink)
    check(unframe(collector.wait()), tmp_path)


@pytest.mark.timeout(60)
def test_tls_with_certificates_on_both_sides(journal: Path, tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "collector", HOST), certificate(tmp_path, "client", HOST)
    collector = Collector(TLS, serving(server, clients=client))
    with to_collector(Target.of(f"tls://{HOST}:{TLS}"), server, client) as sink:
        sent(journal, sink)
    check(unframe(collector.wait()), tmp_path)
    assert not collector.error


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", ["not trusted", "another name"])
def test_a_collector_that_is_not_the_one_gets_nothing(journal: Path, tmp_path: Path, case: str) -> None:
    own = certificate(tmp_path, "own", *([HOST] if case == "not trusted" else []))
    trusted = certificate(tmp_path, "trusted", HOST) if case == "not trusted" else own
    collector = Collector(STRANGE, serving(own))
    target = Target.of(f"tls://{HOST}:{STRANGE}")
    with pytest.raises(SinkError, match="certificate is not trusted"), to_collector(target, trusted) as sink:
        sent(journal, sink)
    assert collector.wait() == b""


@pytest.mark.parametrize("way", ["tcp", "tls"])
def test_nobody_listens(way: str) -> None:
    with pytest.raises(SinkError, match="refused"), to_collector(Target.of(f"{way}://{HOST}:{NOBODY}")):
        pass


@pytest.mark.parametrize("text", ["", "http://x", "udp://", "tcp:host", "tls://h:1/path", "udp://h:99999"])
def test_what_is_no_collector(text: str) -> None:
    with pytest.raises(ValueError, match=r"collector|range|Port"):
        Target.of(text)


@pytest.mark.parametrize(
    ("text", "told"), [("udp://h", "udp://h:514"), ("tls://[::1]", "tls://[::1]:6514"), ("tcp://h:1", "tcp://h:1")]
)
def test_ports_that_go_without_saying(text: str, told: str) -> None:
    assert str(Target.of(text)) == told


def test_a_long_entry_goes_in_parts_that_hold_it_whole() -> None:
    payload = json.dumps({"text": "Zoë\U0001f50c" * 2_000}, ensure_ascii=False).encode()
    messages = syslog.messages(Entry.of(7, "i", "turn", AT, payload), 1_024)
    assert len(messages) > 10
    assert max(map(len, messages)) <= 1_024
    told = [parse(one) for one in messages]
    assert [one.params["part"] for one in told] == [f"{n}/{len(told)}" for n in range(1, len(told) + 1)]
    assert json.loads("".join(one.text for one in told)) == json.loads(payload)


@pytest.mark.parametrize("limit", [1_024, 2_048])
def test_even_the_longest_names_leave_room(limit: int) -> None:
    nasty = '"\\]' * 500
    entry = Entry.of(7, nasty, nasty, AT, json.dumps({"op": nasty, "feeder": nasty, "actor": nasty}).encode())
    messages = syslog.messages(entry, limit)
    told = [parse(one) for one in messages]
    assert "".join(one.text for one in told).encode() == entry.payload
    assert max(map(len, messages)) <= limit


def test_the_names_of_everything_are_escaped() -> None:
    told = parse(syslog.messages(Entry.of(7, 'a"b]c\\d\n', "k d", AT, b"{}"), 9_999)[0])
    assert told.params["instance"] == 'a"b]c\\d\\n'
    assert told.msgid == "k_d"
