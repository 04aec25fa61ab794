"""The write-ahead journal: opaque records in a hash chain, and what is live now, in one SQLite file.

Read ``format.md`` beside this package first: it is the contract that the code here keeps. The journal knows nothing of
orchestrations or breakers; whoever writes it gives it whole batches of plain rows.
"""

from journal.errors import (
    BatchRefused,
    JournalCorrupt,
    JournalError,
    JournalLocked,
    JournalNewer,
    JournalNotFound,
    JournalReadError,
    JournalWriteError,
)
from journal.file import JournalFile
from journal.journal import Journal
from journal.rows import BatchLike, Head, JournalStats, Recovered, VerifyResult
from journal.verify import verify_file

__all__ = [
    "BatchLike",
    "BatchRefused",
    "Head",
    "Journal",
    "JournalCorrupt",
    "JournalError",
    "JournalFile",
    "JournalLocked",
    "JournalNewer",
    "JournalNotFound",
    "JournalReadError",
    "JournalStats",
    "JournalWriteError",
    "Recovered",
    "VerifyResult",
    "verify_file",
]
