"""Log lines: one JSON object each, in UTC, without secrets, and never the reason why control stops."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import structlog

from gateway import logs


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    structlog.reset_defaults()
    root.handlers, root.level = handlers, level
    logs.set_level("info")


def json_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_json_line_with_time_level_logger_and_its_keys() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    structlog.get_logger("field").warning("link_down", device="rtu-017", why="line one\nline two")
    (line,) = json_lines(out)
    moment = datetime.fromisoformat(str(line.pop("timestamp")))
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert list(line.items()) == [
        ("level", "warning"),
        ("logger", "field"),
        ("event", "link_down"),
        ("device", "rtu-017"),
        ("why", "line one\nline two"),
    ]


def test_secrets_are_redacted_by_the_name_of_their_key_at_any_depth() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    structlog.get_logger().info(
        "connected",
        Password="canary",
        settings={"api_key": "canary", "hosts": [{"private-key": "canary", "host": "10.0.0.1"}]},
        session_token=["canary"],
        author="Jane",
    )
    assert "canary" not in out.getvalue()
    assert "10.0.0.1" in out.getvalue()
    assert "Jane" in out.getvalue()


def test_a_structure_without_an_end_is_cut() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    loop: dict[str, object] = {}
    loop["inner"] = loop
    structlog.get_logger().info("odd", value=loop)
    assert "too deep" in out.getvalue()


def test_the_level_changes_while_loggers_live() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    log = structlog.get_logger("engine").bind(instance="shed-1")
    log.debug("unheard")
    logs.set_level("debug")
    log.debug("heard")
    logs.set_level("error")
    log.warning("unheard")
    assert [line["event"] for line in json_lines(out)] == ["heard"]


def test_an_exception_keeps_its_traceback_in_the_one_line() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    try:
        raise ZeroDivisionError("odd")
    except ZeroDivisionError:
        structlog.get_logger().exception("turn_failed")
    (line,) = json_lines(out)
    assert line["level"] == "error"
    assert "Traceback" in str(line["exception"])


def test_libraries_with_standard_logging_come_out_the_same_way() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    logging.getLogger("pymodbus").warning("no %s", "answer")
    (line,) = json_lines(out)
    assert (line["event"], line["logger"], line["level"]) == ("no answer", "pymodbus", "warning")


def test_the_machines_journal_gets_a_priority_before_each_line() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out, priority_prefix=True)
    structlog.get_logger().error("stopped")
    structlog.get_logger().info("started")
    assert [line[:4] for line in out.getvalue().splitlines()] == ["<3>{", "<6>{"]


def test_the_console_is_for_reading() -> None:
    out = io.StringIO()
    logs.configure("info", "console", out)
    structlog.get_logger().info("shed", tier="ev", secret="canary")
    assert "tier" in out.getvalue()
    assert "{" not in out.getvalue()
    assert "canary" not in out.getvalue()


def test_a_log_that_can_not_be_written_is_counted_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class FullDisk(io.StringIO):
        def write(self, text: str, /) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs, "_lost_lines", 0)  # and back: a gateway that lost lines says so in its health
    logs.configure("info", "json", FullDisk())
    before = logs.lost_lines()
    structlog.get_logger().info("lost")
    assert logs.lost_lines() == before + 1


def test_a_wrong_level_or_form_says_what_to_write() -> None:
    with pytest.raises(ValueError, match="debug, info, warning"):
        logs.configure("loud", "json")
    with pytest.raises(ValueError, match="json, console"):
        logs.configure("info", "xml")
