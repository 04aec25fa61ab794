"""``python -m journal FILE``: check a journal, a copy of one, or an archive, without a daemon.

What must stay true: the file is only read, whether or not a daemon is writing it. A head that was kept elsewhere is the
only witness against a chain that was cut off or rewritten to its end. A crash here changes nothing.

Exit codes: 0 the chain is whole, 1 it is not, 2 wrong usage or no journal there.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from journal.archive import SUFFIX, ArchiveResult, verify_archive
from journal.errors import JournalError
from journal.rows import Head, VerifyResult
from journal.verify import verify_file

WHOLE, BROKEN, NOT_CHECKED = 0, 1, 2
_HEAD = re.compile(r"([0-9]{1,18}):([0-9a-f]{64})")


def main(arguments: list[str] | None = None) -> int:
    """Check and say what was found; the exit code. Wrong usage ends in SystemExit(2), as argparse does it."""
    parser = argparse.ArgumentParser(
        prog="python -m journal", description="Check the hash chain of a journal, or of a copy, without a daemon."
    )
    parser.add_argument(
        "file", metavar="FILE", type=Path, help=f"such as /var/lib/gridlatch/journal.db, or an archive (*{SUFFIX})"
    )
    parser.add_argument("--archives", metavar="FOLDER", type=Path, help="check those that the journal names as well")
    parser.add_argument("--head", metavar="BATCH:HASH", type=_head, help="seen earlier: the chain must hold it")
    options = parser.parse_args(arguments)
    result: VerifyResult | ArchiveResult
    try:
        if options.file.name.endswith(SUFFIX):
            result = verify_archive(options.file, expect=options.head)
        else:
            result = verify_file(options.file, expect=options.head, archives=options.archives)
    except (JournalError, OSError) as error:
        print(f"journal: {error}", file=sys.stderr)
        return NOT_CHECKED
    size = f"{result.batches} batches, {result.records} records, head {result.head.batch}:{result.head.hash_hex}"
    print(f"The chain is whole: {size}" if result.ok else f"THE CHAIN IS BROKEN: {result.reason}\nGood so far: {size}")
    return WHOLE if result.ok else BROKEN


def _head(text: str) -> Head:
    found = _HEAD.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not BATCH:HASH, as in 543:0c50789e…")
    return Head(int(found[1]), 0, found[2], 0)


if __name__ == "__main__":
    sys.exit(main())
