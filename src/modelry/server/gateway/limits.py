"""What a key may use, as arithmetic: token buckets and calendar months. Reads no clock, knows no process.

A bucket fills at a rate and holds a burst. A request is let in while the bucket holds what it takes, or is full; so
one with more rows than the bucket holds comes in too, and the next ones wait until its rows are paid off.
"""

from __future__ import annotations

from datetime import UTC, datetime


class Bucket:
    """Tokens. `level` may be negative: then it is owed for what was let in."""

    __slots__ = ("at", "capacity", "level", "rate")

    def __init__(self, rate: float, burst_s: float, now: float) -> None:
        """A full one. `rate` in tokens a second; it holds `burst_s` seconds' worth, at least one token."""
        self.rate = rate
        self.capacity = max(1.0, rate * burst_s)
        self.level = self.capacity
        #: The moment that `level` is true for.
        self.at = now

    def __repr__(self) -> str:
        return f"<Bucket {self.level:.3f} of {self.capacity:g}, {self.rate:g}/s>"

    def refill(self, now: float, used_elsewhere: float = 0.0) -> None:
        """Lets time pass, and takes off what other processes have let in since the last refill."""
        gained = (now - self.at) * self.rate if now > self.at else 0.0
        self.level = min(self.capacity, self.level + gained - used_elsewhere)
        self.at = max(self.at, now)

    def wait_s(self, amount: float) -> float:
        """Seconds until so many may be taken; 0.0 means now. Takes nothing."""
        missing = min(amount, self.capacity) - self.level
        # What is left of a billionth is rounding.
        return missing / self.rate if missing > 1e-9 * self.capacity else 0.0

    def take(self, amount: float) -> None:
        """Takes what `wait_s` allowed."""
        self.level -= amount


def month_of(at: float) -> int:
    """The calendar month (UTC) of a moment in seconds since the epoch, as months since the year 0."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.year * 12 + moment.month - 1


def month_begins(month: int) -> float:
    """The first moment of a month, in seconds since the epoch."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()
