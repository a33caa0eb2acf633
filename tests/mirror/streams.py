"""Hostile command streams: small prices, few accounts, deep leverage, thin books, low funds, and much that is refused.

`random_stream` is a plain seeded generator for long runs; `streams` is the hypothesis strategy, which shrinks.  Neither
looks into an engine: a stream is a function of its arguments alone.
"""

import random
from dataclasses import dataclass
from decimal import Decimal

import msgspec
import numpy as np
from hypothesis import strategies as st
from msgspec import structs

from engine import codes
from engine.contract import AdlPolicy, FundingPolicy, Market, PortfolioPolicy, Setup, Tier, build_setup, is_derived
from engine.layout import COMMAND

FIELDS = tuple(name for name in COMMAND.names if not name.startswith("_"))
SECOND, HOUR = 10**9, 3_600 * 10**9
LARGE = 29_999_999_999  # money per tick and lot at which products with a rate pass 2^63


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


def pack_commands(commands):
    """Return commands as a COMMAND array."""
    rows = np.zeros(len(commands), COMMAND)
    for name in FIELDS:
        rows[name] = [getattr(command, name) for command in commands]
    return rows


# ---------------------------------------------------------------- setups


def make_tiers(style, scale):
    """Return tiers: 0 one flat tier, 1 three tiers a small position crosses, 2 very deep leverage."""
    if style == 0:
        return (Tier(floor=Decimal(0), initial=Decimal("0.05"), maintenance=Decimal("0.025")),)
    if style == 1:
        return (
            Tier(floor=Decimal(0), initial=Decimal("0.02"), maintenance=Decimal("0.01")),
            Tier(floor=Decimal(2000 * scale), initial=Decimal("0.05"), maintenance=Decimal("0.025")),
            Tier(floor=Decimal(10000 * scale), initial=Decimal("0.2"), maintenance=Decimal("0.1")),
        )
    return (
        Tier(floor=Decimal(0), initial=Decimal("0.008"), maintenance=Decimal("0.004")),
        Tier(floor=Decimal(5000 * scale), initial=Decimal("0.05"), maintenance=Decimal("0.02")),
    )


def make_market(index, rng, scale=1):
    """Return a random small market; `scale` makes its money large, and leaves prices and quantities as they are."""
    multiplier = rng.choice((1, 1, 3, 7)) * scale
    style = rng.randrange(3)
    maker = rng.choice(("0.0002", "-0.0001", "0", "0.003"))
    return Market(
        symbol=f"M{index}",
        tick_size=Decimal(multiplier),
        lot_size=Decimal(1),
        quote_unit=Decimal(1),
        tiers=make_tiers(style, scale),
        fund=rng.choice(("shared", "shared", f"own{index}")),
        price_max=Decimal(400 * multiplier),
        open_interest_max=Decimal(rng.choice((120, 400, 2000))),
        order_max=Decimal(100),
        maker_fee=Decimal(maker),
        taker_fee=Decimal(rng.choice(("0.0005", "0.004", "0.0001"))),
        liquidation_fee=Decimal(rng.choice(("0", "0.005", "0.02"))),
        order_collar=Decimal(rng.choice(("0.05", "0.3"))),
        liquidation_collar=Decimal(rng.choice(("0.1", "0.02", "0.5"))),
        default_leverage=rng.choice((5, 10, 20)),
        margin_mode=rng.choice(("cross", "cross", "isolated")),
        margin_call=Decimal(rng.choice(("1.25", "2", "0"))),
        mark_model=rng.choice(codes.MARK_MODELS[:3]),
        initial_mark=rng.choice((None, Decimal(100 * multiplier))),
        adl=AdlPolicy(fees=rng.choice(("on", "on", "off"))),
    )


def make_setup(seed):
    """Return one to three random markets; mostly one asset, sometimes the last market settles in another."""
    rng = random.Random(seed)
    scale = LARGE if rng.random() < 0.15 else 1
    markets = [make_market(index, rng, scale) for index in range(rng.choice((1, 2, 3, 3)))]
    call = markets[0].margin_call
    made = []
    for index, market in enumerate(markets):
        is_other = index == 2 and rng.random() < 0.3
        settle, fund = ("BTC", "other") if is_other else ("USDT", market.fund)
        market = replace_market(market, settle=settle, fund=fund, margin_call=call)
        for draw in POLICY_DRAWS:  # each with dice of its own: a new one leaves the others' streams as they are
            market = draw(random.Random(f"{draw.__name__} {seed} {index}"), market)
        made.append(market)
    for setup_draw in SETUP_DRAWS:
        made = setup_draw(random.Random(f"{setup_draw.__name__} {seed}"), made)
    return build_setup(agree(made))


def raise_rates(tiers):
    """Return a table whose rates are forty times as high."""
    return tuple(structs.replace(tier, initial=tier.initial * 40, maintenance=tier.maintenance * 40) for tier in tiers)


def draw_house(rng, market):
    """Choose a backstop, what the house does with what it has, and how the market settles."""
    if rng.random() < 0.5:
        return market
    settlement = rng.choice(("close", "mark"))
    backstop = rng.choice(("takeover", "vault", "vault", "adl"))
    unwind = "none" if backstop == "adl" else rng.choice(("none", "immediate", "stepped", "stepped"))
    policy = structs.replace(
        market.liquidation,
        backstop=backstop,
        vault_below=Decimal(rng.choice(("0.666667", "1", "0.3"))),
        takeover_price=rng.choice(("bankruptcy", "mark")),
        carry=Decimal(rng.choice(("0", "0", "2", "30"))),
        unwind=unwind,
        unwind_interval_s=Decimal(rng.choice(("0.000000001", "0.001", "0.01"))),
        unwind_share=Decimal(rng.choice(("0.5", "0.1", "1"))),
        unwind_full=rng.choice((0, 3, 20)) * market.lot_size,
        unwind_depth=Decimal(rng.choice(("1", "0.5", "0.01"))),
        unwind_range=Decimal(rng.choice(("0.02", "0.1", "0.5")))
        if unwind == "stepped"
        else Decimal(rng.choice((0, 0, 1))) / 5,
        unwind_last=rng.choice(("off", "on")),
        closeout_fee=Decimal(rng.choice(("0", "0.001", "0.1"))),
    )
    changes = {
        "liquidation": policy,
        "settlement": settlement,
        "order_margin": rng.choice(("initial", "initial", "none")),
    }
    if settlement == "mark":
        changes["margin_mode"] = "cross"
        tables = (market.tiers, *market.tier_tables)
        if rng.random() < 0.3 and market.tick_size < LARGE:
            tables = tuple(raise_rates(tiers) for tiers in tables)
            changes |= {"tiers": tables[0], "tier_tables": tables[1:]}
            changes |= {"default_leverage": 1, "margin_call": Decimal(0)}
        if rng.random() < 0.5:
            extra = min(tier.initial - tier.maintenance for tiers in tables for tier in tiers)
            changes["short_maintenance"] = rng.choice((extra, -min(tiers[0].maintenance for tiers in tables) / 2))
    return replace_market(market, **changes)


def draw_inverse(rng, market):
    """Make about a third of the markets inverse: a lot is worth about what it was, sometimes but a few units."""
    if rng.random() < 0.65:
        return market
    scale = LARGE if market.tick_size >= LARGE else 1
    worth = rng.choice((10_000, 10_000, 30_000, 3_000, 777)) * scale
    lot = market.tick_size * worth
    most = min(int(market.open_interest_max), (1 << 58) // worth)
    changes = {"open_interest_max": lot * most, "order_max": lot * min(100, most)}
    return replace_market(market, kind="inverse", lot_size=lot, **changes)


def draw_tables(rng, market):
    """Give about half of the markets one to three further tier tables, laxer and stricter ones."""
    if rng.random() < 0.5:
        return market
    scale = LARGE if market.tick_size >= LARGE else 1
    strict = Tier(floor=Decimal(0), initial=Decimal("0.3"), maintenance=Decimal("0.15"))
    tables = [make_tiers(rng.randrange(3), scale) for _ in range(rng.choice((1, 1, 2)))]
    return replace_market(market, tier_tables=(*tables, *([(strict,)] if rng.random() < 0.4 else [])))


def draw_adl(rng, market):
    """Choose the policies of auto-deleveraging, each of them alone often enough."""
    if rng.random() < 0.5:
        return market

    def pick(group):
        names = codes.POLICIES[group]
        return rng.choice(names) if rng.random() < 0.7 else names[0]

    drawdown = rng.choice(("0.1", "0.3", "0.5"))
    policy = AdlPolicy(
        trigger=pick("adl_trigger"),
        price=pick("adl_price"),
        score=pick("adl_score"),
        allocation=pick("adl_allocation"),
        fees=market.adl.fees,
        lights=pick("lights"),
        cancel_victims=pick("adl_cancel_victims"),
        drawdown=Decimal(drawdown),
        release=Decimal(rng.choice(("0.05", drawdown))) if drawdown != "0.1" else Decimal("0.1"),
        window_h=rng.choice((1, 1, 8)),
        within=Decimal(rng.choice(("0", "0.05", "0.2"))),
    )
    return replace_market(market, adl=policy)


def draw_stages(rng, market):
    """Choose stages 1 to 3 of the waterfall and the gate of the backstop."""
    if rng.random() < 0.5:
        return market
    unit = market.tick_size
    size = rng.choice(("full", "tiered", "share", "share"))
    cooldown = rng.choice(("0", "0", "0.000000003", "0.0004", "0.003"))
    is_patient = size != "share" or cooldown == "0" or rng.random() < 0.5
    policy = {
        "cancel": rng.choice(("account", "market", "none", "none")),
        "size": size,
        "share": Decimal(rng.choice(("0.2", "0.01", "0.35", "1"))),
        "share_min": rng.choice((0, 0, 90, 700)) * unit,
        "full_below": rng.choice((0, 0, 150, 900)) * unit,
        "step_max": rng.choice((0, 250, 1500)) * unit if cooldown != "0" else Decimal(0),
        "cooldown_s": Decimal(cooldown),
        "after_share": "wait" if is_patient else "full",
        "limit": rng.choice(("none", "bankruptcy", "fillable", "fillable")),
        "spread": Decimal(rng.choice(("0", "0.1", "1.5", "10"))),
        "adjustment": Decimal(rng.choice(("1", "1.3", "40"))),
        "surplus": rng.choice(("fund", "trader", "capped_fee")),
        "surplus_fee": Decimal(rng.choice(("0", "0.005", "0.03"))),
        "shortfall": rng.choice(("cut", "refuse")),
        "fund_loss_max": rng.choice((0, 0, 3, 40)) * unit,
    }
    liquidation = structs.replace(market.liquidation, **policy)
    adl = structs.replace(market.adl, gate=rng.choice(("always", "insolvent", "insolvent")))
    return replace_market(market, liquidation=liquidation, adl=adl)


def draw_marks(rng, market):
    """Derive the mark, the funding rate, or both from the book."""
    if rng.random() < 0.5:
        return market
    scale = LARGE if market.tick_size >= LARGE else 1
    model = rng.choice((market.mark_model, "median3", "median3", "ema_basis", "ema_basis"))
    funding = FundingPolicy(
        model=rng.choice(("recorded", "premium", "premium")),
        interval_h=rng.choice((1, 2, 8)),
        offset_h=rng.choice((0, 0, 1)) if rng.random() < 0.3 else 0,
        period_h=rng.choice((0, 0, 8, 24)),
        interest=Decimal(rng.choice(("0.0001", "0", "-0.003", "0.02"))),
        clamp=Decimal(rng.choice(("0.0005", "0", "0.01", "1"))),
        cap=Decimal(rng.choice(("0", "0", "0.04", "0.000000001"))),
        premium=rng.choice(("mid", "impact")) if market.kind == "linear" else "mid",
        impact_notional=Decimal(rng.choice((1, 90, 700, 5000)) * scale),
        average=rng.choice(("flat", "linear")),
        sample_s=rng.choice((1, 60, 600, 3600)),
        pay_on=rng.choice(("mark", "index")),
    )
    if funding.offset_h >= funding.interval_h:
        funding = msgspec.structs.replace(funding, offset_h=0)
    return replace_market(
        market,
        mark_model=model,
        basis_interval_s=rng.choice((1, 3, 60)),
        basis_samples=rng.choice((1, 3, 30)),
        basis_tau_s=rng.choice((1, 30, 150)),
        basis_band=Decimal(rng.choice(("0", "0", "0.005", "0.1"))),
        closeout_moves_last=rng.random() < 0.7,
        funding=funding,
    )


# Functions (rng, market) -> market that choose policies; about half of the markets keep the defaults.
POLICY_DRAWS = (draw_inverse, draw_tables, draw_adl, draw_stages, draw_marks, draw_house)


def draw_portfolio(rng, markets):
    """Give half of the setups price moves and underlyings, and half of those portfolio margin from the start."""
    if rng.random() < 0.5:
        return markets
    curved = {market.settle for market in markets if market.kind == "inverse"}
    starts = {market.settle: rng.random() < 0.5 and market.settle not in curved for market in markets}
    modes = ["portfolio" if starts[market.settle] else market.margin_mode for market in markets]
    given = give_portfolios(rng, markets)
    return [replace_market(market, margin_mode=mode) for market, mode in zip(given, modes, strict=True)]


def give_portfolios(rng, markets):
    """Return markets with price moves, on one or two underlyings."""
    grids = {}
    for name in "UV":
        down, up = (Decimal(rng.choice(("0.01", "0.03", "0.1", "0.25"))) for _ in range(2))
        moves = sorted({-down, -down / 2, up / 4, up, *([Decimal(0)] if rng.random() < 0.5 else [])})
        contingency = Decimal(rng.choice(("0.000001", "0.005", "0.02")))
        initial = Decimal(rng.choice(("1", "1.3", "2")))
        grids[name] = PortfolioPolicy(moves=tuple(moves), contingency=contingency, initial=initial)
    names = [rng.choice("UUV") for _ in markets]
    return [
        replace_market(market, underlying=name, portfolio=grids[name]) if market.kind == "linear" else market
        for market, name in zip(markets, names, strict=True)
    ]


# Functions (rng, markets) -> markets that choose what the markets of a setup must agree on.
SETUP_DRAWS = (draw_portfolio,)


def agree(markets):
    """Return markets that agree where those of one asset must: on the first one's settlement and margin call."""
    made = []
    for market in markets:
        alike = [other for other in markets if other.settle == market.settle]
        first = alike[0]
        highest = max(tiers[-1].maintenance for other in alike for tiers in (other.tiers, *other.tier_tables))
        call = first.margin_call if highest * first.margin_call < 1 else Decimal(0)
        changes = {"settlement": first.settlement, "margin_call": call}
        if first.settlement == "mark":
            changes |= {"margin_mode": "cross", "portfolio": None, "underlying": ""}
        elif market.settlement == "mark":
            changes |= {
                "short_maintenance": Decimal(0),
                "tiers": make_tiers(0, 1),
                "tier_tables": (),
                "default_leverage": 5,
            }
        made.append(replace_market(market, **changes))
    return made


def replace_market(market, **changes):
    """Return a market with some fields changed."""
    return Market(**({name: getattr(market, name) for name in market.__struct_fields__} | changes))


# ---------------------------------------------------------------- the plain generator


class Storm:
    """One stream in the making: where prices are, which ids were used, how hostile the mood is."""

    def __init__(self, seed, setup, accounts):
        self.rng = random.Random(seed)
        self.setup = setup
        self.accounts = accounts
        self.centers = [rules.initial_mark_tick or self.rng.randint(60, 160) for rules in setup.markets]
        self.next_id = 1
        self.ids = []  # (order id, account) of what may still rest
        self.ts_ns = 1_000
        self.commands = []
        self.wealth = self.rng.choice((100, 400, 2000, 10000))
        self.scale = LARGE if setup.markets[0].multiplier >= LARGE else 1
        self.thinness = self.rng.choice((1, 4, 20))
        # dice of their own, so that setups without portfolios keep the streams they had
        self.portfolio_rng = random.Random(f"portfolios {seed}")
        self.has_portfolios = all(rules.moves_ppm for rules in setup.markets)

    def add(self, kind, **fields):
        """Append one command at the present time."""
        self.commands.append(Command(ts_ns=self.ts_ns, kind=kind, **fields))

    def money(self, amount):
        """Return an amount in the market's money, where that is large never a round one."""
        if self.scale == 1 or amount == 0:
            return amount
        return amount * self.scale + self.rng.randint(0, self.scale // 3)

    def pick_account(self):
        return self.rng.randint(1, self.accounts)

    def pick_market(self):
        return self.rng.randrange(len(self.setup.markets))

    def pick_qty(self):
        return self.rng.choice((1, 2, 3, 5, 8, 13, 21, 40, 90))

    def pick_side(self):
        return self.rng.choice((codes.BUY, codes.SELL))

    def near(self, market, width):
        """Return a price within `width` ticks of the market's center."""
        top = self.setup.markets[market].price_max_tick
        return max(1, min(top, self.centers[market] + self.rng.randint(-width, width)))

    def set_price(self, market, price_tick):
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

    def move_market(self, market, price_tick):
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

    def wait(self, dice):
        """Let time pass where a mark or a funding rate depends on it; some of it by a command of its own."""
        if dice.random() < 0.3:
            steps = (1, 999_999_999, SECOND, 7 * SECOND, 61 * SECOND, 1_200 * SECOND, 3 * HOUR, 30 * HOUR, 9_000 * HOUR)
            self.ts_ns += dice.choices(steps, (4, 4, 9, 9, 9, 9, 9, 3, 1))[0]
            self.ts_ns += -self.ts_ns % SECOND if dice.random() < 0.3 else 0
            if dice.random() < 0.3:
                self.add(codes.CLOCK)

    # ------------------------------------------------------------ what may happen

    def open_day(self):
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

    def level(self, market=None):
        """Set an outside level, mostly on its own side, sometimes crossing."""
        market = self.pick_market() if market is None else market
        side, width = self.pick_side(), self.rng.choice((3, 10, 40))
        offset = self.rng.randint(0, width) if self.rng.random() < 0.85 else -self.rng.randint(0, 5)
        price = max(1, min(self.setup.markets[market].price_max_tick, self.centers[market] - side * offset))
        qty = self.rng.choice((0, 1, 2, 5)) * self.thinness if self.rng.random() < 0.9 else self.rng.randint(0, 200)
        self.add(codes.LEVEL, market=market, side=side, price_tick=price, qty_lot=qty)

    def place(self):
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

    def order(self, account, market, side, price_tick, order_id, tif=codes.GTC, flags=0, qty_lot=0):
        """Append one place and remember its id."""
        fields = {"account": account, "market": market, "side": side, "price_tick": price_tick, "tif": tif}
        self.add(codes.PLACE, qty_lot=qty_lot or self.pick_qty(), order_id=order_id, flags=flags, **fields)
        if tif == codes.GTC:
            self.ids.append((order_id, account))
        self.next_id += 1

    def rest(self):
        """Queue an order behind the center, often reduce-only, often several at one price."""
        market, side = self.pick_market(), self.pick_side()
        price = self.near(market, 0) - side * self.rng.choice((1, 1, 2, 4, 9))
        price = max(1, min(self.setup.markets[market].price_max_tick, price))
        flags = self.rng.choice((0, 0, codes.REDUCE_ONLY, codes.POST_ONLY, codes.POST_ONLY | codes.REDUCE_ONLY))
        for _ in range(self.rng.randint(1, 3)):
            qty = self.rng.choice((1, 2, 4, 9))
            self.order(self.pick_account(), market, side, price, self.next_id, flags=flags, qty_lot=qty)

    def cross_self(self):
        """Let one account meet itself, with and without prevention."""
        account, market, side, price = self.pick_account(), self.pick_market(), self.pick_side(), 0
        price = self.near(market, 1)
        stops = (0, codes.STP_NEWEST, codes.STP_OLDEST, codes.STP_NEWEST | codes.STP_OLDEST)
        self.order(account, market, side, price, self.next_id, qty_lot=self.rng.randint(1, 5))
        flags = self.rng.choice(stops) | self.rng.choice((0, 0, codes.REDUCE_ONLY))
        tif = self.rng.choice((codes.GTC, codes.IOC, codes.FOK))
        self.order(account, market, -side, price, self.next_id, tif, flags, self.rng.randint(1, 8))

    def reduce_behind(self):
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

    def meet(self):
        """Let two accounts trade: the surest way to opposite positions."""
        market, side, price, qty = self.pick_market(), self.pick_side(), 0, self.pick_qty()
        price = self.near(market, self.rng.choice((0, 1, 4)))
        for part in (side, -side):
            self.order(self.pick_account(), market, part, price, self.next_id, qty_lot=qty)

    def dump(self):
        """Close in a hurry, far through a thin book: what reduces is not checked against margin."""
        market, side = self.pick_market(), self.pick_side()
        top = self.setup.markets[market].price_max_tick
        price = top if side == codes.BUY else 1
        if self.rng.random() < 0.6:
            far = max(1, min(top, self.centers[market] + side * self.rng.randint(5, 60)))
            self.add(codes.LEVEL, market=market, side=-side, price_tick=far, qty_lot=self.pick_qty())
        flags = codes.REDUCE_ONLY if self.rng.random() < 0.8 else 0
        self.order(self.pick_account(), market, side, price, self.next_id, codes.IOC, flags, qty_lot=90)

    def blow_out(self):
        """Trade at the center, then close far away while the mark stands still: a flat wallet below zero."""
        market, side, qty = self.pick_market(), self.pick_side(), self.rng.randint(3, 25)
        price, top = self.near(market, 1), self.setup.markets[market].price_max_tick
        account, other = self.pick_account(), self.pick_account()
        self.order(other, market, -side, price, self.next_id, qty_lot=qty)
        self.order(account, market, side, price, self.next_id, codes.IOC, qty_lot=qty)
        far = max(1, min(top, price - side * self.rng.choice((10, 30, 70))))
        self.add(codes.LEVEL, market=market, side=side, price_tick=far, qty_lot=90)
        self.order(account, market, -side, far, self.next_id, codes.IOC, codes.REDUCE_ONLY, 90)

    def creep(self):
        """Move a price one way in small steps, past call levels before triggers."""
        market, way = self.pick_market(), self.pick_side()
        for _ in range(self.rng.randint(3, 8)):
            top = self.setup.markets[market].price_max_tick
            self.centers[market] = max(1, min(top, self.centers[market] + way))
            self.set_price(market, self.centers[market])

    def drift(self):
        """Move a price a little."""
        market = self.pick_market()
        self.centers[market] = self.near(market, 4)
        self.set_price(market, self.centers[market])

    def crash(self):
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

    def print_trade(self):
        """Report a recorded trade, sometimes off book."""
        market = self.pick_market()
        flags = codes.OFF_BOOK if self.rng.random() < 0.15 else 0
        price = self.near(market, self.rng.choice((1, 6, 20)))
        fields = {"price_tick": price, "qty_lot": self.pick_qty(), "side": self.pick_side(), "flags": flags}
        self.add(codes.PRINT, market=market, **fields)

    def amend(self):
        """Amend a recent order: smaller, larger, elsewhere."""
        order_id, account = self.rng.choice(self.ids[-9:]) if self.ids else (1, 1)
        account = account if self.rng.random() < 0.95 else self.pick_account()
        market = self.pick_market()
        price = self.near(market, self.rng.choice((0, 3, 10)))
        same = [c for c in self.commands if c.kind == codes.PLACE and c.order_id == order_id]
        if same and self.rng.random() < 0.6:
            price = same[-1].price_tick
        self.add(codes.AMEND, account=account, order_id=order_id, price_tick=price, qty_lot=self.pick_qty())

    def cancel(self):
        """Cancel a recent order, or one that never was."""
        order_id, account = self.rng.choice(self.ids[-9:]) if self.ids else (1, 1)
        if self.rng.random() < 0.15:
            order_id, account = self.rng.randint(-2, self.next_id + 5), self.pick_account()
        self.add(codes.CANCEL, account=account, order_id=order_id)

    def cancel_all(self):
        self.add(codes.CANCEL_ALL, account=self.pick_account(), market=self.pick_market())

    def move_money(self):
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

    def settings(self):
        account, market = self.pick_account(), self.pick_market()
        if self.rng.random() < 0.6:
            leverage = self.rng.choice((1, 2, 5, 20, 50, 100, 125, 1000))
            self.add(codes.SET_LEVERAGE, account=account, market=market, amount_quote=leverage)
        else:
            self.add(codes.SET_MARGIN_MODE, account=account, market=market, amount_quote=self.rng.choice((0, 1, 1, 2)))

    def funding(self):
        rate = self.rng.choice((100_000, 3_000_000, 40_000_000, -100_000, -20_000_000, 0, 7))
        self.add(codes.FUNDING, market=self.pick_market(), amount_quote=rate)

    def set_tiers(self):
        """Put another tier table in force, sometimes one that is not there."""
        self.add(codes.SET_TIERS, market=self.pick_market(), amount_quote=self.rng.choice((0, 0, 1, 1, 2, 3, -1)))

    def assign(self):
        """Bring a position from elsewhere, some of them under water at once."""
        market = self.pick_market()
        fields = {"price_tick": self.near(market, 12), "qty_lot": self.pick_qty(), "side": self.pick_side()}
        amount = self.money(self.rng.choice((0, 5, 50, self.wealth)))
        self.add(codes.ASSIGN, account=self.pick_account(), market=market, amount_quote=amount, **fields)

    def sleep(self):
        """Let minutes or hours pass: what is timed falls due."""
        self.ts_ns += self.rng.choice((20, 61, 600, 3_700, 40_000)) * 1_000_000_000
        self.add(codes.CLOCK)

    def nonsense(self):
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

    def almost(self):
        """Send a good command of any kind with one field broken."""
        rng = self.rng
        if not self.commands:
            return
        old = rng.choice(self.commands[-60:])
        fields = {name: getattr(old, name) for name in FIELDS if name not in ("ts_ns", "kind")}
        name = rng.choice(sorted(fields))
        values = {
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


WEIGHTS = {
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


def random_stream(seed, setup, steps, accounts=8):
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


# ---------------------------------------------------------------- the shrinking generator

# Drawn amounts are small, so markets with large money are left to the plain generator.
SETUP_SEEDS = tuple(seed for seed in range(28) if make_setup(seed).markets[0].multiplier < LARGE)


@st.composite
def setups(draw):
    """Draw one of the small setups."""
    return make_setup(draw(st.sampled_from(SETUP_SEEDS)))


def command_strategy(setup, accounts):
    """Return a strategy of single commands, good and bad, without a time."""
    account, market = st.integers(1, accounts), st.integers(0, len(setup.markets) - 1)
    side, price, qty = st.sampled_from((codes.BUY, codes.SELL)), st.integers(80, 120), st.integers(1, 30)
    order_id, amount = st.integers(1, 40), st.integers(1, 3000)
    flags = st.sampled_from((0, 0, 0, 0, 1, 2, 4, 4, 5, 16, 20, 32, 36, 48))
    tif = st.sampled_from((codes.GTC, codes.GTC, codes.GTC, codes.IOC, codes.FOK))
    any_price = st.one_of(price, st.integers(1, 400))
    wild = {
        "account": st.integers(-1, accounts + 2),
        "market": st.integers(-1, len(setup.markets)),
        "side": st.integers(-2, 2),
        "price_tick": st.integers(-1, 402),
        "qty_lot": st.integers(-1, 130),
        "amount_quote": st.integers(-3000, 3000),
        "order_id": st.integers(-1, 40),
        "tif": st.integers(0, 3),
        "flags": st.integers(0, 130),
    }

    def make(kind, **fields):
        return st.builds(Command, kind=st.just(kind), **fields)

    orders = {"account": account, "market": market, "side": side, "order_id": order_id}
    placing = make(codes.PLACE, price_tick=price, qty_lot=qty, tif=tif, flags=flags, **orders)
    marking = make(codes.MARK, market=market, price_tick=any_price)
    return st.one_of(
        placing,
        placing,
        placing,
        make(codes.PLACE, price_tick=price, qty_lot=qty, **orders),
        make(codes.DEPOSIT, account=account, market=market, amount_quote=amount),
        make(codes.LEVEL, market=market, side=side, price_tick=price, qty_lot=st.integers(0, 30)),
        marking,
        marking,
        make(codes.INDEX, market=market, price_tick=any_price),
        make(
            codes.PRINT, market=market, side=side, price_tick=any_price, qty_lot=qty, flags=st.sampled_from((0, 0, 8))
        ),
        make(codes.AMEND, account=account, order_id=order_id, price_tick=price, qty_lot=qty),
        make(codes.CANCEL, account=account, order_id=order_id),
        make(codes.CANCEL_ALL, account=account, market=market),
        make(codes.WITHDRAW, account=account, market=market, amount_quote=amount),
        make(codes.MOVE_MARGIN, account=account, market=market, amount_quote=st.integers(-500, 500)),
        make(codes.SET_LEVERAGE, account=account, market=market, amount_quote=st.integers(0, 130)),
        make(codes.SET_MARGIN_MODE, account=account, market=market, amount_quote=st.integers(0, 2)),
        make(codes.FUNDING, market=market, amount_quote=st.integers(-60_000_000, 60_000_000)),
        make(codes.FUND_DEPOSIT, market=market, amount_quote=st.integers(0, 200)),
        make(codes.SET_TIERS, market=market, amount_quote=st.integers(0, 2)),
        make(codes.ASSIGN, price_tick=price, qty_lot=qty, amount_quote=st.integers(0, 300), **orders),
        st.builds(Command, kind=st.integers(0, 20), **wild),
    )


@st.composite
def streams(draw, accounts=6, steps=60):
    """Draw a setup and a stream for it: marks and money first, so that short streams already trade."""
    setup: Setup = draw(setups())
    opening = [
        Command(kind=kind, market=market, price_tick=100, qty_lot=1, side=codes.BUY)
        for market in range(len(setup.markets))
        for kind in (codes.MARK, codes.INDEX, codes.PRINT)
    ]
    opening += [
        Command(kind=codes.DEPOSIT, account=account, amount_quote=draw(st.integers(1, 600)))
        for account in range(1, accounts + 1)
    ]
    drawn = draw(st.lists(command_strategy(setup, accounts), min_size=1, max_size=steps))
    commands = opening + drawn
    for index, command in enumerate(commands):
        command.ts_ns = index // 2
    return setup, commands
