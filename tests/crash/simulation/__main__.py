"""Tell the story of a seed again, with its last lines: ``PYTHONPATH=.:tests python -m crash.simulation SEED [FIRST-LAST]``.

A seed alone prints what happened how often; of a range of seeds only what was violated.
"""

from __future__ import annotations

import sys

from crash.simulation.story import tell


def main() -> int:
    """0 when nothing was violated."""
    wrong = 0
    for word in sys.argv[1:]:
        first, _, last = word.partition("-")
        for seed in range(int(first), int(last or first) + 1):
            told = tell(seed)
            wrong += bool(told.violations)
            print(f"seed {seed}: {told.hours:.1f} h in {told.seconds:.1f} s, {told.steps} steps, {told.hash[:16]}")
            if told.violations:
                print(*told.lines[-60:], sep="\n")
                print(*told.violations, sep="\n")
            elif not last:
                print(*sorted(f"{number:7} {kind}" for kind, number in told.counts.items()), sep="\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
