"""``gridlatch replay`` and ``gridlatch instances export``: recorded histories, checked against the code and carried away.

What must stay true: nothing but the file that was asked for is written; a journal is only read. The exit code of
``replay`` is for a script that rolls out an upgrade: 0 only if every history that was looked at goes the same way.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from config import ConfigErrors, load_site
from config.models import Site
from gateway.cli.commands import READ_TIMEOUT_S, Request
from gateway.cli.fields import Fields, moment_us, plain, table
from gateway.control_client import Code, ControlError, JsonValue
from gateway.durable import ExportError, Registry
from gateway.durable.exported import Header, RecordedHistory, lines, read
from gateway.durable.instances import TERMINAL
from gateway.durable.rehearsal import Rehearsed, Verdict, rehearse
from gateway.offline import OfflineError, Unreadable, code_of, histories_of, journal_of
from gateway.programs import ProgramError

OK, FAILED, USAGE, NOT_FOUND = 0, 1, 2, 3

Found = RecordedHistory | Unreadable
Ask = Callable[[Request], JsonValue]


def replay(options: argparse.Namespace, default_site: str) -> int:
    """Check histories against the code as it is now; gives the exit code."""
    try:
        site = _site(options, default_site)
        registry = code_of(site, options.program)
        checked = [_check(one, registry) for one in _histories(options, site)]
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return USAGE
    except ExportError as error:
        return _complain(f"{options.export}: {error}", USAGE)
    except OSError as error:
        return _complain(f"{error.filename or options.export} can't be read: {error.strerror or error}", USAGE)
    except (OfflineError, ProgramError) as error:
        return _complain(str(error), USAGE)
    missing = [name for name in options.instance if name not in {one.instance for one in checked}]
    if missing:
        return _complain(f"there is no orchestration {', '.join(missing)} in {_source(options, site)}", NOT_FOUND)
    if options.json:
        print(json.dumps([_shown(one) for one in checked], indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(checked, _source(options, site), options.finished)))
    return OK if all(one.verdict is Verdict.SAME for one in checked) else FAILED


def _site(options: argparse.Namespace, default_site: str) -> Site | None:
    """The site whose journal or whose programs are wanted; none is needed for a file without programs."""
    named = options.site or os.environ.get("GRIDLATCH_SITE")
    if named is None and (options.journal or options.export):
        return None
    return load_site(Path(named or default_site))


def _source(options: argparse.Namespace, site: Site | None) -> str:
    if options.export:
        return str(options.export)
    return str(options.journal or (journal_of(site) if site is not None else ""))


def _histories(options: argparse.Namespace, site: Site | None) -> Iterator[Found]:
    finished = options.finished or bool(options.instance)
    if options.export is None:
        path = Path(_source(options, site))
        yield from histories_of(path, instances=options.instance, name=options.name, finished=finished)
        return
    with Path(options.export).open("rb") as file:
        for one in read(file):
            wanted = not options.instance or one.instance in options.instance
            if wanted and options.name in (None, one.name) and (finished or one.status not in TERMINAL):
                yield one


def _check(one: Found, registry: Registry) -> Rehearsed:
    if isinstance(one, Unreadable):
        return Rehearsed(one.instance, one.name, one.status, Verdict.UNREADABLE, 0, why=one.why)
    return rehearse(registry, one)


def _shown(one: Rehearsed) -> dict[str, object]:
    return {**msgspec.structs.asdict(one), "verdict": one.verdict.value}


def _lines(checked: list[Rehearsed], source: str, finished: bool) -> list[str]:
    which = "" if finished else "unfinished "
    if not checked:
        return [f"There is no {which}orchestration in {source}: nothing to check."]
    rows = [
        (plain(one.instance), plain(one.name), one.status, str(one.turns), _word(one))
        for one in sorted(checked, key=lambda one: one.verdict is Verdict.SAME)
    ]
    found = table(("INSTANCE", "ORCHESTRATOR", "STATUS", "TURNS", "WITH THE CODE AS IT IS"), rows, right=("TURNS",))
    for one in checked:
        if one.verdict is not Verdict.SAME:
            found += ["", *_trouble(one)]
    return [*found, "", _summary(checked, which, source)]


def _word(one: Rehearsed) -> str:
    if one.verdict is Verdict.SAME:
        return "the same, though the code was changed" if one.code_changed else "the same"
    return one.verdict.value.upper()


def _trouble(one: Rehearsed) -> list[str]:
    if one.verdict is not Verdict.DIVERGES:
        return [f"{plain(one.instance)}: {one.verdict.value}: {plain(one.why)}"]
    step = f"step {one.step}" if one.step else "its end"
    return [
        f"{plain(one.instance)} would diverge at {step}, in the turn of {moment_us(one.time_us)} (record {one.seq}):",
        f"  history has    {plain(one.recorded)}",
        f"  the code asks  {plain(one.asked)}",
        f"  at             {plain(one.line)}",
    ]


def _summary(checked: list[Rehearsed], which: str, source: str) -> str:
    wrong = sum(one.verdict is not Verdict.SAME for one in checked)
    number = len(checked)
    of = f"{number} {which}orchestration{'s' if number != 1 else ''} of {source}"
    if not wrong:
        return f"{of}: all go on as they went."
    return (
        f"{wrong} of {of} would not go on after an upgrade to this code. Let them end first, keep the old code beside the "
        "new one under its version, or terminate them."
    )


# Export


def export(options: argparse.Namespace, ask: Ask) -> int:
    """Write histories to a file. ask: sends a request to the daemon; raises what ``call`` raises. Gives the exit code."""
    if bool(options.instances) == options.all:
        return _complain("name the instances, or say --all (and not both)", USAGE)
    try:
        found = list(_from_journal(options) if options.journal else _from_daemon(options, ask))
        wrong = [one for one in found if isinstance(one, Unreadable)]
        good = [one for one in found if isinstance(one, RecordedHistory)]
        missing = [name for name in options.instances if name not in {one.instance for one in found}]
        if missing:
            return _complain(f"there is no orchestration {', '.join(missing)}; nothing was written", NOT_FOUND)
        _write(options.out, lines(Header(exported=_now()), good))
    except (OfflineError, OSError) as error:
        return _complain(str(error), FAILED)
    for one in wrong:
        _complain(f"{one.instance} was left out: {one.why}", FAILED)
    if options.out is not None:
        print(f"{len(good)} histor{'y is' if len(good) == 1 else 'ies are'} in {options.out}")
    return FAILED if wrong else OK


def _now() -> str:
    from gateway.clock import SystemClock, iso

    return iso(SystemClock().now_us())


def _from_journal(options: argparse.Namespace) -> Iterator[Found]:
    return histories_of(Path(options.journal), instances=options.instances)


def _from_daemon(options: argparse.Namespace, ask: Ask) -> Iterator[Found]:
    for instance in options.instances or _all_ids(ask):
        try:
            told = ask(Request("instances.export", {"instance": instance}, acts=False, timeout_s=READ_TIMEOUT_S))
        except ControlError as error:
            if options.all and error.code is Code.NOT_FOUND:
                continue  # purged since it was listed
            if error.code is not Code.TOO_LARGE:
                raise
            yield Unreadable(instance, "", "", f"{error.message}; read it with --journal FILE")
            continue
        try:
            yield _from_answer(told)
        except msgspec.MsgspecError as error:
            yield Unreadable(instance, "", "", f"the daemon's answer is not understood: {error}")


def _from_answer(told: JsonValue) -> RecordedHistory:
    return msgspec.json.decode(msgspec.json.encode(told), type=RecordedHistory)


def _all_ids(ask: Ask) -> Iterator[str]:
    after: JsonValue = None
    while True:
        args: dict[str, JsonValue] = {"limit": 1000} if after is None else {"limit": 1000, "after": after}
        page = Fields(ask(Request("instances.list", args, acts=False, timeout_s=READ_TIMEOUT_S)))
        yield from (one.text("instance") for one in page.parts("instances"))
        after = page.raw("next")
        if not after:
            return


def _write(out: str | None, content: Iterable[bytes]) -> None:
    """To standard output, or to a file that is there whole or not at all."""
    if out is None:
        sys.stdout.buffer.writelines(content)
        sys.stdout.buffer.flush()
        return
    part = Path(f"{out}.part")
    try:
        with part.open("wb") as file:
            file.writelines(content)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def _complain(message: str, code: int) -> int:
    print(f"gridlatch: {message}", file=sys.stderr)
    return code
