"""The guide for authors keeps its word: its programs run, its tests pass, its commands and links are those that exist."""

from __future__ import annotations

import asyncio
import inspect
import re
import shlex
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import pytest

from config.models import Gateway
from gateway.cli import main
from gateway.cli.parser import build_parser
from gateway.durable.determinism import RULES, check_source
from tests.unit.durable.guide.pages import GUIDE, KINDS, PAGES, anchors, blocks, compiled, functions, links, load, prose

MAX_LINES = 120
MAX_WIDTH = 120
WITHOUT_PROGRAM = {"differences-from-azure.md", "differences-from-durabletask.md"}
OTHER_COMMANDS = {"python", "pip", "kill"}

Trace = Callable[[FrameType, str, object], None]


def by_name(page: Path) -> str:
    return page.stem


@contextmanager
def functions_called(page: Path) -> Iterator[set[tuple[str, int]]]:
    """Name and line of each function of this page that is called meanwhile, in any thread."""
    called: set[tuple[str, int]] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if frame.f_code.co_filename == str(page):
            called.add(key(frame.f_code))

    before = sys.gettrace()
    sys.settrace(note)
    threading.settrace(note)
    try:
        yield called
    finally:
        sys.settrace(before)
        threading.settrace(before)


def key(code: CodeType) -> tuple[str, int]:
    return code.co_name, code.co_firstlineno


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in WITHOUT_PROGRAM], ids=by_name)
def test_the_programs_of_a_page_do_what_it_says(page: Path) -> None:
    with functions_called(page) as called:
        module = load(page)
        tests = [value for name, value in vars(module).items() if name.startswith("test_")]
        for test in tests:
            asyncio.run(test()) if inspect.iscoroutinefunction(test) else test()
    assert tests, "a page shows what comes out of its programs, in functions called test_…"
    never = {key(code) for code in functions(compiled(page))} - called
    assert not never, f"functions that no test of the page comes to: {sorted(never)}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "determinism.md"], ids=by_name)
def test_nothing_that_is_shown_is_bad_at_replay(page: Path) -> None:
    text = "".join(block.text for block in blocks(page, "python"))
    assert [finding for found in check_source(text, page.name).values() for finding in found] == []


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_every_block_is_of_a_kind_that_is_checked_or_plain_text(page: Path) -> None:
    assert {block.kind for block in blocks(page)} <= KINDS
    for block in blocks(page, "text"):
        assert not re.search(r"^\s*(def |async def |class |import |from \w+ import|yield )", block.text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_commands_are_those_of_the_command_line(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = build_parser()
    for block in blocks(page, "console"):
        commands = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
        assert commands, f"{page.name}:{block.line}: a console block without a command"
        for command in commands:
            check_command(parser.parse_args, command, f"{page.name}:{block.line}", capsys)
    for command in re.findall(r"`(gridlatch [^`]+)`", prose(page)):
        check_command(parser.parse_args, command, page.name, capsys)


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_settings_are_those_of_a_site(page: Path) -> None:
    shown = [tomllib.loads(block.text) for block in blocks(page, "toml")]
    named = {key for settings in shown for key in settings["gateway"]}
    named |= set(re.findall(r"`gateway\.(\w+)`", prose(page))) - {"durable"}
    assert all(settings.keys() == {"gateway"} for settings in shown)
    assert named <= set(Gateway.__dataclass_fields__)


def check_command(
    parse: Callable[[list[str]], object], command: str, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = shlex.split(command, comments=True)
    if program != "gridlatch":
        assert program in OTHER_COMMANDS, f"{where}: {command}"
        return
    try:
        parse(arguments)
    except SystemExit:
        pytest.fail(f"{where}: {command}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{page.name} links {link}"
        assert target.is_relative_to(GUIDE), f"{page.name} links {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links {link}"


def test_the_index_names_every_page_and_every_example() -> None:
    index = GUIDE / "index.md"
    named = {link.partition("#")[0] for link in links(index)}
    assert {page.name for page in PAGES} - named == {"index.md"}
    examples = {f"examples/{file.name}" for file in GUIDE.glob("examples/*.py") if not file.name.startswith("_")}
    assert examples <= {link for page in PAGES for link in links(page)}


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_pages_are_short(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= MAX_LINES
    printed = {line for block in blocks(page, "console") for line in block.text.splitlines()}
    wide = [line for line in lines if len(line) > MAX_WIDTH and not line.startswith("|")]
    assert set(wide) - printed == set()


def test_the_check_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = GUIDE / "determinism.md"
    (shown,) = blocks(page, "console")
    command, _, output = shown.text.partition("\n")
    (tmp_path / "night.py").write_text(blocks(page, "python")[0].text)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(command.removeprefix("$ gridlatch "))) == 1
    assert capsys.readouterr().out == output


def test_the_table_of_rules_is_that_of_the_check() -> None:
    told = re.findall(r"^\| ([\w-]+) \|", prose(GUIDE / "determinism.md"), re.MULTILINE)
    assert told == ["rule", *RULES]
