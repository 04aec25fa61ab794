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
    JournalTailLost,
    JournalWriteError,
)
from journal.file import JournalFile
from journal.journal import Journal
from journal.mark import MarkFound
from journal.offline import Loss, accept_loss
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
    "JournalTailLost",
    "JournalWriteError",
    "Loss",
    "MarkFound",
    "Recovered",
    "VerifyResult",
    "accept_loss",
    "verify_file",
]
