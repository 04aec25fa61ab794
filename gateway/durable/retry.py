"""Retries of activities and sub-orchestrations: when the next attempt is due."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """How often and how soon a failed call is tried again; names and meaning as in Azure Durable Functions.

    The first call counts as an attempt. The wait after the n-th attempt is
    ``min(first · coefficient^(n−1), max)`` milliseconds; retry_timeout is counted from the first call.
    """

    first_retry_interval_in_milliseconds: int
    max_number_of_attempts: int
    backoff_coefficient: float = 1.0
    max_retry_interval_in_milliseconds: int | None = None
    retry_timeout_in_milliseconds: int | None = None

    def __post_init__(self) -> None:
        if self.first_retry_interval_in_milliseconds <= 0:
            raise ValueError("first_retry_interval_in_milliseconds must be above 0")
        if self.max_number_of_attempts < 1:
            raise ValueError("max_number_of_attempts must be at least 1")
        if self.backoff_coefficient < 1:
            raise ValueError("backoff_coefficient must be at least 1")

    def delay_us(self, attempts: int, elapsed_us: int) -> int | None:
        """Microseconds until the next attempt, after so many failed ones; None when it is enough."""
        if attempts >= self.max_number_of_attempts:
            return None
        timeout_ms = self.retry_timeout_in_milliseconds
        if timeout_ms is not None and elapsed_us >= timeout_ms * 1000:
            return None
        # The exponent is capped: past 2**64 ms any maximum has long been reached, and floats would overflow.
        factor = min(self.backoff_coefficient ** min(attempts - 1, 64), 2.0**64)
        delay_ms = self.first_retry_interval_in_milliseconds * factor
        if self.max_retry_interval_in_milliseconds is not None:
            delay_ms = min(delay_ms, self.max_retry_interval_in_milliseconds)
        return int(delay_ms * 1000)
