"""The activity behind ``context.call_http``: one HTTP request to a host that the site's configuration allows.

Off unless ``gateway.http_hosts`` names hosts: whoever may start an orchestration should not thereby reach any machine
that the gateway reaches. What must stay true: no connection is opened to a host and port that are not in the list, by a
redirect neither, which is told no headers that were meant for another; an answer is bounded in time and size. Like every
activity it runs at least once: a crash between the request and the journal sends it again, so a request that changes
something should carry a key of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from urllib.parse import SplitResult, urljoin, urlsplit

import msgspec

from gateway import __version__
from gateway.durable.context import HTTP_ACTIVITY
from gateway.durable.registry import Registry

TIMEOUT_S = 30.0
"""For one request with all its redirects, real seconds."""
MAX_ANSWER_BYTES = 1024 * 1024
MAX_REDIRECTS = 5
_CHUNK_BYTES = 64 * 1024
_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)


class HttpCallError(Exception):
    """A request was not sent, or its answer is not to be used; the text says why. An error status is no such error."""


class HttpOrder(msgspec.Struct, frozen=True):
    """Input of the activity, as ``call_http`` makes it."""

    method: str
    uri: str
    content: str | None = None
    headers: dict[str, str] = {}


def register_http(registry: Registry, hosts: Iterable[str]) -> None:
    """Register the activity. hosts: ``host:port`` that may be called; none: each call fails and says so."""
    registry.activity(http_activity(hosts), HTTP_ACTIVITY)


def http_activity(hosts: Iterable[str], timeout_s: float = TIMEOUT_S) -> Callable[[object], dict[str, object]]:
    """The activity for these hosts; it blocks, and so runs in a thread."""
    allowed = frozenset(host.lower() for host in hosts)

    def call_http(input_: object) -> dict[str, object]:
        order = msgspec.convert(input_, HttpOrder)
        deadline = time.monotonic() + timeout_s
        uri = order.uri
        for _ in range(1 + MAX_REDIRECTS):
            parts = _permitted(uri, allowed)
            try:
                answer = _request(order, parts, deadline)
            except TimeoutError:
                raise HttpCallError(f"{parts.hostname} gave no whole answer within {timeout_s:g} s") from None
            target = answer.headers.get("Location")
            follows = order.method.upper() in ("GET", "HEAD") and answer.status in _REDIRECTS and target
            if not follows:
                return _told(answer)
            uri = urljoin(uri, str(target))
            if _origin(urlsplit(uri)) != _origin(parts):
                # What authorises a call is meant for whom it was given for; an Accept is no secret.
                kept = {name: value for name, value in order.headers.items() if name.lower().startswith("accept")}
                order = msgspec.structs.replace(order, headers=kept, content=None)
        raise HttpCallError(f"{order.uri} redirects more than {MAX_REDIRECTS} times")

    return call_http


class _Answer(msgspec.Struct):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def _origin(parts: SplitResult) -> tuple[str, str]:
    return parts.scheme, parts.netloc.lower()


def _permitted(uri: str, allowed: frozenset[str]) -> SplitResult:
    """The parts of a URI that may be called."""
    if not allowed:
        raise HttpCallError(
            'HTTP calls are off: name who may be called in site.toml, as in [gateway] http_hosts = ["host:443"]'
        )
    try:
        parts = urlsplit(uri)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise HttpCallError(f"{uri[:200]!r} is no URI: {error}") from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise HttpCallError(f"{uri[:200]!r} is not http://host… or https://host… without a user name")
    if f"{parts.hostname}:{port}" not in allowed:
        known = ", ".join(sorted(allowed))
        raise HttpCallError(f"{parts.hostname}:{port} is not in gateway.http_hosts of site.toml; it has {known}")
    return parts


def _request(order: HttpOrder, parts: SplitResult, deadline: float) -> _Answer:
    assert parts.hostname is not None
    connection: http.client.HTTPConnection
    left_s = _left_s(deadline)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=left_s, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=left_s)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    body = None if order.content is None else order.content.encode()
    cut = threading.Timer(0.0, _cut_off, (connection,))
    try:
        connection.connect()
        # Each byte that comes gives a socket new patience; the lines before the body are read in there, many at once.
        cut.interval = _left_s(deadline)
        cut.start()
        headers = {"User-Agent": f"gridlatch/{__version__}", **order.headers}
        connection.request(order.method.upper(), path, body, headers)
        response = connection.getresponse()
        return _Answer(response.status, response.headers, _read(response, connection, deadline))
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        _left_s(deadline)  # else it was cut off
        raise HttpCallError(f"{parts.hostname}: {type(error).__name__}: {error}") from error
    finally:
        cut.cancel()
        connection.close()


def _cut_off(connection: http.client.HTTPConnection) -> None:
    """Whoever reads from it in another thread finds its end."""
    open_one = connection.sock
    if open_one is not None:
        with contextlib.suppress(OSError):  # it is closed already
            socket.socket.shutdown(open_one, socket.SHUT_RDWR)


def _read(response: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float) -> bytes:
    gathered = bytearray()
    while True:
        if connection.sock is not None:  # the response owns it once the peer has said that it will close
            connection.sock.settimeout(_left_s(deadline))
        _left_s(deadline)
        chunk = response.read1(_CHUNK_BYTES)
        if not chunk:
            return bytes(gathered)
        gathered += chunk
        if len(gathered) > MAX_ANSWER_BYTES:
            raise HttpCallError(f"the answer has more than {MAX_ANSWER_BYTES} bytes")


def _left_s(deadline: float) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _told(answer: _Answer) -> dict[str, object]:
    """What the orchestrator gets; the status under both names that are in use."""
    charset = answer.headers.get_content_charset() or "utf-8"
    try:
        content = answer.body.decode(charset, errors="replace")
    except LookupError:
        content = answer.body.decode("utf-8", errors="replace")
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return {"status_code": answer.status, "statusCode": answer.status, "headers": headers, "content": content}
