"""Retries of activities and sub-orchestrations: when the next attempt is due."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gateway.durable.tasks import Task

MAX_INTERVAL_MS = 1000 * 365 * 86_400_000
"""A thousand years: no wait is longer, whatever the coefficient makes of it, and every date can still be written."""


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """How often and how soon a failed call is tried again; names and meaning as in Azure Durable Functions.

    The first call counts as an attempt. The wait after the n-th attempt is
    ``min(first · coefficient^(n−1), max)`` milliseconds; retry_timeout is counted from the first call. Errors: ValueError,
    TypeError.
    """

    first_retry_interval_in_milliseconds: int
    max_number_of_attempts: int
    backoff_coefficient: float = 1.0
    max_retry_interval_in_milliseconds: int | None = None
    retry_timeout_in_milliseconds: int | None = None

    def __post_init__(self) -> None:
        # Comparisons are written so that NaN fails them.
        if not 0 < self.first_retry_interval_in_milliseconds <= MAX_INTERVAL_MS:
            raise ValueError(f"first_retry_interval_in_milliseconds must be above 0, at most {MAX_INTERVAL_MS}")
        if not 1 <= self.max_number_of_attempts < math.inf:
            raise ValueError("max_number_of_attempts must be at least 1")
        if not 1 <= self.backoff_coefficient < math.inf:
            raise ValueError("backoff_coefficient must be at least 1, and finite")
        longest = self.max_retry_interval_in_milliseconds
        if longest is not None and not 0 < longest < math.inf:
            raise ValueError("max_retry_interval_in_milliseconds must be above 0")
        timeout = self.retry_timeout_in_milliseconds
        if timeout is not None and not 0 <= timeout < math.inf:
            raise ValueError("retry_timeout_in_milliseconds must not be below 0")

    def delay_us(self, attempts: int, elapsed_us: int) -> int | None:
        """Microseconds until the next attempt, after so many failed ones; None when it is enough."""
        if attempts >= self.max_number_of_attempts:
            return None
        timeout_ms = self.retry_timeout_in_milliseconds
        if timeout_ms is not None and elapsed_us >= timeout_ms * 1000:
            return None
        try:
            factor = self.backoff_coefficient ** min(attempts - 1, 64)
            delay_ms = min(self.first_retry_interval_in_milliseconds * factor, MAX_INTERVAL_MS)
        except OverflowError:
            delay_ms = MAX_INTERVAL_MS
        if self.max_retry_interval_in_milliseconds is not None:
            delay_ms = min(delay_ms, self.max_retry_interval_in_milliseconds)
        return int(delay_ms * 1000)


class Attempt:
    """A call that may be repeated. outer: the task that its caller waits on. attempts: how often it ran. since_us: when it
    was first made. again(n): makes it the n-th time, gives the id of that."""

    __slots__ = ("again", "attempts", "options", "outer", "since_us")

    def __init__(self, outer: Task, options: RetryOptions, since_us: int, again: Callable[[int], int]) -> None:
        self.outer = outer
        self.options = options
        self.attempts = 1
        self.since_us = since_us
        self.again = again

    def delay_us(self, now_us: int) -> int | None:
        """Microseconds until it is made again; None when it is enough."""
        return self.options.delay_us(self.attempts, now_us - self.since_us)
