"""How a site's file writes a place in a Modbus device's tables: ``table:number[.bit][:type[*scale][+offset]]``."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from simulators.modbus.memory import Space

_ADDRESS = re.compile(
    r"(coil|di|ir|hr):(\d+)(?:\.(\d+))?(?::(u16|s16|u32|s32|f32)(?:\*(-?[0-9.]+(?:[eE][+-]?[0-9]+)?))?([+-][0-9.]+)?)?"
)


@dataclass(frozen=True, slots=True)
class Point:
    """Where a value lies: value = raw × scale + offset."""

    space: Space
    number: int
    bit: int | None = None
    kind: str = "u16"
    scale: float = 1.0
    offset: float = 0.0

    @property
    def width(self) -> int:
        """Addresses taken."""
        return 2 if self.kind in ("u32", "s32", "f32") else 1


@dataclass(frozen=True, slots=True)
class BreakerPoints:
    """The points of one breaker; those that its device does not have are None."""

    pos_closed: Point
    pos_open: Point
    open_cmd: Point
    close_cmd: Point
    local: Point | None = None
    op_count: Point | None = None
    power_kw: Point | None = None


@functools.lru_cache(maxsize=65536)
def parse_point(text: str) -> Point:
    """The point; ValueError if the text is none."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no address like di:17, hr:120.3 or ir:40:u32*0.1")
    space, number, bit, kind, scale, offset = match.groups()
    return Point(
        Space(space),
        int(number),
        None if bit is None else int(bit),
        kind or "u16",
        float(scale) if scale else 1.0,
        float(offset) if offset else 0.0,
    )
