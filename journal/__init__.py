"""The write-ahead journal: opaque records in a hash chain, and what is live now, in one SQLite file.

Read ``format.md`` beside this package first: it is the contract that the code here keeps. The journal knows nothing of
orchestrations or breakers; whoever writes it gives it whole batches of plain rows.
"""

from journal.archive import ArchiveResult, verify_archive, verify_archives
from journal.archive_file import ArchivedBatch, ArchiveReader
from journal.errors import (
    ArchiveFailed,
    BackupFailed,
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
from journal.offline import Compacted, Loss, accept_loss, compact, restore
from journal.outside import Look, backup_file, check_file, look
from journal.rows import Archived, BatchLike, Head, JournalStats, Note, Records, Recovered, VerifyResult
from journal.verify import verify_file

__all__ = [
    "ArchiveFailed",
    "ArchiveReader",
    "ArchiveResult",
    "Archived",
    "ArchivedBatch",
    "BackupFailed",
    "BatchLike",
    "BatchRefused",
    "Compacted",
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
    "Look",
    "Loss",
    "MarkFound",
    "Note",
    "Records",
    "Recovered",
    "VerifyResult",
    "accept_loss",
    "backup_file",
    "check_file",
    "compact",
    "look",
    "restore",
    "verify_archive",
    "verify_archives",
    "verify_file",
]
