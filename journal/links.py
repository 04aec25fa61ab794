"""The links between the records of one instance: what the last record of each instance is.

What must stay true: each record's ``prev`` is the record of the same instance before it, or 0; an instance's last
record is the greater of its ``last_seq`` in ``instances`` and in ``tails``. A wrong link would silently shorten a
history, so the reader checks what it finds along the way, and the links are part of the hash chain.
On a crash here: nothing; the cache is rebuilt from the tables as it is needed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

CACHED_INSTANCES: Final = 100_000
"""Beyond this many the cache starts anew: each instance then costs one look-up (5 µs) when it next has a record."""

LAST_RECORD: Final = (
    "SELECT max(coalesce((SELECT last_seq FROM instances WHERE instance = :instance), 0),"
    " coalesce((SELECT last_seq FROM tails WHERE instance = :instance), 0))"
)


class LastRecords:
    """The last committed record of each instance: a bounded cache over the tables."""

    def __init__(self) -> None:
        self._cache: dict[str, int] = {}

    def of(self, connection: sqlite3.Connection, instance: str) -> int:
        """Sequence number of the instance's last committed record; 0 if it has none."""
        known = self._cache.get(instance)
        if known is None:
            known = int(connection.execute(LAST_RECORD, {"instance": instance}).fetchone()[0])
            self._cache[instance] = known
        return known

    def committed(self, last: Iterable[tuple[str, int]]) -> None:
        """These instances got new last records, and the transaction is on disk."""
        self._cache.update(last)
        if len(self._cache) > CACHED_INSTANCES:
            self._cache.clear()
