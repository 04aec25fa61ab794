"""The pages of the guide for authors, read as programs.

A page's Python blocks are one program, run in their order; its functions called ``test_…`` are its tests. Blocks of other
kinds are for reading: ``console`` (commands after ``$``, and what they print), ``toml``, ``text``. Each block keeps its
page's line numbers, so a traceback points into the page.
"""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

GUIDE = Path(__file__).parents[4] / "gateway" / "durable" / "guide"
PAGES = sorted(GUIDE.glob("*.md"))
KINDS = {"python", "console", "toml", "text"}

_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>.*)$")
_LINK = re.compile(r"(?<!!)\[[^]]+\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block. line: of its first line of text, from 1."""

    page: str
    kind: str
    line: int
    text: str


def blocks(page: Path, kind: str | None = None) -> list[Block]:
    """All fenced blocks of a page, in order; only those of one kind."""
    found = list(_blocks(page))
    return [block for block in found if kind is None or block.kind == kind]


def _blocks(page: Path) -> Iterator[Block]:
    kind: str | None = None
    first, lines = 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if fence is None:
            lines.append(line)
        elif kind is None:
            kind, first, lines = fence["kind"], number + 1, []
        else:
            assert not fence["kind"], f"{page.name}:{number}: a block begins inside of another"
            yield Block(page.name, kind, first, "\n".join(lines) + "\n")
            kind, lines = None, []
    assert kind is None, f"{page.name}: a block is never closed"


def prose(page: Path) -> str:
    """The page without its blocks."""
    inside, kept = False, list[str]()
    for line in page.read_text(encoding="utf-8").splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            kept.append(line)
    return "\n".join(kept) + "\n"


def links(page: Path) -> list[str]:
    """Targets of all links."""
    return [match["target"] for match in _LINK.finditer(prose(page))]


def anchors(page: Path) -> set[str]:
    """What ``#…`` may name on this page: its headings, as they are written by those who show Markdown."""
    found = set()
    for title in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", title.lower())
        found.add(plain.replace(" ", "-"))
    return found


def load(page: Path) -> ModuleType:
    """Run the page's Python blocks as one module."""
    name = f"guide_{page.stem.replace('-', '_')}"
    module = types.ModuleType(name, f"The program of {page.name}.")
    module.__file__ = str(page)
    sys.modules[name] = module
    for code in compiled(page):
        exec(code, module.__dict__)
    return module


def compiled(page: Path) -> list[CodeType]:
    """The code of each Python block, at its place in the page."""
    return [compile("\n" * (block.line - 1) + block.text, str(page), "exec") for block in blocks(page, "python")]


def functions(codes: list[CodeType]) -> Iterator[CodeType]:
    """All functions of a page's code, the inner ones too."""
    for code in codes:
        inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        yield from (one for one in inner if one.co_flags & 0x2)  # CO_NEWLOCALS: a function, no class body
        yield from functions(inner)
