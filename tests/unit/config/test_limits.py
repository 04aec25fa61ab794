"""Limits that two packages must agree on although neither knows the other."""

from __future__ import annotations

from config.kinds import Number
from config.tables import GATEWAY
from journal.rows import MAX_BATCH_RECORDS


def test_no_site_can_let_more_wait_for_the_disk_than_the_journal_takes_in_one_batch():
    pending = GATEWAY["max_turns_pending"]
    assert isinstance(pending, Number)
    # A slice of turns and the gateway's own records come on top of what may wait: half leaves room enough.
    assert pending.high * 2 <= MAX_BATCH_RECORDS
