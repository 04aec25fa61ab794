"""What the check of a source file tells: one finding a place, and the comment that silences it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ALLOW = re.compile(r"#\s*gridlatch:\s*allow\(([\w\s,-]+)\)")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One place in an orchestrator that replay can't bear.

    line, column: from 1. rule: its id, as in ``# gridlatch: allow(rule)``. orchestrator: whose code it is, perhaps by way
    of a helper.
    """

    file: str
    line: int
    column: int
    rule: str
    what: str
    instead: str
    orchestrator: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}"
        return f"{place}: [{self.rule}] in {self.orchestrator}: {self.what}; write instead: {self.instead}"


def allowed_at(lines: list[str], line: int) -> set[str]:
    """Rules that a comment at the end of this line (from 1) allows."""
    text = lines[line - 1] if 0 < line <= len(lines) else ""
    match = _ALLOW.search(text)
    return set() if match is None else {one.strip() for one in match[1].split(",")}
