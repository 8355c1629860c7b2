"""Who tries keys: wrong ones are counted by the address they come from, and after a few nothing is looked up for it.

A key that is right is never asked about here, so nobody can lock out another who shares the address.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from modelry.core.errors import TooManyWrongKeys
from modelry.server.gateway.limits import Bucket

#: So many seconds' worth of wrong keys may come at once.
BURST_S = 10.0
#: Addresses that are remembered; the one that was heard of longest ago is forgotten first.
REMEMBERED = 4096


class Strangers:
    """Addresses that sent wrong keys to this process; `rate` of them a second are looked up for each."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def enter(self, address: str) -> None:
        """One more wrong key; raises `TooManyWrongKeys`."""
        now = self._clock()
        bucket = self._buckets.pop(address, None) or Bucket(self._rate, BURST_S, now)
        self._buckets[address] = bucket
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        bucket.refill(now)
        wait_s = bucket.wait_s(1)
        if wait_s > 0.0:
            raise TooManyWrongKeys(address=address or "this address", retry_after_s=wait_s)
        bucket.take(1)
