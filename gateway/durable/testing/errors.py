"""What a test on the workbench fails with. All are AssertionErrors: it is the test, or the code under test, that is wrong.

AssertionError
├── Stalled          nothing can ever happen any more, and what the test waits for has not happened
├── Endless          the clock was moved on very often, and it still has not happened
├── UnexpectedCall   an activity was called that is neither registered nor stubbed, or more often than its stubs answer
└── Ended            an orchestration was to complete, and failed or was terminated; ``details`` says why
"""

from __future__ import annotations

from gateway.durable.errors import FailureDetails


class Stalled(AssertionError):
    """Nothing can ever happen any more."""


class Endless(AssertionError):
    """It goes on and on."""


class UnexpectedCall(AssertionError):
    """An activity was called that nobody has prepared."""


class Ended(AssertionError):
    """It did not complete."""

    def __init__(self, message: str, details: FailureDetails | None) -> None:
        super().__init__(message)
        self.details = details
