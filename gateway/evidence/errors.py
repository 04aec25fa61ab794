"""The errors of evidence, split by what the one who gets them must do. In none of them anything was changed."""

from __future__ import annotations


class EvidenceError(Exception):
    """Evidence could not be taken, given or checked; the text says why."""


class SigningError(EvidenceError):
    """A key or a signed line is not what it should be."""


class NotSealed(EvidenceError):
    """This is no exported file, or not one as it was written: distrust it."""


class RecordError(EvidenceError):
    """The record can't be read from there: look at the path, or at the journal."""


class SinkError(EvidenceError):
    """The export can't be written or sent there: nothing whole has arrived, do it again."""


class CantCheck(EvidenceError):
    """There is nothing to check: no such file, or it can't be read."""


class TooLong(EvidenceError):
    """More than a report may have: ask for less."""
