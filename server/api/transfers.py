"""Places for sessions that are exported or imported: each is in memory as a whole meanwhile.

Invariants: never more than so many at once, and of one tenant at most half of them (but one), so that nobody who reads
slowly holds all. It knows nothing of what is sent or received.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from server.errors import QueueFull


class Transfers:
    """places: at once."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._share = max(1, places // 2)
        self._taken: Counter[str] = Counter()  # by tenant

    def take(self, tenant: str) -> Callable[[], None]:
        """Take a place; what is returned gives it back, once however often it is called. Raises QueueFull."""
        if self._taken.total() >= self._places:
            raise QueueFull("Too many sessions are being exported or imported; try again shortly.")
        if self._taken[tenant] >= self._share:
            raise QueueFull("Too many of your sessions are being exported or imported; try again shortly.")
        self._taken[tenant] += 1
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                self._taken[tenant] -= 1
                if not self._taken[tenant]:
                    del self._taken[tenant]

        return give_back
