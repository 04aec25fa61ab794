"""What a harness counted, as a line that a person can weigh: tries, violations, seed, seconds, and what its control found.

``GRIDLATCH_FIGURES`` names a file to which each figure is appended as a line of JSON: several processes may write there,
and the end of the run makes one table of it. 0 violations in N tries mean fewer than 3/N at 95 % (the rule of three).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

VARIABLE: Final = "GRIDLATCH_FIGURES"


def figure(method: str, tries: int, violations: int, seed: int | None, seconds: float, control: str = "") -> None:
    """Keep one figure. control: what the deliberately broken variant lost, as in "lost in 6 of 20"."""
    line = {
        "method": method,
        "tries": tries,
        "violations": violations,
        "seed": seed,
        "seconds": round(seconds, 1),
        "control": control,
    }
    print(json.dumps(line))
    if path := os.environ.get(VARIABLE):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read(path: Path) -> list[dict[str, object]]:
    """All figures of a file, in the order in which they came."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def confidence(tries: int, violations: int) -> str:
    """How often it may happen all the same, at 95 %."""
    if not tries:
        return "nothing tried"
    return f"< 1 in {tries / 3:,.0f}" if violations == 0 else f"{violations / tries:.2%} seen"


def table(figures: Sequence[dict[str, object]]) -> list[str]:
    """Lines of a table: one for each method, its tries added up."""
    rows = [("method", "tries", "violations", "at 95 %", "s", "control", "seeds")]
    for method in dict.fromkeys(str(one["method"]) for one in figures):
        own = [one for one in figures if one["method"] == method]
        tries, wrong = (sum(int(str(one[key])) for one in own) for key in ("tries", "violations"))
        seconds = sum(float(str(one["seconds"])) for one in own)
        seeds = ", ".join(str(one["seed"]) for one in own if one["seed"] is not None)
        control = next((str(one["control"]) for one in reversed(own) if one["control"]), "")
        rows.append(
            (method, f"{tries:,}", f"{wrong:,}", confidence(tries, wrong), f"{seconds:.1f}", control, seeds[:60])
        )
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    right = {1, 2, 4}
    return [
        "  ".join(
            cell.rjust(width) if n in right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
