"""The library that watches a folder's writes and lets the Nth call fail: built, loaded into a child, and driven there.

What must stay true: it works only in a process that was started with it (LD_PRELOAD), so whoever drives it is a program
of its own: ``run_preloaded`` starts one. Built once for each user and content of the source, in the temporary folder.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("storage_faults.c")
ROOT = Path(__file__).resolve().parents[3]
SHORT = -1
"""Instead of an error number: a write takes half of what it was given."""
LIE = -2
"""Instead of an error number: a flush says that it was done, and was not."""


class Call(enum.IntEnum):
    """Kinds of calls, numbered as in the library."""

    WRITE = 0
    FLUSH = 1
    TRUNCATE = 2
    RENAME = 3
    OPEN = 4
    REMOVE = 5


def library() -> Path:
    """The built library; skips the test where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (Debian: gcc, libc6-dev): writes can't be watched")
    version = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    built = Path(tempfile.gettempdir()) / f"gridlatch-storage-faults-{os.getuid()}-{version}.so"
    if not built.exists():
        making = built.with_suffix(f".{os.getpid()}")
        command = [
            compiler,
            "-Wall",
            "-Wextra",
            "-Werror",
            "-O2",
            "-shared",
            "-fPIC",
            "-o",
            making,
            SOURCE,
            "-lpthread",
        ]
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        if tried.returncode and "stdio.h" in tried.stderr:
            pytest.skip("a C compiler without headers (Debian: libc6-dev): writes can't be watched")
        assert tried.returncode == 0, tried.stderr
        making.replace(built)
    return built


def run_preloaded(module: str, *arguments: object, timeout_s: float = 300.0) -> str:
    """Run a module of the tests as a program with the library; its output. Fails with what it said."""
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library()),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
    }
    ended = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert ended.returncode == 0, f"{module} {arguments}:\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


class Preloaded:
    """The library in this process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.storage_calls.restype = ctypes.c_long
        self._library.storage_acknowledge.argtypes = [ctypes.c_uint64]
        self._library.storage_fail.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]

    def watch(self, folder: Path | None, log: Path | None = None) -> None:
        """From now on, this folder; counters and faults begin anew."""
        self._library.storage_watch(
            os.fsencode(folder) if folder is not None else None, os.fsencode(log) if log is not None else None
        )

    def acknowledge(self, steps: int) -> None:
        """Write into the log that so many steps have been acknowledged."""
        self._library.storage_acknowledge(steps)

    def fail(self, call: Call, at: int, error: int, *, lasting: bool = False) -> None:
        """Let the call ``at`` (from 1, counted from now on) of a kind fail; lasting: and all of that kind after it."""
        self._library.storage_fail(int(call), at, error, int(lasting))

    def calls(self, call: Call) -> int:
        """How many of a kind since the watch, or the fault, was set."""
        return int(self._library.storage_calls(int(call)))

    def failed(self) -> int:
        """How many calls failed on demand."""
        return int(self._library.storage_failed())
