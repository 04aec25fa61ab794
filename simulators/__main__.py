"""Command line of the simulators: ``python -m simulators site | run | ctl``.

    python -m simulators site DIR [--rtus 120 --breakers 100 --port 15020 --rate R ...]   write a site
    python -m simulators run --site DIR [--control SOCKET] [--rate R] [--faults FILE]     simulate it until SIGTERM
    python -m simulators ctl SOCKET OP [key=value ...]                                    talk to a running simulator

Exit codes: 0 done, 1 could not listen or connect, 2 bad arguments or a bad site.
"""

from __future__ import annotations

import sys

from simulators.cli import main

if __name__ == "__main__":
    sys.exit(main())
