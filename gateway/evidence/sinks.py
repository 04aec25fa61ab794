"""Where an export goes: a new file, standard output, or a syslog collector over UDP, TCP or TLS.

What must stay true: a file has its name only once it is whole and on disk, and never takes the place of another; over TCP
and TLS messages are framed by counting octets (RFC 6587, RFC 5425), the collector's certificate is checked, name and all;
whatever fails is an error with a sentence, never a message that was left out. UDP (RFC 5426) tells nobody what arrived:
it is paced, and the caller says so. On a crash here: a file named ``.part``, without a seal.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import ssl
import struct
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Protocol
from urllib.parse import urlsplit

from gateway.evidence.errors import SinkError

TIMEOUT_S: Final = 30.0
"""A collector that takes nothing for so long is given up."""
END_S: Final = 5.0
"""How long a collector has to close its side."""
UDP_PAUSE_EVERY: Final = 50
UDP_PAUSE_S: Final = 0.01
"""At most 5,000 messages a second over UDP."""
UDP_AT_MOST: Final = 65_507
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES)
"""How a file system says that a file can't have a second name. EACCES: some network file systems say so."""
_NAME_KEPT: Final = 60
"""Characters of the name that its part has, too."""
PORTS: Final = {"udp": 514, "tcp": 514, "tls": 6514}


class Sink(Protocol):
    """Takes lines, or messages, one after the other."""

    def put(self, content: bytes) -> None:
        """One piece. Errors: SinkError."""


@dataclass(frozen=True, slots=True)
class Target:
    """A collector: ``udp``, ``tcp`` or ``tls``, host, port."""

    way: str
    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> Target:
        """From ``tls://host:port``. Errors: ValueError."""
        parts = urlsplit(text)
        if parts.scheme not in PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError(f"{text!r} is no collector: write udp://HOST:PORT, tcp://HOST:PORT or tls://HOST:PORT")
        return cls(parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.way}://{host}:{self.port}"


class _Stream:
    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name

    def put(self, content: bytes) -> None:
        try:
            self._file.write(content)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SinkError(f"{self._name} can't be written: {error.strerror}") from error


@contextlib.contextmanager
def to_stream(file: IO[bytes]) -> Iterator[Sink]:
    """An open stream, such as standard output."""
    yield _Stream(file, "standard output")
    file.flush()


@contextlib.contextmanager
def to_file(path: Path) -> Iterator[Sink]:
    """A new file, readable by its owner and group. Errors: SinkError (it exists, it can't be written)."""
    if os.path.lexists(path):
        raise SinkError(f"{path} exists already: evidence is not written over; take another name")
    part: Path | None = None
    try:
        # A name of its own: two exports to one name must not write into one another.
        descriptor, name = tempfile.mkstemp(".part", path.name[:_NAME_KEPT] + ".", path.parent)
        part = Path(name)
        with os.fdopen(descriptor, "wb", buffering=1 << 18) as file:
            with contextlib.suppress(PermissionError):  # where files have no permissions of their own
                os.fchmod(file.fileno(), 0o640)
            yield _Stream(file, str(path))
            file.flush()
            os.fsync(file.fileno())
        _name(part, path)
        _sync_folder(path.parent)
    except FileExistsError as error:
        raise SinkError(f"{path} exists meanwhile: evidence is not written over; take another name") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SinkError(f"{path} can't be written: {error.strerror}") from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                part.unlink()


def _name(part: Path, path: Path) -> None:
    """Give the whole file its name, without taking it from another one. Errors: FileExistsError, OSError."""
    try:
        os.link(part, path)  # unlike a rename it never replaces what came there meanwhile
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # FAT and some network file systems know no second names. The name is taken first, by an empty file that is ours
        # (made here, or not at all); a crash between these two steps leaves it empty, without a seal.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
        try:
            part.rename(path)
        except OSError:
            path.unlink()
            raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Datagrams:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sent = 0

    def put(self, content: bytes) -> None:
        self._connection.send(content)
        self._sent += 1
        if self._sent % UDP_PAUSE_EVERY == 0:
            time.sleep(UDP_PAUSE_S)


class _Framed:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def put(self, content: bytes) -> None:
        self._connection.sendall(b"%d %b" % (len(content), content))


@contextlib.contextmanager
def to_collector(target: Target, ca: Path | None = None, own: Path | None = None) -> Iterator[Sink]:
    """A syslog collector; ``put`` takes one message. ca: whom to trust (the system's authorities); own: certificate and
    key of this side, in one PEM file. Errors: SinkError.
    """
    try:
        if target.way == "udp":
            family, kind, protocol, _, address = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind, protocol) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(address)
                yield _Datagrams(connection)
            return
        context = _trust(ca, own) if target.way == "tls" else None
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((target.host, target.port), TIMEOUT_S))
            if context is not None:
                connection = stack.enter_context(context.wrap_socket(connection, server_hostname=target.host))
            yield _Framed(connection)
            _end(connection)
    except ssl.SSLCertVerificationError as error:
        raise SinkError(f"{target}: its certificate is not trusted: {error.verify_message}") from error
    except OSError as error:
        raise SinkError(f"{target}: {error.strerror or error}") from error


def _trust(ca: Path | None, own: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)  # checks the certificate and the name in it
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if own is not None:
        context.load_cert_chain(own)
    return context


def _end(connection: socket.socket) -> None:
    """Say that this is the end, and wait until the collector's machine has taken all. Errors: OSError."""
    connection.settimeout(END_S)
    try:
        if isinstance(connection, ssl.SSLSocket):
            with contextlib.suppress(ssl.SSLError):  # many collectors close without the closing alert
                connection.unwrap()
        else:
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    except TimeoutError:  # it keeps its side open: what counts is whether it has all
        waiting = struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0]
        if waiting:
            raise
