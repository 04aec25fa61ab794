"""DBOS Transact on SQLite. usage: python -m benchmarks.peers.dbos_sqlite FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Callable

from dbos import DBOS

from benchmarks.peers.measuring import CITIES, measure


def main(folder: str) -> None:
    """Measure it."""
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{folder}/dbos.db",
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )

    @DBOS.step()
    def hello(name: str) -> str:
        return f"hello {name}"

    @DBOS.workflow()
    def three_steps() -> list[str]:
        return [hello(city) for city in CITIES]

    def start() -> Callable[[], object]:
        return DBOS.start_workflow(three_steps).get_result

    DBOS.launch()
    measure(
        start,
        "SQLite's defaults: rollback journal, synchronous=FULL",
    )


if __name__ == "__main__":
    main(sys.argv[1])
