"""What a market remembers of its fund: the highest balance of each sixtieth of a window, and if it is far below."""

from dataclasses import dataclass, field

from engine.codes import PEAK_BUCKETS, PPM


@dataclass(slots=True)
class Watch:
    """A fund under the drawdown trigger of one market (ADL-020, ADL-021)."""

    drawdown_ppm: int
    release_ppm: int
    bucket_ns: int
    bucket: int = 0
    highest: dict[int, int] = field(default_factory=lambda: {0: 0})  # balance by bucket, those of the window only
    is_active: bool = False

    @property
    def peak_quote(self) -> int:
        """Return the highest balance within the window."""
        return max(self.highest.values())

    def list_highest(self) -> list[int]:
        """Return the highest balance of each bucket of the window, oldest first; 0 before time began."""
        first = self.bucket - PEAK_BUCKETS + 1
        return [self.highest.get(number, 0) for number in range(first, self.bucket + 1)]

    def roll(self, ts_ns: int, balance_quote: int) -> None:
        """Open the buckets up to the present one, each with the balance the fund came into it with.

        Source: ADL-021.
        """
        bucket = ts_ns // self.bucket_ns
        if bucket == self.bucket:
            return
        self.bucket = bucket
        kept = range(bucket - PEAK_BUCKETS + 1, bucket + 1)
        latest = max(self.highest)
        self.highest = {number: self.highest[number] for number in kept if number in self.highest}
        for number in kept:
            if number > latest:
                self.highest[number] = balance_quote
        self.judge(balance_quote)

    def note(self, balance_quote: int) -> None:
        """Note a balance that has just changed.

        Source: ADL-021.
        """
        self.highest[self.bucket] = max(self.highest[self.bucket], balance_quote)
        self.judge(balance_quote)

    def judge(self, balance_quote: int) -> None:
        """Switch on or off by how much of the peak is gone, both strictly.

        Source: ADL-020.
        """
        lost = (self.peak_quote - balance_quote) * PPM
        if lost > self.drawdown_ppm * self.peak_quote:
            self.is_active = True
        elif lost < self.release_ppm * self.peak_quote:
            self.is_active = False
