"""Where an author's code stands, as file and line: what an error about changed code names. Pure."""

from __future__ import annotations

import inspect
import sys
from types import GeneratorType

from gateway.durable.codec import Json

_OWN_FILES = __file__.rsplit("/", 1)[0] + "/"


def line_of_author() -> str:
    """The nearest line above this call that is not the engine's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN_FILES):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def line_of_wait(generator: GeneratorType[object, Json, object] | None) -> str:
    """Where the code waits, in the innermost generator."""
    inner = generator
    while inner is not None and inspect.isgenerator(inner.gi_yieldfrom):
        inner = inner.gi_yieldfrom
    if inner is None or inner.gi_frame is None:
        return "the code has ended"
    return f"it waits at {inner.gi_code.co_filename}:{inner.gi_frame.f_lineno}"
