"""The simulated market said again from its rules, in plain Python: what SIM-002..SIM-008 ask for, row by row.

It reads an exchange's views and the tables of a desk; it shares no arithmetic with `engine.kernels.simulate`.
"""

from fractions import Fraction
from math import ceil, floor

import numpy as np

from engine.codes import AMEND, BUY, CANCEL, INDEX, IOC, MARKET_ORDER, PLACE, SELL
from engine.layout import COMMAND

WORD = 1 << 64


class PlainMarket:
    """One simulated market, beside the exchange it acts on."""

    def __init__(self, desk, price_max):
        self.price_max = price_max
        self.p = {name: int(desk.desk[0][name]) for name in desk.desk.dtype.names}
        self.path, self.ladder, self.sizes = desk.path.tolist(), desk.ladder.tolist(), desk.sizes.tolist()
        self.step = self.drawn = self.volatility = self.fair = 0
        self.taker_id = self.p["taker_id"]
        self.mids = []
        self.falling = False
        self.rows = []

    def draw(self):
        """Return 32 bits of splitmix64's mixer (SIM-002)."""
        self.drawn += 1
        word = self.drawn * 0x9E3779B97F4A7C15 % WORD ^ self.p["seed"]
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % WORD
        word = (word ^ word >> 27) * 0x94D049BB133111EB % WORD
        return word >> 32

    def send(self, **fields):
        self.rows.append({"ts_ns": self.p["first_ns"] + self.step * self.p["step_ns"], **fields})

    def take_rows(self):
        rows = np.zeros(len(self.rows), COMMAND)
        for row, fields in zip(rows, self.rows, strict=True):
            for name, value in fields.items():
                row[name] = value
        self.rows = []
        return rows

    def announce(self):
        """Return the step's index command."""
        self.send(kind=INDEX, price_tick=self.path[self.step][0])
        return self.take_rows()

    def decide(self, view):
        """Return what makers and takers send when this stands (SIM-001)."""
        index, depth = self.path[self.step]
        self.held = {row[0]: int(row[2]) for row in np.asarray(view.positions).tolist()}
        self.orders = {row[5]: (row[2], row[3]) for row in np.asarray(view.orders).tolist()}
        self.look(index, view)
        self.quote(index, depth)
        self.trade_noise(index)
        self.trade_momentum()
        self.step += 1
        return self.take_rows()

    def lean(self, index, held, limit):
        """SIM-004: a fair value in half ticks."""
        held = max(-limit, min(held, limit))
        shift = floor(Fraction(self.p["skew_ppb"] * held, limit))
        return floor(Fraction(2 * index * (10**9 - shift), 10**9))

    def makers(self):
        return range(self.p["first_maker"], self.p["first_maker"] + self.p["makers"])

    def look(self, index, view):
        """SIM-003, SIM-004: the middle, the common fair value, its volatility."""
        bids = [row[2] for row in np.asarray(view.orders).tolist() if row[1] == BUY]
        asks = [row[2] for row in np.asarray(view.orders).tolist() if row[1] == SELL]
        last = int(view.markets[0][2])
        self.mids.append(max(bids) + min(asks) if bids and asks else 2 * (last or index))
        limit = self.p["maker_limit_lot"]
        held = sum(max(-limit, min(self.held.get(maker, 0), limit)) for maker in self.makers())
        fair = self.lean(index, held, limit * max(self.p["makers"], 1))
        if self.fair:
            moved = min(abs(fair - self.fair) * 10**9 // self.fair, 10**9) * self.p["second_ppm"] // 10**6
            self.volatility += (moved - self.volatility) * self.p["memory"] // 2**24
        self.falling, self.fair = fair < self.fair, fair

    def quote(self, index, depth):
        """SIM-004, SIM-005, SIM-006."""
        excess = max(self.volatility * 10**6 // self.p["calm_ppb"] - 10**6, 0)
        stretch = min(10**6 + self.p["widen_ppm"] * excess // 10**6, 10**8)
        depth = depth * 10**6 // (10**6 + self.p["thin_ppm"] * excess // 10**6)
        refill = self.p["refill"] if self.step else 1 << 32
        for side in (BUY, SELL) if self.falling else (SELL, BUY):
            for number, maker in enumerate(self.makers()):
                held, limit = self.held.get(maker, 0), self.p["maker_limit_lot"]
                centre = self.lean(index, held, limit)
                scale = depth * (limit - min(max(held * side, 0), limit)) // limit
                for level, (distance, size) in enumerate(self.ladder[number]):
                    order_id = self.p["first_order_id"] + 2 * (number * self.p["levels"] + level) + (side == SELL)
                    distance = min(distance * stretch // 10**6, 5 * 10**8)
                    self.keep(maker, side, order_id, centre, distance, size * scale // 10**6, refill)

    def keep(self, maker, side, order_id, centre, distance, wanted, refill):
        """Bring one quote to what is wanted."""
        if side == BUY:
            tick = centre * (10**9 - distance) // 10**9 // 2
            edge = (self.fair + 1) // 2 - 1  # the highest tick below the common fair value
            tick = min(tick, edge)
        else:
            tick = ceil(Fraction(centre * (10**9 + distance), 2 * 10**9))
            edge = self.fair // 2 + 1
            tick = max(tick, edge)
        if not 1 <= tick <= self.price_max:
            wanted = 0
        own = {"account": maker, "order_id": order_id}
        if order_id not in self.orders:
            if wanted > 0 and self.draw() < refill:
                self.send(kind=PLACE, side=side, price_tick=tick, qty_lot=wanted, **own)
            return
        at, lots = self.orders[order_id]
        if wanted == 0:
            self.send(kind=CANCEL, **own)
            return
        is_large, is_small = lots > Fraction(5, 4) * wanted, lots < Fraction(3, 4) * wanted
        goal = wanted if is_large or (is_small and self.draw() < refill) else lots
        is_beyond = at > edge if side == BUY else at < edge
        reach = abs(tick - Fraction(centre, 2))
        if is_beyond or abs(at - tick) > Fraction(self.p["requote_ppm"], 10**6) * reach:
            self.send(kind=AMEND, price_tick=tick, qty_lot=goal, **own)
        elif goal != lots:
            self.send(kind=AMEND, price_tick=at, qty_lot=goal, **own)

    def take(self, account, side, lots):
        self.taker_id += 1
        fields = {"account": account, "side": side, "qty_lot": lots, "order_id": self.taker_id}
        self.send(kind=PLACE, flags=MARKET_ORDER, tif=IOC, **fields)

    def trade_noise(self, index):
        """SIM-007."""
        mid = self.mids[-1]
        cheap = max(-(10**9), min((2 * index - mid) * 10**9 // mid, 10**9))
        tilt = max(-(10**9) // 2, min(cheap * self.p["lean_ppm"] // 10**6, 10**9 // 2))
        buys = (1 << 31) + tilt * (1 << 32) // 10**9
        for account in range(self.p["first_noise"], self.p["first_noise"] + self.p["noise_takers"]):
            if self.draw() < self.p["noise_chance"]:
                side = BUY if self.draw() < buys else SELL
                lots = self.sizes[0][self.draw() % 4096]
                if side * self.held.get(account, 0) + lots > self.p["noise_limit_lot"]:
                    side = -side
                self.take(account, side, lots)

    def trade_momentum(self):
        """SIM-008."""
        if self.step < self.p["lookback_steps"]:
            return
        then = self.mids[self.step - self.p["lookback_steps"]]
        moved = (self.mids[-1] - then) * 10**9 // then
        target = 0
        if abs(moved) > self.p["threshold_ppb"]:
            target = self.p["momentum_limit_lot"] * (1 if moved > 0 else -1)
        for account in range(self.p["first_momentum"], self.p["first_momentum"] + self.p["momentum_takers"]):
            if self.draw() < self.p["momentum_chance"]:
                lots = self.sizes[1][self.draw() % 4096]
                gap = target - self.held.get(account, 0)
                if gap:
                    self.take(account, BUY if gap > 0 else SELL, min(abs(gap), lots))
