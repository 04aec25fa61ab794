"""A good site to start from: each test changes one thing in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from config import ConfigErrors, ConfigProblem, Site, load_site

EXAMPLE = Path(__file__).parents[3] / "config" / "examples" / "substation"


class SiteFolder:
    """A copy of the example site that a test may damage."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def replace(self, file: str, old: str, new: str) -> int:
        """Replace a text that stands exactly once; returns the line where it starts."""
        text = (self.path / file).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
        (self.path / file).write_text(text.replace(old, new), encoding="utf-8")
        return text[: text.index(old)].count("\n") + 1

    def line_of(self, file: str, text: str) -> int:
        """The line of the first place where text stands."""
        return next(
            number
            for number, line in enumerate((self.path / file).read_text(encoding="utf-8").split("\n"), 1)
            if text in line
        )

    def load(self) -> Site:
        return load_site(self.path)

    def problems(self) -> tuple[ConfigProblem, ...]:
        with pytest.raises(ConfigErrors) as raised:
            load_site(self.path)
        return raised.value.problems

    def problem(self) -> ConfigProblem:
        problems = self.problems()
        assert len(problems) == 1, "\n".join(map(str, problems))
        return problems[0]


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    folder = tmp_path / "site"
    shutil.copytree(EXAMPLE, folder)
    return SiteFolder(folder)


@pytest.fixture
def edited(site: SiteFolder) -> Callable[[str, str, str], Site]:
    """The site after one edit."""

    def edit(file: str, old: str, new: str) -> Site:
        site.replace(file, old, new)
        return site.load()

    return edit
