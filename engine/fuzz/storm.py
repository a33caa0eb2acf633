"""Hostile command streams: small prices, few accounts, deep leverage, thin books, low funds, and much that is refused.

A stream is a function of its seed and setup alone; it never looks into an engine (FUZZ-001).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.contract import Setup, is_derived
from engine.fuzz.setups import LARGE
from engine.layout import COMMAND

FIELDS = tuple(name for name in COMMAND.names or () if not name.startswith("_"))
SECOND, HOUR = 10**9, 3_600 * 10**9


@dataclass(slots=True)
class Command:
    """One command; fields a kind does not use are 0."""

    ts_ns: int = 0
    order_id: int = 0
    price_tick: int = 0
    qty_lot: int = 0
    amount_quote: int = 0
    account: int = 0
    kind: int = 0
    market: int = 0
    side: int = 0
    tif: int = 0
    flags: int = 0


def pack_commands(commands: Sequence[Command]) -> NDArray[np.void]:
    """Return commands as a COMMAND array."""
    rows = np.zeros(len(commands), COMMAND)
    for name in FIELDS:
        rows[name] = [getattr(command, name) for command in commands]
    return rows


class Storm:
    """One stream in the making: where prices are, which ids were used, how hostile the mood is."""

    def __init__(self, seed: int, setup: Setup, accounts: int) -> None:
        self.rng = random.Random(seed)
        self.setup = setup
        self.accounts = accounts
        self.centers = [rules.initial_mark_tick or self.rng.randint(60, 160) for rules in setup.markets]
        self.next_id = 1
        self.ids: list[tuple[int, int]] = []  # (order id, account) of what may still rest
        self.ts_ns = 1_000
        self.commands: list[Command] = []
        self.wealth = self.rng.choice((100, 400, 2000, 10000))
        self.scale = LARGE if setup.markets[0].multiplier >= LARGE else 1
        self.thinness = self.rng.choice((1, 4, 20))
        # dice of their own, so that setups without portfolios keep the streams they had
        self.portfolio_rng = random.Random(f"portfolios {seed}")
        self.has_portfolios = all(rules.moves_ppm for rules in setup.markets)

    def add(self, kind: int, **fields: int) -> None:
        """Append one command at the present time."""
        self.commands.append(Command(ts_ns=self.ts_ns, kind=kind, **fields))

    def money(self, amount: int) -> int:
        """Return an amount in the market's money, where that is large never a round one."""
        if self.scale == 1 or amount == 0:
            return amount
        return amount * self.scale + self.rng.randint(0, self.scale // 3)

    def pick_account(self) -> int:
        """Return an account."""
        return self.rng.randint(1, self.accounts)

    def pick_market(self) -> int:
        """Return a market."""
        return self.rng.randrange(len(self.setup.markets))

    def pick_qty(self) -> int:
        """Return a quantity in lots."""
        return self.rng.choice((1, 2, 3, 5, 8, 13, 21, 40, 90))

    def pick_side(self) -> int:
        """Return a side."""
        return self.rng.choice((codes.BUY, codes.SELL))

    def near(self, market: int, width: int) -> int:
        """Return a price within `width` ticks of the market's center."""
        top = self.setup.markets[market].price_max_tick
        return max(1, min(top, self.centers[market] + self.rng.randint(-width, width)))

    def set_price(self, market: int, price_tick: int) -> None:
        """Move the price by what the mark model listens to, sometimes by what it does not."""
        model = self.setup.markets[market].mark_model
        if self.rng.random() < 0.03:
            model = self.rng.randrange(3)
        if model == codes.MARK_RECORDED:
            self.add(codes.MARK, market=market, price_tick=price_tick)
        elif model == codes.MARK_INDEX:
            self.add(codes.INDEX, market=market, price_tick=price_tick)
        elif model != codes.MARK_LAST:
            self.move_market(market, price_tick)
        else:
            qty = self.rng.choice((1, 1, 10, 60))
            self.add(codes.PRINT, market=market, price_tick=price_tick, qty_lot=qty, side=self.pick_side())

    def move_market(self, market: int, price_tick: int) -> None:
        """Move what a mark is derived from: the index, and mostly the touch of the book and the last trade with it."""
        if self.rng.random() < 0.9:
            self.add(codes.INDEX, market=market, price_tick=price_tick)
        for side in (codes.BUY, codes.SELL):
            if self.rng.random() < 0.6:
                price = price_tick - side * self.rng.choice((-4, 0, 1, 1, 2, 9))
                qty = self.rng.choice((0, 1, 2, 5)) * self.thinness
                self.add(codes.LEVEL, market=market, side=side, price_tick=price, qty_lot=qty)
        if self.rng.random() < 0.5:
            self.add(codes.PRINT, market=market, price_tick=price_tick, qty_lot=1, side=self.pick_side())

    def wait(self, dice: random.Random) -> None:
        """Let time pass where a mark or a funding rate depends on it; some of it by a command of its own."""
        if dice.random() < 0.3:
            steps = (1, 999_999_999, SECOND, 7 * SECOND, 61 * SECOND, 1_200 * SECOND, 3 * HOUR, 30 * HOUR, 9_000 * HOUR)
            self.ts_ns += dice.choices(steps, (4, 4, 9, 9, 9, 9, 9, 3, 1))[0]
            self.ts_ns += -self.ts_ns % SECOND if dice.random() < 0.3 else 0
            if dice.random() < 0.3:
                self.add(codes.CLOCK)

    # ------------------------------------------------------------ what may happen

    def open_day(self) -> None:
        """Give everybody money, the funds a little, the books some depth, the markets a mark."""
        rng = self.rng
        for market in range(len(self.setup.markets)):
            self.set_price(market, self.centers[market])
            if rng.random() < 0.7:
                self.add(codes.FUND_DEPOSIT, market=market, amount_quote=self.money(rng.choice((1, 20, 150, 1000))))
            for _ in range(rng.randint(0, 4)):
                self.level(market)
        for account in range(1, self.accounts + 1):
            for market in range(len(self.setup.markets)):
                if rng.random() < 0.25:
                    self.add(codes.SET_MARGIN_MODE, account=account, market=market, amount_quote=rng.randrange(2))
                if rng.random() < 0.5:
                    leverage = rng.choice((2, 10, 20, 50, 100, 125))
                    self.add(codes.SET_LEVERAGE, account=account, market=market, amount_quote=leverage)
            market = 0 if rng.random() < 0.7 else self.pick_market()
            amount = self.money(rng.randint(1, 2 * self.wealth))
            self.add(codes.DEPOSIT, account=account, market=market, amount_quote=amount)
            if self.has_portfolios and self.portfolio_rng.random() < 0.6:
                self.add(codes.SET_MARGIN_MODE, account=account, market=market, amount_quote=codes.PORTFOLIO)

    def level(self, market: int | None = None) -> None:
        """Set an outside level, mostly on its own side, sometimes crossing."""
        market = self.pick_market() if market is None else market
        side, width = self.pick_side(), self.rng.choice((3, 10, 40))
        offset = self.rng.randint(0, width) if self.rng.random() < 0.85 else -self.rng.randint(0, 5)
        price = max(1, min(self.setup.markets[market].price_max_tick, self.centers[market] - side * offset))
        qty = self.rng.choice((0, 1, 2, 5)) * self.thinness if self.rng.random() < 0.9 else self.rng.randint(0, 200)
        self.add(codes.LEVEL, market=market, side=side, price_tick=price, qty_lot=qty)

    def place(self) -> None:
        """Place an order of any kind near the center."""
        rng, market = self.rng, self.pick_market()
        flags, tif = 0, rng.choice((codes.GTC, codes.GTC, codes.GTC, codes.IOC, codes.FOK))
        if rng.random() < 0.15:
            flags |= codes.MARKET_ORDER
        if rng.random() < 0.15:
            flags |= codes.POST_ONLY
            tif = codes.GTC if rng.random() < 0.9 else tif
        if rng.random() < 0.2:
            flags |= codes.REDUCE_ONLY
        if rng.random() < 0.3:
            flags |= rng.choice((codes.STP_NEWEST, codes.STP_OLDEST, codes.STP_NEWEST | codes.STP_OLDEST))
        account = self.pick_account()
        order_id = self.next_id if rng.random() < 0.97 else rng.randint(-1, self.next_id)
        self.order(
            account, market, self.pick_side(), self.near(market, rng.choice((0, 2, 5, 30))), order_id, tif, flags
        )

    def order(
        self,
        account: int,
        market: int,
        side: int,
        price_tick: int,
        order_id: int,
        tif: int = codes.GTC,
        flags: int = 0,
        qty_lot: int = 0,
    ) -> None:
        """Append one place and remember its id."""
        fields = {"account": account, "market": market, "side": side, "price_tick": price_tick, "tif": tif}
        self.add(codes.PLACE, qty_lot=qty_lot or self.pick_qty(), order_id=order_id, flags=flags, **fields)
        if tif == codes.GTC:
            self.ids.append((order_id, account))
        self.next_id += 1

    def rest(self) -> None:
        """Queue an order behind the center, often reduce-only, often several at one price."""
        market, side = self.pick_market(), self.pick_side()
        price = self.near(market, 0) - side * self.rng.choice((1, 1, 2, 4, 9))
        price = max(1, min(self.setup.markets[market].price_max_tick, price))
        flags = self.rng.choice((0, 0, codes.REDUCE_ONLY, codes.POST_ONLY, codes.POST_ONLY | codes.REDUCE_ONLY))
        for _ in range(self.rng.randint(1, 3)):
            qty = self.rng.choice((1, 2, 4, 9))
            self.order(self.pick_account(), market, side, price, self.next_id, flags=flags, qty_lot=qty)

    def cross_self(self) -> None:
        """Let one account meet itself, with and without prevention."""
        account, market, side, price = self.pick_account(), self.pick_market(), self.pick_side(), 0
        price = self.near(market, 1)
        stops = (0, codes.STP_NEWEST, codes.STP_OLDEST, codes.STP_NEWEST | codes.STP_OLDEST)
        self.order(account, market, side, price, self.next_id, qty_lot=self.rng.randint(1, 5))
        flags = self.rng.choice(stops) | self.rng.choice((0, 0, codes.REDUCE_ONLY))
        tif = self.rng.choice((codes.GTC, codes.IOC, codes.FOK))
        self.order(account, market, -side, price, self.next_id, tif, flags, self.rng.randint(1, 8))

    def reduce_behind(self) -> None:
        """Trade, queue reduce-only orders against the position, and let some of them outlive it."""
        market, side, price = self.pick_market(), self.pick_side(), 0
        price, qty = self.near(market, 1), self.rng.randint(1, 6)
        account, other = self.pick_account(), self.pick_account()
        self.order(other, market, -side, price, self.next_id, qty_lot=qty)
        self.order(account, market, side, price, self.next_id, qty_lot=qty)
        away = max(1, min(self.setup.markets[market].price_max_tick, price + side * 2))
        for _ in range(2):
            self.order(account, market, -side, away, self.next_id, flags=codes.REDUCE_ONLY, qty_lot=qty)
        if self.rng.random() < 0.7:
            self.order(self.pick_account(), market, side, away, self.next_id, codes.IOC, qty_lot=2 * qty)

    def meet(self) -> None:
        """Let two accounts trade: the surest way to opposite positions."""
        market, side, price, qty = self.pick_market(), self.pick_side(), 0, self.pick_qty()
        price = self.near(market, self.rng.choice((0, 1, 4)))
        for part in (side, -side):
            self.order(self.pick_account(), market, part, price, self.next_id, qty_lot=qty)

    def dump(self) -> None:
        """Close in a hurry, far through a thin book: what reduces is not checked against margin."""
        market, side = self.pick_market(), self.pick_side()
        top = self.setup.markets[market].price_max_tick
        price = top if side == codes.BUY else 1
        if self.rng.random() < 0.6:
            far = max(1, min(top, self.centers[market] + side * self.rng.randint(5, 60)))
            self.add(codes.LEVEL, market=market, side=-side, price_tick=far, qty_lot=self.pick_qty())
        flags = codes.REDUCE_ONLY if self.rng.random() < 0.8 else 0
        self.order(self.pick_account(), market, side, price, self.next_id, codes.IOC, flags, qty_lot=90)

    def blow_out(self) -> None:
        """Trade at the center, then close far away while the mark stands still: a flat wallet below zero."""
        market, side, qty = self.pick_market(), self.pick_side(), self.rng.randint(3, 25)
        price, top = self.near(market, 1), self.setup.markets[market].price_max_tick
        account, other = self.pick_account(), self.pick_account()
        self.order(other, market, -side, price, self.next_id, qty_lot=qty)
        self.order(account, market, side, price, self.next_id, codes.IOC, qty_lot=qty)
        far = max(1, min(top, price - side * self.rng.choice((10, 30, 70))))
        self.add(codes.LEVEL, market=market, side=side, price_tick=far, qty_lot=90)
        self.order(account, market, -side, far, self.next_id, codes.IOC, codes.REDUCE_ONLY, 90)

    def creep(self) -> None:
        """Move a price one way in small steps, past call levels before triggers."""
        market, way = self.pick_market(), self.pick_side()
        for _ in range(self.rng.randint(3, 8)):
            top = self.setup.markets[market].price_max_tick
            self.centers[market] = max(1, min(top, self.centers[market] + way))
            self.set_price(market, self.centers[market])

    def drift(self) -> None:
        """Move a price a little."""
        market = self.pick_market()
        self.centers[market] = self.near(market, 4)
        self.set_price(market, self.centers[market])

    def crash(self) -> None:
        """Let a price gap, mostly with the book swept away before."""
        market = self.pick_market()
        if self.rng.random() < 0.5:
            for command in [c for c in self.commands if c.kind == codes.LEVEL and c.market == market][-12:]:
                self.add(codes.LEVEL, market=market, side=command.side, price_tick=command.price_tick)
        factor = self.rng.choice((0.5, 0.7, 0.85, 0.93, 1.08, 1.2, 1.5))
        top = self.setup.markets[market].price_max_tick
        self.centers[market] = max(1, min(top, int(self.centers[market] * factor) or 1))
        self.set_price(market, self.centers[market])
        if self.rng.random() < 0.3:
            # Back to where prices have room, so that a long stream does not end on the edge of the range.
            self.centers[market] = self.rng.randint(60, 160)

    def print_trade(self) -> None:
        """Report a recorded trade, sometimes off book."""
        market = self.pick_market()
        flags = codes.OFF_BOOK if self.rng.random() < 0.15 else 0
        price = self.near(market, self.rng.choice((1, 6, 20)))
        fields = {"price_tick": price, "qty_lot": self.pick_qty(), "side": self.pick_side(), "flags": flags}
        self.add(codes.PRINT, market=market, **fields)

    def amend(self) -> None:
        """Amend a recent order: smaller, larger, elsewhere."""
        order_id, account = self.rng.choice(self.ids[-9:]) if self.ids else (1, 1)
        account = account if self.rng.random() < 0.95 else self.pick_account()
        market = self.pick_market()
        price = self.near(market, self.rng.choice((0, 3, 10)))
        same = [c for c in self.commands if c.kind == codes.PLACE and c.order_id == order_id]
        if same and self.rng.random() < 0.6:
            price = same[-1].price_tick
        self.add(codes.AMEND, account=account, order_id=order_id, price_tick=price, qty_lot=self.pick_qty())

    def cancel(self) -> None:
        """Cancel a recent order, or one that never was."""
        order_id, account = self.rng.choice(self.ids[-9:]) if self.ids else (1, 1)
        if self.rng.random() < 0.15:
            order_id, account = self.rng.randint(-2, self.next_id + 5), self.pick_account()
        self.add(codes.CANCEL, account=account, order_id=order_id)

    def cancel_all(self) -> None:
        """Cancel all orders of an account in a market."""
        self.add(codes.CANCEL_ALL, account=self.pick_account(), market=self.pick_market())

    def move_money(self) -> None:
        """Deposit, withdraw, move margin, feed a fund."""
        rng, market, account = self.rng, self.pick_market(), self.pick_account()
        amount = self.money(rng.choice((1, 5, 30, 200, self.wealth)))
        kind = rng.choice((codes.DEPOSIT, codes.DEPOSIT, codes.WITHDRAW, codes.MOVE_MARGIN))
        if kind == codes.MOVE_MARGIN:
            for each in range(1, self.accounts + 1):
                signed = rng.choice((amount, -amount, 3, -3))
                self.add(kind, account=each, market=market, amount_quote=signed)
        else:
            self.add(kind, account=account, market=market, amount_quote=amount)
        if rng.random() < 0.05:
            self.add(codes.FUND_DEPOSIT, market=market, amount_quote=self.money(rng.choice((1, 40))))

    def settings(self) -> None:
        """Change leverage or margin mode."""
        account, market = self.pick_account(), self.pick_market()
        if self.rng.random() < 0.6:
            leverage = self.rng.choice((1, 2, 5, 20, 50, 100, 125, 1000))
            self.add(codes.SET_LEVERAGE, account=account, market=market, amount_quote=leverage)
        else:
            self.add(codes.SET_MARGIN_MODE, account=account, market=market, amount_quote=self.rng.choice((0, 1, 1, 2)))

    def funding(self) -> None:
        """Let a funding rate be paid."""
        rate = self.rng.choice((100_000, 3_000_000, 40_000_000, -100_000, -20_000_000, 0, 7))
        self.add(codes.FUNDING, market=self.pick_market(), amount_quote=rate)

    def set_tiers(self) -> None:
        """Put another tier table in force, sometimes one that is not there."""
        self.add(codes.SET_TIERS, market=self.pick_market(), amount_quote=self.rng.choice((0, 0, 1, 1, 2, 3, -1)))

    def assign(self) -> None:
        """Bring a position from elsewhere, some of them under water at once."""
        market = self.pick_market()
        fields = {"price_tick": self.near(market, 12), "qty_lot": self.pick_qty(), "side": self.pick_side()}
        amount = self.money(self.rng.choice((0, 5, 50, self.wealth)))
        self.add(codes.ASSIGN, account=self.pick_account(), market=market, amount_quote=amount, **fields)

    def sleep(self) -> None:
        """Let minutes or hours pass: what is timed falls due."""
        self.ts_ns += self.rng.choice((20, 61, 600, 3_700, 40_000)) * 1_000_000_000
        self.add(codes.CLOCK)

    def nonsense(self) -> None:
        """Send something that must be refused, or is at a limit."""
        rng = self.rng
        fields = {
            "account": rng.choice((0, -1, 1, self.accounts, 5_000)),
            "market": rng.choice((-1, 0, len(self.setup.markets), 99)),
            "side": rng.choice((-2, -1, 0, 1, 3)),
            "price_tick": rng.choice((-5, 0, 1, 100, 400, 401, 2**31, 2**62)),
            "qty_lot": rng.choice((-1, 0, 1, 5, 100, 101, 2**40, 2**40 + 1, 2**62)),
            "amount_quote": rng.choice((-(2**62), -1, 0, 1, 2**60, 2**60 + 1, 10**9, -(10**9) - 1)),
            "order_id": rng.choice((-1, 0, 1, self.next_id, 2**62)),
            "tif": rng.choice((0, 1, 2, 3, 255)),
            "flags": rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 32, 48, 64, 128, 65535)),
        }
        kind = rng.randint(-1, 20)
        if kind in (codes.DEPOSIT, codes.FUND_DEPOSIT, codes.ASSIGN) and fields["amount_quote"] > 2**40:
            fields["amount_quote"] = 2**60 + 1  # a fortune would keep everybody solvent for the rest of the stream
        ts_ns = self.ts_ns
        if rng.random() < 0.1:
            self.ts_ns = rng.choice((0, -1, self.ts_ns - 1))
        self.add(kind, **fields)
        self.ts_ns = ts_ns

    def almost(self) -> None:
        """Send a good command of any kind with one field broken."""
        rng = self.rng
        if not self.commands:
            return
        old = rng.choice(self.commands[-60:])
        fields = {name: getattr(old, name) for name in FIELDS if name not in ("ts_ns", "kind")}
        name = rng.choice(sorted(fields))
        values: dict[str, tuple[int, ...]] = {
            "account": (0, -1, self.accounts + 1),
            "market": (-1, 7),
            "side": (0, 2, -1, 1),
            "price_tick": (0, 401, 1, 400),
            "qty_lot": (0, -1, 101, 2**40 + 1),
            "amount_quote": (0, -1, 10**9 + 1, -(10**9) - 1),
            "order_id": (0, -1, self.next_id),
            "tif": (3, 1, 2),
            "flags": (64, 8, 3, 6),
        }
        fields[name] = rng.choice(values[name])
        self.add(old.kind, **fields)


WEIGHTS: dict[Callable[[Storm], None], int] = {
    Storm.place: 16,
    Storm.meet: 14,
    Storm.rest: 6,
    Storm.cross_self: 3,
    Storm.reduce_behind: 3,
    Storm.level: 12,
    Storm.drift: 5,
    Storm.crash: 5,
    Storm.dump: 3,
    Storm.blow_out: 3,
    Storm.creep: 3,
    Storm.print_trade: 5,
    Storm.amend: 5,
    Storm.cancel: 3,
    Storm.cancel_all: 1,
    Storm.move_money: 8,
    Storm.settings: 2,
    Storm.funding: 3,
    Storm.assign: 4,
    Storm.sleep: 2,
    Storm.nonsense: 3,
    Storm.almost: 2,
    Storm.set_tiers: 2,
}


def random_stream(seed: int, setup: Setup, steps: int, accounts: int = 8) -> list[Command]:
    """Return at least `steps` commands, a function of the arguments alone; times do not fall, but for refused ones."""
    storm = Storm(seed, setup, accounts)
    storm.open_day()
    scale = [weight * storm.rng.choice((0.3, 1, 1, 2)) for weight in WEIGHTS.values()]
    dice = random.Random(f"time {seed}")
    while len(storm.commands) < steps:
        storm.ts_ns += storm.rng.choice((0, 0, 1, 1_000_000))
        if any(is_derived(rules) for rules in setup.markets):
            storm.wait(dice)
        storm.rng.choices(list(WEIGHTS), scale)[0](storm)
    return storm.commands[:steps]
