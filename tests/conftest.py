"""What every run of the tests needs."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest
from crash import figures

_FIGURES = pytest.StashKey[Path]()
"""The file of this run, where nobody named another."""


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C end programs that tests start: a shell starts what runs in the background with SIGINT ignored, and
    every process below would inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput") and figures.VARIABLE not in os.environ:
        descriptor, path = tempfile.mkstemp(prefix="gridlatch-figures-", suffix=".jsonl")
        os.close(descriptor)
        os.environ[figures.VARIABLE] = path
        config.stash[_FIGURES] = Path(path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One table of what the crash tests counted."""
    path = config.stash.get(_FIGURES, None)
    if path is not None and (found := figures.read(path)):
        terminalreporter.section("crash tests")
        for line in figures.table(found):
            terminalreporter.write_line(line)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    path = config.stash.get(_FIGURES, None)
    if path is not None:
        path.unlink(missing_ok=True)
        os.environ.pop(figures.VARIABLE, None)
