"""What is wrong in a site's files, said all at once.

A person who sets up a site gets every problem of every file in one go, each with the file, the line and what to write
instead. What must stay true: a problem that is added is never lost, and nothing but ``ConfigErrors`` leaves the loader.
Nothing here touches a disk or the field, so a crash loses nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

PRINTED_AT_MOST = 200


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing that is wrong. line counts from 1; what and write_instead are for people."""

    file: str
    line: int
    what: str
    write_instead: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what} — write instead: {self.write_instead}"


class ConfigErrors(Exception):
    """The site can't be used as it is written. The caller shows it to a person and starts nothing."""

    def __init__(self, problems: Iterable[ConfigProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """Each problem on a line of its own, the first 200 of them, then how many more there are."""
        lines = [str(problem) for problem in self.problems[:PRINTED_AT_MOST]]
        if len(self.problems) > PRINTED_AT_MOST:
            lines.append(f"and {len(self.problems) - PRINTED_AT_MOST} more")
        return "\n".join(lines)


class Wrong(ValueError):
    """A value that can't be accepted: what is wrong with it, and what to write instead. Never leaves the package."""

    def __init__(self, what: str, write_instead: str) -> None:
        self.what = what
        self.write_instead = write_instead
        super().__init__(f"{what} — write instead: {write_instead}")


@dataclass(slots=True)
class Problems:
    """Gathers problems and warnings while the files are read. Its size is bounded by the size of the files."""

    found: list[ConfigProblem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, file: str, line: int, what: str, write_instead: str) -> None:
        """Note one problem."""
        self.found.append(ConfigProblem(file, line, what, write_instead))

    def warn(self, file: str, line: int, sentence: str) -> None:
        """Note something that is allowed, and that somebody should look at."""
        self.warnings.append(f"{file}:{line}: {sentence}")


def shorten(value: object, limit: int = 60) -> str:
    """A value as it can be shown in one line: quoted, control characters escaped, cut after limit characters."""
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "…"


def unknown(word: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown word: the nearest of the known ones, or a list of them."""
    choices = sorted(map(str, known))
    near = difflib.get_close_matches(word[:80], choices, n=1, cutoff=0.6)
    if near:
        return f"{near[0]} (did you mean {near[0]!r}?)"
    if not choices:
        return "nothing here: none are defined"
    listed = ", ".join(choices[:30])
    return f"one of {listed}" + (f" and {len(choices) - 30} more" if len(choices) > 30 else "")
