"""The command line against a daemon of cardboard: what is asked, what a person reads, which exit code comes."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.cli.commands import BUILDERS
from gateway.cli.site_paths import DEFAULT_SOCKET
from gateway.control import Code, ControlError, ControlServer, JsonValue
from gateway.operations import OPERATIONS

REPOSITORY = Path(__file__).parents[3]
EXAMPLE = REPOSITORY / "config" / "examples" / "substation"

STATUS: dict[str, JsonValue] = {
    "site": "Yarra South",
    "version": "0.1.0",
    "mode": "armed",
    "held": {"held": False, "why": ""},
    "journal": {
        "seq": 10233,
        "batch": 812,
        "hash": "3fa9c1d2" * 8,
        "records": 10233,
        "path": "/var/lib/gridlatch/j.db",
    },
    "transformer": {
        "name": "T1",
        "load_kw": 47376.0,
        "capacity_kw": 48000.0,
        "percent": 98.7,
        "quality": "good",
        "zone": "armed",
    },
    "procedure": {
        "instance": "shed-2014-01-16",
        "name": "LoadShed",
        "status": "Running",
        "phase": "cooldown",
        "waits_for": "cooldown",
        "until": "2014-01-16T14:32:10.000Z",
        "tier": "ev",
        "shed_kw": 3420.0,
        "sentence": "Tier ev is open; waits for its cooldown until 2014-01-16T14:32:10.123Z.",
    },
    "breakers": {
        "total": 12000,
        "open": 400,
        "closed": 11598,
        "intermediate": 0,
        "bad": 0,
        "unknown": 0,
        "failed": 1,
        "unresolved": 0,
        "blocked": 2,
        "local": 0,
    },
    "shed_kw": 3420.0,
    "links": {
        "total": 120,
        "up": 119,
        "silent": 1,
        "down": 0,
        "connecting": 0,
        "troubled": [{"device": "rtu-017", "state": "silent", "detail": "no answer for 12 s"}],
    },
    "next_timer": {"instance": "shed-2014-01-16", "due": "2014-01-16T14:32:10.000Z", "remaining_s": 372.0},
    "engine": {"instances": 12003, "turns": 99, "queued": 0, "replays": 1, "pending_activities": 0},
    "clock": {"now": "2014-01-16T14:25:58.000Z", "rate": 60.0, "wall_step_s": 0.0, "synchronized": True},
    "overrides": [
        {
            "decision": "hold",
            "actor": "jane",
            "reason": "crew",
            "step": "cooldown",
            "at": "2014-01-16T14:20:00.000Z",
            "outcome": "timers stand",
        }
    ],
    "started": "2014-01-16T02:00:00.000Z",
    "pid": 4711,
    "config_sha256": "ab" * 32,
    "warnings": ["feeder 7B is in an under-frequency stage too"],
}
BREAKER: dict[str, JsonValue] = {
    "feeder": "7B",
    "tier": "ev",
    "position": "open",
    "commanded": "open",
    "quality": "good",
    "age_s": 0.4,
    "local": False,
    "blocked": True,
    "outcome": "done",
    "power_kw": 0.0,
    "op_count": 18,
    "device": "rtu-001",
}


PARTS_OF_COMMANDS = {"instances.timeline", "instances.export", "audit.exported"}
"""Operations that are no command of their own: an option of one, asked more than once by one, or told by one."""


class CardboardDaemon:
    """A control socket whose answers are given beforehand; it remembers what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, JsonValue | ControlError] = {}
        self.asked: list[tuple[str, dict[str, JsonValue]]] = []
        self._loop = asyncio.new_event_loop()
        ops = {"status", "timers", "override", "mode", "release", "report", "audit.list", "audit.verify"}
        ops |= {f"instances.{verb}" for verb in ("list", "show", "start", "raise", "terminate", "suspend", "resume")}
        ops |= {"instances.rewind", "instances.restart", "instances.purge", "why", *PARTS_OF_COMMANDS}
        ops |= {f"entities.{verb}" for verb in ("list", "show", "clean")}
        ops |= {f"breakers.{verb}" for verb in ("list", "show", "open", "close", "block", "unblock")}
        ops |= {f"journal.{verb}" for verb in ("stats", "check", "backup", "archive")}
        self.ops = ops
        self._server = ControlServer(path, 0o600, {op: self._handler(op) for op in ops})
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(5)

    def _handler(self, op: str):  # type: ignore[no-untyped-def]
        async def handle(args: dict[str, JsonValue]) -> JsonValue:
            self.asked.append((op, {key: value for key, value in args.items() if key != "_peer"}))
            answer = self.answers[op]
            if isinstance(answer, ControlError):
                raise answer
            return answer

        return handle

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(0), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CardboardDaemon]:
    (tmp_path / "site.toml").write_text('[gateway]\nsocket = "c.sock"\n')
    monkeypatch.setenv("GRIDLATCH_SITE", str(tmp_path))
    daemon = CardboardDaemon(tmp_path / "c.sock")
    yield daemon
    daemon.close()


class TestWhatIsAsked:
    @pytest.mark.parametrize(
        ("line", "op", "args"),
        [
            ("status", "status", {}),
            ("timers --limit 5", "timers", {"limit": 5}),
            ("instances list --status Running --limit 2", "instances.list", {"status": "Running", "limit": 2}),
            ("instances show shed-1 --history", "instances.show", {"instance": "shed-1", "history": True}),
            (
                'instances start LoadShed --input {"tiers":["ev"]} --id s-1 --version 1.9 --actor jane',
                "instances.start",
                {"name": "LoadShed", "input": {"tiers": ["ev"]}, "instance": "s-1", "version": "1.9", "actor": "jane"},
            ),
            (
                "instances raise s-1 OperatorOverride --data null --actor jane",
                "instances.raise",
                {"instance": "s-1", "event": "OperatorOverride", "data": None, "actor": "jane"},
            ),
            (
                "instances terminate s-1 --reason drill --actor jane",
                "instances.terminate",
                {"instance": "s-1", "reason": "drill", "actor": "jane"},
            ),
            (
                "breakers list --position open --tier ev --outcome failed --prefix 7 --after 7A",
                "breakers.list",
                {"position": "open", "tier": "ev", "outcome": "failed", "prefix": "7", "after": "7A"},
            ),
            ("breakers show 7B", "breakers.show", {"feeder": "7B"}),
            ("why 7B", "why", {"feeder": "7B"}),
            (
                "instances list --since 2026-01-14 --until 2026-01-15T08:00Z --after s-1",
                "instances.list",
                {"since": "2026-01-14", "until": "2026-01-15T08:00Z", "after": "s-1"},
            ),
            ("instances show s-1 --timeline", "instances.timeline", {"instance": "s-1", "exact": True}),
            (
                "instances suspend s-1 --reason crew --actor jane",
                "instances.suspend",
                {"instance": "s-1", "reason": "crew", "actor": "jane"},
            ),
            (
                "instances resume s-1 --reason gone --actor jane",
                "instances.resume",
                {"instance": "s-1", "reason": "gone", "actor": "jane"},
            ),
            (
                "instances rewind s-1 --reason mended --actor jane",
                "instances.rewind",
                {"instance": "s-1", "reason": "mended", "actor": "jane"},
            ),
            (
                "instances restart s-1 --same-id --reason again --actor jane",
                "instances.restart",
                {"instance": "s-1", "reason": "again", "same_id": True, "actor": "jane"},
            ),
            (
                "instances purge s-1 --reason old --actor jane",
                "instances.purge",
                {"instance": "s-1", "reason": "old", "actor": "jane"},
            ),
            (
                "instances purge --since 2026-01-14 --status Completed --reason old --actor jane",
                "instances.purge",
                {"since": "2026-01-14", "status": "Completed", "reason": "old", "actor": "jane"},
            ),
            ("entities list --name breaker --limit 3", "entities.list", {"name": "breaker", "limit": 3}),
            ("entities show @breaker@7B", "entities.show", {"entity": "@breaker@7B"}),
            ("entities clean --reason tidy --actor jane", "entities.clean", {"reason": "tidy", "actor": "jane"}),
            (
                "breakers open 7B --reason smoke --wait 3 --actor jane",
                "breakers.open",
                {"feeder": "7B", "reason": "smoke", "wait_s": 3.0, "actor": "jane"},
            ),
            (
                "breakers close 7B --reason smoke --force --actor jane",
                "breakers.close",
                {"feeder": "7B", "reason": "smoke", "wait_s": 15.0, "force": True, "actor": "jane"},
            ),
            (
                "override skip --reason ice --expires 60 --actor jane",
                "override",
                {"decision": "skip", "reason": "ice", "expires_s": 60.0, "actor": "jane"},
            ),
            (
                "override force-open --feeder 7B --reason smoke --instance s-1 --actor jane",
                "override",
                {"decision": "force-open", "feeder": "7B", "reason": "smoke", "instance": "s-1", "actor": "jane"},
            ),
            ("mode monitor --reason test --actor jane", "mode", {"mode": "monitor", "reason": "test", "actor": "jane"}),
            ("release --reason checked --actor jane", "release", {"reason": "checked", "actor": "jane"}),
            (
                "audit list --since 2026-01-14 --user jane --op opcua --refused --before 9 --limit 3",
                "audit.list",
                {"since": "2026-01-14", "user": "jane", "op": "opcua", "refused": True, "before": 9, "limit": 3},
            ),
            ("audit verify", "audit.verify", {}),
            ("journal stats", "journal.stats", {}),
            ("journal check --actor jane", "journal.check", {"actor": "jane"}),
            ("journal backup /none/b.db --actor jane", "journal.backup", {"target": "/none/b.db", "actor": "jane"}),
            ("journal archive --actor jane", "journal.archive", {"actor": "jane"}),
            (
                "journal archive --before 2026-01-14 --actor jane",
                "journal.archive",
                {"before": "2026-01-14", "actor": "jane"},
            ),
        ],
    )
    def test_each_command_becomes_one_request(
        self, daemon: CardboardDaemon, line: str, op: str, args: dict[str, JsonValue]
    ) -> None:
        daemon.answers[op] = {}
        main([*line.split(), "--json"])
        assert daemon.asked == [(op, args)]

    def test_no_command_is_forgotten_by_the_daemon(self, daemon: CardboardDaemon) -> None:
        assert {command.replace(" ", ".") for command in BUILDERS} == daemon.ops - PARTS_OF_COMMANDS
        assert daemon.ops == set(OPERATIONS)

    def test_a_damaged_journal_is_a_failed_command(
        self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers["journal.check"] = {"ok": False, "complaints": ["row 7"], "batches": 1, "records": 2}
        assert main(["journal", "check"]) == 1
        assert "THE JOURNAL IS DAMAGED" in capsys.readouterr().out
        daemon.answers["journal.check"] = {"ok": True, "seconds": 0.1, "batches": 1, "records": 2}
        assert main(["journal", "check"]) == 0

    def test_who_decides_is_the_login_user_unless_said(self, daemon: CardboardDaemon) -> None:
        daemon.answers["release"] = {"detail": "Outputs are free."}
        assert main(["release", "--reason", "checked"]) == 0
        assert daemon.asked[0][1]["actor"]

    def test_an_input_may_come_from_a_file(self, daemon: CardboardDaemon, tmp_path: Path) -> None:
        (tmp_path / "input.json").write_text('{"mw": 12}')
        daemon.answers["instances.start"] = {"instance": "s-1"}
        assert main(["instances", "start", "LoadShed", "--input", f"@{tmp_path}/input.json"]) == 0
        assert daemon.asked[0][1]["input"] == {"mw": 12}


class TestWhatAPersonReads:
    def test_the_status_tells_first_what_needs_somebody(
        self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers["status"] = {**STATUS, "held": {"held": True, "why": "2 breakers do not match"}}
        assert main(["status"]) == 0
        text = capsys.readouterr().out
        assert text.index("OUTPUTS HELD: 2 breakers do not match") < text.index("98.7 %")
        assert "gridlatch release" in text
        for part in (
            "Yarra South · ARMED · 2014-01-16 14:25:58Z",
            "1 breaker failed to operate",
            "47 376 of 48 000 kW",
            "Tier ev is open; waits for its cooldown until 14:32:10Z.",
            "14:20:00Z hold by jane, reason crew: timers stand (in step cooldown)",
            "12 000: 11 598 closed, 400 open, 1 failed, 2 blocked",
            "rtu-017 silent: no answer for 12 s",
            "in 6 min 12 s (14:32:10Z)",
            "×60",
            "feeder 7B is in an under-frequency stage too",
        ):
            assert part in text

    @pytest.mark.parametrize(
        ("clock", "warning"),
        [
            ({"rate": 1.0, "synchronized": False}, "is not synchronised"),
            ({"rate": 1.0, "synchronized": None}, "can't be told"),
            ({"rate": 1.0, "synchronized": True, "wall_step_s": -3600.0}, "stepped by -3600.0 s"),
            ({"rate": 60.0, "synchronized": False}, None),
            ({"rate": 1.0, "synchronized": True, "wall_step_s": 0.0}, None),
        ],
    )
    def test_a_clock_in_doubt_is_told(
        self,
        daemon: CardboardDaemon,
        capsys: pytest.CaptureFixture[str],
        clock: dict[str, JsonValue],
        warning: str | None,
    ) -> None:
        daemon.answers["status"] = {**STATUS, "clock": {"now": "2014-01-16T14:25:58.000Z", **clock}}
        assert main(["status"]) == 0
        told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("!") and "clock" in line]
        assert len(told) == (warning is not None)
        assert warning is None or warning in told[0]

    @pytest.mark.parametrize("answer", [{}, [], None, {"transformer": 7, "links": {"troubled": "x"}, "warnings": 3}])
    def test_a_daemon_of_another_version_is_no_traceback(
        self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str], answer: JsonValue
    ) -> None:
        for op in daemon.ops:
            daemon.answers[op] = answer
        for command in ("status", "timers", "instances list", "instances show x", "breakers list", "breakers show x"):
            main(command.split())
        for command in ("instances show x --timeline", "why x", "entities list", "entities show x"):
            main(command.split())
        main(["override", "hold", "--reason", "x"])
        assert "?" in capsys.readouterr().out

    def test_breakers_come_as_an_aligned_table_with_the_way_to_more(
        self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        stale = {**BREAKER, "feeder": "Hospital-12", "position": "closed", "quality": "uncertain", "blocked": False}
        daemon.answers["breakers.list"] = {"breakers": [BREAKER, stale], "next": "Hospital-12"}
        assert main(["breakers", "list"]) == 0
        head, first, second, _, more = capsys.readouterr().out.splitlines()
        assert head.index("POSITION") == first.index("open") == second.index("closed")
        assert "blocked" in first
        assert "closed (uncertain)" in second
        assert more == "There is more: --after 'Hospital-12'"

    def test_entities_come_as_a_table_and_one_with_its_operations(
        self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        one = {"entity": "@a@1", "modified": "2014-01-16T14:00:00Z", "exists": True, "locked_by": "x", "waiting": 2}
        one |= {"state": {"n": 1}}
        daemon.answers["entities.list"] = {"entities": [one], "next": "@a@1"}
        assert main(["entities", "list"]) == 0
        text = capsys.readouterr().out
        assert '@a@1    2014-01-16 14:00:00Z  x             2  {"n": 1}' in text
        assert "--after '@a@1'" in text
        done = {"seq": 9, "at": "2014-01-16T14:00:00Z", "operation": "add", "caller": "x", "failure": None}
        daemon.answers["entities.show"] = {**one, "operations": [done]}
        assert main(["entities", "show", "@a@1"]) == 0
        assert "  9  2014-01-16 14:00:00Z  add        x       -" in capsys.readouterr().out

    def test_purge_needs_one_or_a_span(self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["instances", "purge", "--reason", "old"]) == 2
        assert main(["instances", "purge", "s-1", "--since", "2026-01-14", "--reason", "old"]) == 2
        assert "--since" in capsys.readouterr().err
        assert daemon.asked == []

    def test_an_export_asks_for_each_one_and_writes_lines(
        self, daemon: CardboardDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        turn = {"seq": 1, "time_us": 5, "turn": {"events": []}}
        daemon.answers["instances.list"] = {"instances": [{"instance": "a"}, {"instance": "b"}], "next": None}
        daemon.answers["instances.export"] = {"instance": "a", "name": "Drill", "status": "Running", "turns": [turn]}
        out = tmp_path / "out.jsonl"
        assert main(["instances", "export", "--all", "--out", str(out)]) == 0
        assert [args for op, args in daemon.asked if op == "instances.export"] == [{"instance": "a"}, {"instance": "b"}]
        assert json.loads(out.read_text().splitlines()[1])["turns"] == [turn]
        daemon.answers["instances.export"] = {"name": 3}
        assert main(["instances", "export", "a"]) == 1
        assert "not understood" in capsys.readouterr().err
        daemon.answers["instances.export"] = ControlError(Code.TOO_LARGE, "the result has 17 MiB")
        assert main(["instances", "export", "a"]) == 1
        assert "a was left out: the result has 17 MiB; read it with --journal FILE" in capsys.readouterr().err
        daemon.answers["instances.export"] = ControlError(Code.NOT_FOUND, "there is no orchestration 'a'")
        assert main(["instances", "export", "a"]) == 3

    def test_a_history_is_a_table_of_events(self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.answers["instances.show"] = {
            "instance": "s-1",
            "name": "LoadShed",
            "status": "Running",
            "created": "2014-01-16T14:00:00.000Z",
            "updated": "2014-01-16T14:00:01.000Z",
            "input": {"mw": 12},
            "output": None,
            "custom_status": {"sentence": "Waits."},
            "history": [
                {
                    "seq": 7,
                    "time_us": 1389880800000000,
                    "events": [
                        {"type": "TimerFired", "id": 3},
                        {"type": "TaskScheduled", "id": 4, "name": "Measure"},
                        {"type": "TimerCreated", "id": 5, "due_us": 1389880860000000},
                    ],
                }
            ],
        }
        assert main(["instances", "show", "s-1", "--history"]) == 0
        text = capsys.readouterr().out
        assert "  7  2014-01-16 14:00:00Z  TimerFired     id 3" in text
        assert "TaskScheduled  id 4, name Measure" in text
        assert "TimerCreated   id 5, due 2014-01-16 14:01:00Z" in text

    def test_a_failure_is_a_sentence_and_a_traceback_that_can_be_read(
        self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        failure: dict[str, JsonValue] = {
            "kind": "ValueError",
            "message": "no tier x",
            "traceback": "Traceback:\n  line 3\n",
        }
        failure["cause"] = {"kind": "OSError", "message": "no file", "traceback": "Traceback:\n  line 9\n"}
        daemon.answers["instances.show"] = {"instance": "s-1", "status": "Failed", "failure": failure}
        assert main(["instances", "show", "s-1"]) == 0
        text = capsys.readouterr().out
        assert "failure        ValueError: no tier x\n               Traceback:\n                 line 3\n" in text
        assert "caused by      OSError: no file\n               Traceback:\n                 line 9\n" in text

    def test_moments_of_a_breaker_are_times_and_counts_stay_counts(
        self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        state: dict[str, JsonValue] = {"observed_us": 1389880800000000, "intents": 2, "operations": [1389880860000000]}
        daemon.answers["breakers.show"] = {"feeder": "7B", "state": state}
        assert main(["breakers", "show", "7B"]) == 0
        text = capsys.readouterr().out
        assert '"observed": "2014-01-16 14:00:00Z"' in text
        assert '"intents": 2' in text
        assert '"2014-01-16 14:01:00Z"' in text

    def test_a_name_can_not_redraw_the_terminal(
        self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers["breakers.list"] = {"breakers": [{**BREAKER, "device": "\x1b[2Jrtu"}], "next": None}
        assert main(["breakers", "list"]) == 0
        assert "\x1b" not in capsys.readouterr().out

    def test_json_is_the_exact_result(self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.answers["status"] = STATUS
        assert main(["status", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == STATUS

    def test_the_report_goes_to_a_file(
        self, daemon: CardboardDaemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        daemon.answers["report"] = {"html": "<h1>Ereignis</h1>"}
        assert main(["report", "--out", str(tmp_path / "r.html")]) == 0
        assert (tmp_path / "r.html").read_text() == "<h1>Ereignis</h1>"
        assert main(["report", "--out", str(tmp_path / "no" / "r.html")]) == 1
        assert "can't be written" in capsys.readouterr().err


class TestExitCodes:
    @pytest.mark.parametrize(
        ("code", "exit_code"),
        [
            (Code.BAD_REQUEST, 2),
            (Code.NOT_FOUND, 3),
            (Code.GONE, 4),
            (Code.EXISTS, 4),
            (Code.REFUSED, 4),
            (Code.UNKNOWN_OUTCOME, 6),
            (Code.TOO_LARGE, 1),
            (Code.UNAVAILABLE, 1),
            (Code.INTERNAL, 1),
        ],
    )
    def test_each_error_has_its_own(
        self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str], code: Code, exit_code: int
    ) -> None:
        daemon.answers["instances.show"] = ControlError(code, "no instance 'x'; is it spelled so?")
        assert main(["instances", "show", "x"]) == exit_code
        assert capsys.readouterr() == ("", "gridlatch: no instance 'x'; is it spelled so?\n")

    @pytest.mark.parametrize(
        ("outcome", "exit_code"),
        [("done", 0), ("refused", 4), ("not_sent", 4), ("expired", 4), ("failed", 1), ("unknown", 6), ("pending", 6)],
    )
    def test_a_field_command_ends_as_the_breaker_did(
        self, daemon: CardboardDaemon, outcome: str, exit_code: int
    ) -> None:
        daemon.answers["breakers.open"] = {"feeder": "7B", "outcome": outcome, "position": "open", "detail": "x"}
        assert main(["breakers", "open", "7B", "--reason", "smoke"]) == exit_code

    def test_a_broken_chain_is_a_failure(self, daemon: CardboardDaemon, capsys: pytest.CaptureFixture[str]) -> None:
        daemon.answers["audit.verify"] = {"ok": False, "batches": 7, "records": 9, "head": None, "problem": "batch 8"}
        assert main(["audit", "verify"]) == 1
        assert "BROKEN: batch 8" in capsys.readouterr().out

    def test_an_override_that_is_not_taken_is_refused(self, daemon: CardboardDaemon) -> None:
        daemon.answers["override"] = {"accepted": False, "instance": None, "override_id": None, "detail": "none runs"}
        assert main(["override", "hold", "--reason", "x"]) == 4

    def test_nobody_there(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["status", "--socket", str(tmp_path / "none.sock")]) == 5
        assert "no daemon runs here" in capsys.readouterr().err

    def test_a_lost_answer_to_an_action_is_an_unknown_outcome_and_to_a_question_is_not(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "mute.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def hang_up_twice() -> None:
                for _ in range(2):
                    connection, _ = listener.accept()
                    connection.recv(65536)
                    connection.close()

            thread = threading.Thread(target=hang_up_twice)
            thread.start()
            assert main(["mode", "armed", "--reason", "x", "--socket", str(path)]) == 6
            assert "OUTCOME UNKNOWN" in capsys.readouterr().err
            assert main(["status", "--socket", str(path)]) == 5
            thread.join()

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "explode",
            "override explode --reason x",
            "override hold",
            "breakers open 7B",
            "breakers open 7B --reason x --wait 9999",
            "breakers list --limit 0",
            "mode --reason x",
        ],
    )
    def test_wrong_usage_is_2(self, line: str) -> None:
        with pytest.raises(SystemExit) as caught:
            main(line.split())
        assert caught.value.code == 2

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["instances", "raise", "s-1", "E", "--data", "Tier1"], "is no JSON"),
            (["instances", "start", "P", "--input", "@/nonexistent"], "can't be read"),
            (["override", "force-open", "--reason", "x"], "--feeder"),
            (["status", "--site", "/nonexistent"], "no site"),
        ],
    )
    def test_what_can_not_be_meant_is_told_before_anything_is_sent(
        self, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        assert says in capsys.readouterr().err


class TestCheck:
    def test_the_example_site_is_in_order(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["check", str(EXAMPLE)]) == 0
        assert "the configuration is in order" in capsys.readouterr().out
        assert main(["check", str(EXAMPLE), "--json"]) == 0
        summary = json.loads(capsys.readouterr().out)
        assert summary["ok"] is True
        assert sum(tier["feeders"] for tier in summary["tiers"]) <= summary["feeders"]

    def test_every_problem_is_told_at_once_and_nothing_starts(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "site.toml").write_text("[site]\nnam = 1\n")
        for command in ("check", "run"):
            assert main([command, str(tmp_path)]) == 2
            errors = capsys.readouterr().err
            assert "site.toml:" in errors
            assert "nothing was started" in errors
        assert main(["check", str(tmp_path), "--json"]) == 2
        assert len(json.loads(capsys.readouterr().out)["problems"]) > 1

    def test_a_program_that_can_not_be_imported_is_a_problem_with_its_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(EXAMPLE, tmp_path / "site")
        file = tmp_path / "site" / "site.toml"
        file.write_text(file.read_text().replace("programs = []", 'programs = ["mine.py"]'))
        (tmp_path / "site" / "mine.py").write_text("import nowhere_to_be_found\n")
        assert main(["check", str(tmp_path / "site")]) == 2
        line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if text.startswith("programs"))
        errors = capsys.readouterr().err
        assert f"site.toml:{line}: the program " in errors
        assert "mine.py can't be imported: ModuleNotFoundError" in errors
        run = [sys.executable, "-m", "gateway.cli", "run", str(tmp_path / "site")]
        ended = subprocess.run(run, capture_output=True, cwd=REPOSITORY, timeout=30, check=False)
        assert ended.returncode == 2  # systemd doesn't start it again: that would not mend it
        (tmp_path / "site" / "mine.py").write_text("def Drill(context):\n    yield context.new_guid()\n")
        assert main(["check", str(tmp_path / "site")]) == 0

    def test_a_missing_site_is_a_problem_not_a_traceback(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["check", str(tmp_path / "nowhere")]) == 2
        assert "nowhere" in capsys.readouterr().err

    def test_the_quick_way_to_the_socket_finds_what_the_loader_finds(self, tmp_path: Path) -> None:
        from config.loader import GATEWAY_DEFAULTS

        assert GATEWAY_DEFAULTS["socket"] == DEFAULT_SOCKET


class TestAsAProcess:
    """What needs a real process: pipes, signals."""

    def test_a_reader_that_goes_away_is_no_traceback(self, daemon: CardboardDaemon) -> None:
        daemon.answers["breakers.list"] = {"breakers": [BREAKER] * 5000, "next": None}
        command = f"{sys.executable} -m gateway.cli breakers list --socket {daemon.path} | head -1"
        result = subprocess.run(["sh", "-c", command], capture_output=True, cwd=REPOSITORY, timeout=30, check=False)
        assert result.stdout.startswith(b"FEEDER")
        assert result.stderr == b""

    def test_ctrl_c_ends_the_command_and_says_that_the_daemon_goes_on(self, tmp_path: Path) -> None:
        path = tmp_path / "slow.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            command = [sys.executable, "-m", "gateway.cli", "status", "--socket", str(path)]
            asking = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY)
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(65536)
                asking.send_signal(signal.SIGINT)
                _, errors = asking.communicate(timeout=30)
        assert asking.returncode == 130
        assert errors == "gridlatch: interrupted; what was asked of the daemon goes on there\n"

    def test_it_starts_without_what_takes_long(self) -> None:
        code = (
            "import sys; from gateway.cli import main\n"
            "code = main(['status', '--socket', '/nonexistent'])\n"
            "slow = {'asyncio', 'msgspec', 'structlog', 'sqlite3', 'pymodbus', 'config'} & set(sys.modules)\n"
            "sys.exit(f'imported {slow}' if slow else code)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=REPOSITORY, check=False)
        assert result.returncode == 5, result.stderr
