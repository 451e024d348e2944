"""How often each caller may ask: a bucket of tokens that refills at a steady rate."""

from __future__ import annotations

import time
from collections.abc import Callable


class RateLimit:
    """Counts requests of each caller; not to be shared between threads.

    Args:
        rate: Tokens a second.
        burst: Tokens that a bucket holds.
        clock: Seconds from any beginning.

    Example:
        >>> limit = RateLimit(rate=2, burst=1, clock=lambda: 0.0)
        >>> limit.take("door"), limit.take("door"), limit.take("gate")
        (0.0, 0.5, 0.0)
    """

    def __init__(
        self, *, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, caller: str) -> float:
        """Take a token for a request.

        Args:
            caller: Whose bucket; there must be few of them, as none is forgotten.

        Returns:
            0 if there was one, otherwise the seconds until there will be.
        """
        now = self._clock()
        tokens, since = self._buckets.get(caller, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        has_one = tokens >= 1
        self._buckets[caller] = (tokens - has_one, now)
        return 0.0 if has_one else (1 - tokens) / self._rate
