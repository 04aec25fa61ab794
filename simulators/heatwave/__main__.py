"""``python -m simulators.heatwave``; exit codes: 0 all checks passed, 1 one did not or the story got stuck, 2 bad
arguments, 130 ended by a signal."""

from __future__ import annotations

import sys

from simulators.heatwave.cli import main

if __name__ == "__main__":
    sys.exit(main())
