"""call_http: only hosts that are allowed are called, by a redirect neither; answers are bounded; errors say what to do."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from gateway.durable import TaskFailedError
from gateway.durable.execution import Execution
from gateway.durable.testing import Workbench
from gateway.http_call import MAX_ANSWER_BYTES, HttpCallError, http_activity, register_http


class Handler(BaseHTTPRequestHandler):
    """Answers by the path; remembers what it was asked."""

    asked: ClassVar[list[tuple[str, str, dict[str, str], bytes]]] = []
    away: ClassVar[str] = ""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.command, self.path, dict(self.headers), body))
        match self.path.partition("?")[0]:
            case "/big":
                self._answer(200, b"x" * (MAX_ANSWER_BYTES + 1))
            case "/slow":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                with contextlib.suppress(OSError):  # who asked has gone
                    for _ in range(40):
                        self.wfile.write(b"x")
                        time.sleep(0.05)
            case "/slow-headers":
                with contextlib.suppress(OSError):  # who asked has gone
                    self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
                    for _ in range(40):
                        self.wfile.write(b"x")
                        time.sleep(0.05)
            case "/there":
                self._answer(302, b"", Location="/here")
            case "/round":
                self._answer(307, b"", Location="/round")
            case "/away":
                self._answer(301, b"", Location="http://127.0.0.1:9/secret")
            case "/elsewhere":
                self._answer(302, b"", Location=self.away)
            case "/fails":
                self._answer(503, b"busy")
            case _:
                self._answer(200, "Grüße".encode("latin-1"), **{"Content-Type": "text/plain; charset=latin-1"})

    do_POST = do_GET

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    """``host:port`` of a server on this machine."""
    Handler.asked.clear()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield f"127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join(5)
    listening.server_close()


Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(server: str) -> Call:
    """Call a path of the server, which is allowed."""
    activity = http_activity([server.upper()])

    def ask(path: str, method: str = "GET", **more: Any) -> dict[str, Any]:
        return activity({"method": method, "uri": f"http://{server}{path}", **more})

    return ask


def test_an_answer_with_its_status_headers_and_text(call: Call) -> None:
    answer = call("/here?a=1", "POST", content='{"on": true}', headers={"X-Key": "7"})
    assert (answer["status_code"], answer["statusCode"], answer["content"]) == (200, 200, "Grüße")
    assert answer["headers"]["Content-Length"] == "5"
    ((method, path, headers, body),) = Handler.asked
    assert (method, path, body, headers["X-Key"]) == ("POST", "/here?a=1", b'{"on": true}', "7")
    assert headers["User-Agent"].startswith("gridlatch/")


def test_an_error_status_is_an_answer(call: Call) -> None:
    assert (call("/fails")["status_code"], call("/fails")["content"]) == (503, "busy")


def test_a_redirect_is_followed_for_a_question_and_told_for_a_command(call: Call) -> None:
    assert call("/there")["content"] == "Grüße"
    assert call("/there", "POST")["status_code"] == 302


def test_another_host_is_not_told_what_authorises_the_call(server: str) -> None:
    other = server.replace("127.0.0.1", "localhost")
    activity = http_activity([server, other])
    headers = {"Authorization": "Bearer 7", "X-Key": "7", "Accept": "text/plain"}
    for target, told in (("/here", {"Authorization", "X-Key"}), (f"http://{other}/here", set())):
        Handler.asked.clear()
        Handler.away = target
        activity({"method": "GET", "uri": f"http://{server}/elsewhere", "headers": headers})
        (_, _, first, _), (_, _, second, _) = Handler.asked
        assert {"Authorization", "X-Key", "Accept"} <= first.keys()
        assert {"Authorization", "X-Key"} & second.keys() == told
        assert "Accept" in second


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/away", r"127.0.0.1:9 is not in gateway.http_hosts"),
        ("/round", "more than 5 times"),
        ("/big", f"more than {MAX_ANSWER_BYTES} bytes"),
    ],
)
def test_what_is_not_to_be_used_is_refused(call: Call, path: str, words: str) -> None:
    with pytest.raises(HttpCallError, match=words):
        call(path)


@pytest.mark.parametrize("path", ["/slow", "/slow-headers"])
def test_an_answer_that_drips_is_cut_off(server: str, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(HttpCallError, match=r"no whole answer within 0.3 s"):
        http_activity([server], timeout_s=0.3)({"method": "GET", "uri": f"http://{server}{path}"})
    assert time.monotonic() - began < 1.5


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1/",
        "http://other:80/",
        "ftp://127.0.0.1:80/",
        "http://jane:secret@127.0.0.1:8080/",
        "http://127.0.0.1:99999/",
        "file:///etc/passwd",
        "http://[::1/",
        "127.0.0.1:8080",
    ],
)
def test_nobody_else_is_called(uri: str) -> None:
    with pytest.raises(HttpCallError):
        http_activity(["127.0.0.1:8080"])({"method": "GET", "uri": uri})


def test_a_line_feed_does_not_smuggle_a_header(call: Call) -> None:
    for order in ({"headers": {"X": "a\r\nY: b"}}, {"method": "GET /x HTTP/1.1\r\nY: b"}):
        with pytest.raises(HttpCallError, match=r"ValueError|InvalidURL"):
            call("/here", **order)
    assert Handler.asked == []


def test_nobody_listening_is_told() -> None:
    with pytest.raises(HttpCallError, match=r"127\.0\.0\.1: ConnectionRefusedError"):
        http_activity(["127.0.0.1:9"])({"method": "GET", "uri": "http://127.0.0.1:9/"})


# As an orchestrator uses it


def Ask(context):
    """Asks the server in its input."""
    order = context.get_input()
    answer = yield context.call_http("POST", order["uri"], order.get("content"), order.get("headers"))
    return [answer["status_code"], answer["content"]]


async def test_an_orchestrator_calls(server: str) -> None:
    async with Workbench(Ask) as bench:
        register_http(bench.registry, [server])
        assert await bench.run("Ask", {"uri": f"http://{server}/here", "content": {"on": 1}}) == [200, "Grüße"]
    ((_, _, headers, body),) = Handler.asked
    assert (body, headers["Content-Type"]) == (b'{"on":1}', "application/json")


async def test_without_hosts_it_is_off_and_names_the_setting() -> None:
    async with Workbench(Ask) as bench:
        register_http(bench.registry, [])
        with pytest.raises((AssertionError, TaskFailedError), match="http_hosts"):
            await bench.run("Ask", {"uri": "http://127.0.0.1:9/"})


def test_a_token_and_a_raw_content_that_is_no_text_are_refused_where_they_are_given() -> None:
    context = Execution("i", Ask).context
    with pytest.raises(ValueError, match="token_source"):
        context.call_http("GET", "http://a/", token_source="t")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is_raw_str"):
        context.call_http("GET", "http://a/", {"a": 1}, is_raw_str=True)
