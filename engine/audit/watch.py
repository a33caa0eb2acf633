"""The drawdown trigger as the auditor sees it: every balance a fund had within the window, from its events alone."""

from collections import deque

from engine.codes import PEAK_BUCKETS, PPM
from engine.contract import MarketRules


class FundWatch:
    """The balances of a market's fund, and whether its drawdown keeps it from paying (ADL-020, ADL-021)."""

    def __init__(self, rules: MarketRules) -> None:
        self.fund = rules.fund
        self.is_active = False
        self._rules = rules
        self._path: deque[tuple[int, int]] = deque([(0, 0)])  # (time, balance from then on); the first may be older

    def look(self, ts_ns: int) -> None:
        """Move to a time: balances that the fund had only before the window are forgotten, and it is judged anew."""
        start = (ts_ns // self._rules.adl_bucket_ns - PEAK_BUCKETS + 1) * self._rules.adl_bucket_ns
        while len(self._path) > 1 and self._path[1][0] < start:
            self._path.popleft()
        peak, balance = self.peak(), self._path[-1][1]
        lost = (peak - balance) * PPM
        if lost > peak * self._rules.adl_drawdown_ppm:
            self.is_active = True
        if lost < peak * self._rules.adl_release_ppm:
            self.is_active = False

    def change(self, ts_ns: int, balance: int) -> None:
        """Note that the fund now holds `balance`."""
        self.look(ts_ns)
        self._path.append((ts_ns, balance))
        self.look(ts_ns)

    def peak(self) -> int:
        """Return the highest balance within the window."""
        return max(balance for _, balance in self._path)
