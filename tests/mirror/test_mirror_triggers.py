"""Cross accounts over many markets: no trigger is missed, whatever the marks do and in whatever order.

The reference engine looks at every domain after every command: it is the full scan that the ladder of triggers must not
differ from.  The prices at which something must happen are computed here, from the spec's formulas.
"""

import random
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine import codes
from engine.codes import BUY, CROSS, EXTERNAL, PPM, SELL
from engine.contract import Market, Tier, build_setup
from engine.layout import CALLED
from tests.mirror import streams
from tests.mirror.streams import Command
from tests.mirror.twins import Twins

SEEDS = 24
STEPS = 150
START = 100  # every mark at first
seen: Counter[str] = Counter()


# ---------------------------------------------------------------- the spec's formulas, once more


@cache  # the walks ask for few different ones, many times each
def ask_maintenance(tiers, notional):
    """Return the maintenance of a notional: tiers are (floor, rate in ppm) (MARGIN-002)."""
    deduction = Fraction(0)
    for before, tier in pairwise(tiers):
        if tier[0] <= notional:
            deduction += Fraction(tier[0] * (tier[1] - before[1]), PPM)
    rate = [rate for floor, rate in tiers if floor <= notional][-1]
    assert deduction.denominator == 1
    return -(-notional * rate // PPM) - int(deduction)


@cache
def ask_value(kind, price, qty, unit):
    """Return what a signed quantity is worth (NUM-002, INV-001)."""
    return price * qty * unit if kind == codes.LINEAR else round(Fraction(-qty * unit, price))


class Plain:
    """A domain in plain integers: wallet, and per position its kind, signed lots, cost, unit and tiers."""

    def __init__(self, wallet, parts, need_ppm=PPM):
        self.wallet, self.parts, self.need_ppm = wallet, parts, need_ppm

    def spare_at(self, marks):
        """Return what equity is above the requirement at these marks, in the order of the positions (MARGIN-001)."""
        equity, maintenance = self.wallet, 0
        for mark, (kind, qty, cost, unit, tiers) in zip(marks, self.parts, strict=True):
            value = ask_value(kind, mark, qty, unit)
            equity += value - cost
            maintenance += ask_maintenance(tiers, abs(value))
        return equity + (-maintenance * self.need_ppm // PPM)


# ---------------------------------------------------------------- exactly the slack

FLAT = ((0, 20_000),)
STEEP = ((0, 10_000), (2_000, 25_000), (10_000, 100_000))
CLIFF = ((0, 50_000), (10_000, 600_000))

# name: (tiers, signed lots per market, marks at which they have used up exactly the slack)
EXACT = {
    "two longs": (FLAT, (50, 50), (91, 91)),
    "two shorts": (FLAT, (-50, -50), (108, 108)),
    "a long and a short": (FLAT, (50, -50), (92, 107)),
    "a large long and a small short": (FLAT, (90, -10), (88, 112)),
    "a long leaves its tier": (STEEP, (30, 30), (61, 60)),
    "a short enters the next tier": (STEEP, (-15, -15), (141, 140)),
    "both tiers change": (STEEP, (30, -17), (62, 137)),
    "a short passes two tiers": (STEEP, (-60, 12), (190, 90)),
    "a short goes over a cliff": (CLIFF, (-95, 20), (108, 96)),
    "three longs": (FLAT, (50, 40, 30), (93, 93, 92)),
    "four, both ways": (STEEP, (25, -18, 40, -9), (81, 114, 84, 130)),
    "much to lose": (FLAT, (20, -20), (40, 158)),
}


def make_exact_setup(tiers, count, call):
    """Return markets in which price, lots and money are the same whole numbers, without fees."""
    rates = [Decimal(rate) / PPM for _, rate in tiers]
    listed = tuple(
        Tier(floor=Decimal(tier[0]), initial=rate, maintenance=rate) for tier, rate in zip(tiers, rates, strict=True)
    )
    fields = {"tick_size": Decimal(1), "lot_size": Decimal(1), "quote_unit": Decimal(1), "price_max": Decimal(1000)}
    fields |= {"maker_fee": Decimal(0), "taker_fee": Decimal(0), "initial_mark": Decimal(START), "tiers": listed}
    return build_setup([Market(symbol=f"M{index}", margin_call=Decimal(call), **fields) for index in range(count)])


def walk_between(ends, order):
    """Yield (market, mark): whole moves of one market after the other, or a tick of each in turn."""
    if order == "whole":
        yield from enumerate(ends)
        return
    if order == "whole, last first":
        yield from reversed(list(enumerate(ends)))
        return
    marks = [START] * len(ends)
    while marks != list(ends):
        for market, end in enumerate(ends):
            if marks[market] != end:
                marks[market] += 1 if end > marks[market] else -1
                yield market, marks[market]


@pytest.mark.parametrize("order", ["whole", "whole, last first", "tick by tick"])
@pytest.mark.parametrize("call", ["0", "1.5"])
@pytest.mark.parametrize("case", EXACT)
def test_markets_that_move_together_by_exactly_the_slack(case, call, order):
    """Where equity is what the requirement asks nothing happens; a tick further in any one market something does.

    No market does it alone, nor goes a tick beyond its own share.  "two longs": 50 @ 100 each; at 91 and 91 maintenance
    is 2 % of 50 x 182, 182, and the loss 900: with 1,082 the account just stands; with 91 and 90 it has 132 and would
    need 181.

    Source: MARGIN-004, MARGIN-010, STEP-005.
    """
    tiers, lots, ends = EXACT[case]
    need_ppm = PPM if call == "0" else int(Decimal(call) * PPM)
    plain = Plain(0, [(codes.LINEAR, qty, START * qty, 1, tiers) for qty in lots], need_ppm)
    plain.wallet = -plain.spare_at(ends)
    assert plain.spare_at(ends) == 0
    for market, end in enumerate(ends):
        alone = [START] * len(ends)
        alone[market] = end
        assert plain.spare_at(alone) > 0
        if tiers is FLAT:  # and what it uses is its share, by maintenance, to the tick
            slack = plain.spare_at([START] * len(ends))
            share = slack * abs(lots[market]) // sum(map(abs, lots))
            assert slack - plain.spare_at(alone) - share < abs(lots[market]) * 1.03
    for further, qty in enumerate(lots):
        twins = Twins(make_exact_setup(tiers, len(lots), call))
        for market, lot in enumerate(lots):
            fields = {"side": BUY if lot > 0 else SELL, "qty_lot": abs(lot), "price_tick": START}
            amount = plain.wallet if market == 0 else 0
            twins.apply(Command(kind=codes.ASSIGN, account=1, market=market, amount_quote=amount, **fields))
            check_triggers(twins.fast)
        for market, mark in walk_between(ends, order):
            twins.apply(Command(kind=codes.MARK, market=market, price_tick=mark))
            check_triggers(twins.fast)
        assert not twins.kinds["margin_call"] + twins.kinds["liquidation_started"]
        beyond = list(ends)
        beyond[further] -= 1 if qty > 0 else -1
        assert plain.spare_at(beyond) < 0
        twins.apply(Command(kind=codes.MARK, market=further, price_tick=beyond[further]))
        is_called = Plain(plain.wallet, plain.parts).spare_at(beyond) >= 0  # a tick may be more than a call is early
        assert not is_called or call != "0"
        assert twins.kinds["margin_call" if is_called else "liquidation_started"] == 1


def assign_one(call, rate, price, amount):
    """Return twins in which account 1 is long one lot worth `price` units, with collateral."""
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.1"), maintenance=Decimal(rate)),)
    sizes = {"tick_size": Decimal(1), "lot_size": Decimal(1), "quote_unit": Decimal(1), "price_max": Decimal(1000)}
    fields = {"initial_mark": Decimal(price), "tiers": tiers, "margin_call": Decimal(call), "default_leverage": 1}
    twins = Twins(build_setup([Market(symbol="X", **sizes, **fields)]))
    order = {"side": BUY, "qty_lot": 1, "price_tick": price, "amount_quote": amount}
    twins.apply(Command(kind=codes.ASSIGN, account=1, **order))
    return twins


def test_a_mark_in_favour_may_bring_a_call():
    """Long 1 @ 160 with 8, 2.5 %, called below twice that: 8 is not below 2 x 4; at 161 9 is below 2 x ceil(4.025).

    Source: MARGIN-010, STEP-005.
    """
    twins = assign_one("2", "0.025", 160, 8)
    assert not twins.kinds["margin_call"]
    twins.apply(Command(kind=codes.MARK, price_tick=161))
    assert twins.kinds["margin_call"] == 1


def test_who_was_watched_may_have_changed_its_margin_mode():
    """An isolated long a unit above its call is closed, its mode changed, and opened again as cross: it stands well.

    Source: MARGIN-010, MARGIN-008.
    """
    twins = assign_one("2", "0.025", 160, 400)
    mode = {"kind": codes.SET_MARGIN_MODE, "account": 2}
    order = {"side": BUY, "qty_lot": 1, "price_tick": 160, "account": 2}
    twins.apply(Command(amount_quote=1, **mode))
    twins.apply(Command(kind=codes.ASSIGN, amount_quote=8, **order))
    twins.apply(Command(kind=codes.LEVEL, side=BUY, price_tick=160, qty_lot=1))
    close = {"kind": codes.PLACE, "account": 2, "order_id": 1, "qty_lot": 1, "price_tick": 160}
    twins.apply(Command(side=SELL, flags=codes.REDUCE_ONLY, **close))
    twins.apply(Command(amount_quote=0, **mode))
    twins.apply(Command(kind=codes.ASSIGN, amount_quote=300, **order))
    twins.apply(Command(kind=codes.MARK, price_tick=161))
    assert not twins.kinds["liquidation_started"] + twins.kinds["margin_call"] + twins.kinds["rejected"]


@pytest.mark.parametrize("call", ["3", "5", "8", "12"])
def test_calls_at_many_times_the_requirement_come_at_the_exact_tick(call):
    """Rounding a requirement up counts as often as it is asked: tick by tick the call comes when the scan says so.

    Source: MARGIN-010, STEP-005.
    """
    for amount in range(20, 160, 3):
        twins = assign_one(call, "0.05", 160, amount)
        for mark in range(159, 60, -1):
            twins.apply(Command(kind=codes.MARK, price_tick=mark))
            if twins.kinds["margin_call"]:
                break


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(("call", "rate", "amount", "mark"), [("2", "0.05", 20, 109), ("5", "0.01", 10, 102)])
def test_what_rounding_may_add_is_held_back(count, call, rate, amount, mark):
    """Shorts of 1 @ 100, 5 %, called below twice that, 20 each: at 109 each needs 6 for 5.45, where it needed 5.

    A share of 10 of the slack is used up by 9 x 1.1 to the tick, but the call counts each rounding twice: at 109 and
    109 there is 22 where 24 is needed.  So a unit per position and per time it is counted is not given out.

    Source: MARGIN-010, STEP-005.
    """
    fields = {"tick_size": Decimal(1), "lot_size": Decimal(1), "quote_unit": Decimal(1), "price_max": Decimal(1000)}
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.1"), maintenance=Decimal(rate)),)
    fields |= {"initial_mark": Decimal(START), "tiers": tiers, "margin_call": Decimal(call), "default_leverage": 1}
    twins = Twins(build_setup([Market(symbol=f"M{market}", **fields) for market in range(count)]))
    short = {"side": SELL, "qty_lot": 1, "price_tick": START, "account": 1}
    for market in range(count):
        twins.apply(Command(kind=codes.ASSIGN, market=market, amount_quote=amount, **short))
    check_triggers(twins.fast)
    for market in range(count):
        assert not twins.kinds["margin_call"]
        twins.apply(Command(kind=codes.MARK, market=market, price_tick=mark))
        check_triggers(twins.fast)
    assert twins.kinds["margin_call"] == 1


@pytest.mark.parametrize("call", ["0", "1.5"])
@pytest.mark.parametrize("lots", [20, 740, 1_048_580, 3_000_000])
def test_shorts_that_could_pay_at_any_price_hang_nowhere(lots, call):
    """MARGIN-010: from exactly what the highest price asks on, in two tiers; who has less hangs where it can pay."""
    fields = {"tick_size": Decimal(1), "lot_size": Decimal(1), "quote_unit": Decimal(1), "price_max": Decimal(110)}
    floor = 105 * lots
    tiers = (
        Tier(floor=Decimal(0), initial=Decimal("0.2"), maintenance=Decimal("0.1")),
        Tier(floor=Decimal(floor), initial=Decimal("0.22"), maintenance=Decimal("0.11")),
    )
    fields |= {"initial_mark": Decimal(START), "tiers": tiers, "margin_call": Decimal(call), "default_leverage": 1}
    twins = Twins(build_setup([Market(symbol="M0", **fields)]))
    # so near the highest price that nobody hangs early: twice the requirement is more than what is left of it
    need = int(10 * lots + (Decimal(call) if call != "0" else 1) * (Decimal("12.1") * lots - Decimal("0.01") * floor))
    amounts = [need + step for step in (-lots, -3, -2, -1, 0, 1, 2, 3, lots)]
    amounts += [need * part // 64 for part in range(52, 80)] + [100 * need]
    for account, amount in enumerate(amounts, 1):
        short = {"side": SELL, "qty_lot": lots, "price_tick": START, "amount_quote": max(amount, 16 * lots)}
        twins.apply(Command(kind=codes.ASSIGN, market=0, account=account, **short))
    check_triggers(twins.fast)
    positions = twins.fast.state.positions[: int(twins.fast.state.head[0]["position_used"])]
    hung = {row["account"]: row["hung"] != 0 for row in positions if row["account"] != EXTERNAL}
    assert not hung[len(amounts)]
    assert any(hung.values())


# ---------------------------------------------------------------- what hangs where


def list_domains(engine):
    """Return the domains with positions, {name: (Plain, rows)}, from the engine's arrays."""
    state = engine.state
    assets = len(engine.setup.assets)
    marks, in_force = (state.markets[name].tolist() for name in ("mark_tick", "tier_table"))
    found = {}
    for numbers in state.positions[: int(state.head[0]["position_used"])][list(NEEDED)].tolist():
        row = dict(zip(NEEDED, numbers, strict=True))
        if row["qty_lot"] == 0 or row["account"] == EXTERNAL:
            continue
        rules = engine.setup.markets[row["market"]]
        row["mark"], row["top"] = marks[row["market"]], rules.price_max_tick
        if row["mode"] == CROSS:
            name, wallet = (row["account"], rules.asset), row["account"] * assets + rules.asset
            money, flags = (int(state.wallets[field][wallet]) for field in ("balance_quote", "flags"))
        else:
            name, money, flags = (row["account"], rules.asset, row["market"]), row["margin_quote"], row["flags"]
        need_ppm = rules.call_ppm if rules.call_ppm and not flags & CALLED else PPM
        plain, rows = found.setdefault(name, (Plain(money, [], need_ppm), []))
        tiers = tuple((tier[0], tier[2]) for tier in rules.tables[in_force[row["market"]]])
        plain.parts.append((rules.kind, row["qty_lot"], row["cost_quote"], rules.multiplier, tiers))
        row["is_moved"] = row["hung"] != 0 and row["table"] != in_force[row["market"]]
        rows.append(row)
    return found


NEEDED = (
    "account", "market", "qty_lot", "cost_quote", "margin_quote", "mode", "flags", "hung", "hung_lot", "price_tick",
    "table",
)  # fmt: skip


def find_last(row):
    """Return the last mark that does not cross the trigger of a position; the edge of the range if it does not hang."""
    side = 1 if row["qty_lot"] > 0 else -1
    if row["hung"] == 0:
        return 1 if side > 0 else row["top"]
    assert (row["hung"], row["hung_lot"]) == (side, abs(row["qty_lot"]))
    assert (row["mark"] - row["price_tick"]) * side > 0, "the mark has crossed a trigger, and nobody looked"
    return row["price_tick"] + side


def check_triggers(engine):
    """Check that between two commands nobody needs anything, nor will before a mark crosses one of its triggers.

    What hangs on the ladder of another tier table is popped before its price: that its marks do not say.

    Source: MARGIN-004, MARGIN-010.
    """
    for name, (plain, rows) in list_domains(engine).items():
        marks = [row["mark"] for row in rows]
        lasts = [find_last(row) for row in rows]
        assert plain.spare_at(marks) >= 0, name
        if any(row["is_moved"] for row in rows):
            continue
        assert plain.spare_at(lasts) >= 0, (name, marks, lasts)
        for at, last in enumerate(lasts):
            assert plain.spare_at([*marks[:at], last, *marks[at + 1 :]]) >= 0, (name, at, marks, lasts)


# ---------------------------------------------------------------- walks


def make_wide_setup(rng):
    """Return one to eight markets, now and then sixteen, whose marks are recorded; mostly one asset, some inverse."""
    count = rng.choice((1, 2, 3, 4, 5, 6, 8, 8, 16))
    call = rng.choice(("0", "1.25", "2"))
    made = []
    for index in range(count):
        market = streams.make_market(index, rng)
        for draw in (streams.draw_inverse, streams.draw_tables):
            market = draw(random.Random(f"{draw.__name__} {index} {rng.random()}"), market)
        mode = rng.choice(("cross", "cross", "cross", "cross", "isolated"))
        unit = market.tick_size
        fields = {"mark_model": "recorded", "margin_mode": mode, "initial_mark": START * unit}
        if index and index == count - 1 and rng.random() < 0.3:
            fields |= {"settle": "BTC", "fund": "other"}
        made.append(streams.replace_market(market, margin_call=Decimal(call), **fields))
    return build_setup(made)


def hold_mark(setup, market, mark):
    """Return a mark within a market's range."""
    return max(1, min(setup.markets[market].price_max_tick, mark))


class Walk:
    """Random walks of the marks, and what else moves slack: funding, money in and out, settings, new positions."""

    def __init__(self, rng, setup, accounts=6):
        self.rng, self.setup, self.accounts = rng, setup, accounts
        self.marks = [START] * len(setup.markets)
        self.trends = [rng.choice((-1, 1)) for _ in self.marks]

    def open_day(self):
        """Yield a little money for the funds, some depth, and a position of most accounts in most markets."""
        rng = self.rng
        for market in range(len(self.marks)):
            yield Command(kind=codes.FUND_DEPOSIT, market=market, amount_quote=rng.choice((1, 50, 1000)))
            yield Command(kind=codes.LEVEL, market=market, side=BUY, price_tick=START - 9, qty_lot=rng.randint(0, 40))
            yield Command(kind=codes.LEVEL, market=market, side=SELL, price_tick=START + 9, qty_lot=rng.randint(0, 40))
        for account in range(1, self.accounts + 1):
            leverage, share = rng.choice((5, 9, 16, 25)), rng.choice((0.3, 0.8, 1))
            for market in range(len(self.marks)):
                if rng.random() < share:
                    yield self.assign(account, market, leverage)

    def assign(self, account, market, leverage):
        """Return a position from elsewhere, at about the mark, with collateral for a leverage."""
        price = hold_mark(self.setup, market, self.marks[market] + self.rng.randint(-2, 2))
        qty = self.rng.randint(1, 60)
        rules = self.setup.markets[market]
        amount = abs(ask_value(rules.kind, price, qty, rules.multiplier)) // leverage
        fields = {"qty_lot": qty, "price_tick": price, "amount_quote": amount, "side": self.rng.choice((BUY, SELL))}
        return Command(kind=codes.ASSIGN, account=account, market=market, **fields)

    def step(self):
        """Return the next command: mostly a mark a few ticks further."""
        rng, account = self.rng, self.rng.randint(1, self.accounts)
        market, chance = rng.randrange(len(self.marks)), rng.random()
        if chance < 0.72:
            if rng.random() < 0.1 or not 40 < self.marks[market] < 200:
                self.trends[market] = 1 if self.marks[market] < START else -1
            move = self.trends[market] * rng.choice((1, 1, 1, 2, 3, 3, 8, -1))
            self.marks[market] = hold_mark(self.setup, market, self.marks[market] + move)
            return Command(kind=codes.MARK, market=market, price_tick=self.marks[market])
        if chance < 0.74:
            return Command(kind=codes.SET_TIERS, market=market, amount_quote=rng.choice((0, 0, 1, 1, 2, 3)))
        if chance < 0.84:
            # from a unit of each position up to one per cent: within what is held back for it, and beyond
            rate = rng.choice((-1, 1)) * rng.choice((10, 100_000, 1_000_000, 10_000_000))
            return Command(kind=codes.FUNDING, market=market, amount_quote=rate)
        amount = rng.choice((1, 7, 40, 300))
        if chance < 0.94:
            kind = rng.choice((codes.DEPOSIT, codes.WITHDRAW, codes.MOVE_MARGIN))
            amount *= rng.choice((1, -1)) if kind == codes.MOVE_MARGIN else 1
            return Command(kind=kind, account=account, market=market, amount_quote=amount)
        return self.assign(account, market, rng.choice((9, 25, 60)))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_walks_find_whom_the_full_scan_finds(seed):
    """Random walks of many marks: the ladder's calls and liquidations are the full scan's, and all triggers stand true.

    Source: MARGIN-010, STEP-003, STATE-003.
    """
    rng = random.Random(seed)
    setup = make_wide_setup(rng)
    twins, walk = Twins(setup), Walk(rng, setup)
    for command in walk.open_day():
        twins.apply(command)
    check_triggers(twins.fast)
    for _ in range(STEPS):
        sizes = {name: min(len(rows), 4) for name, (_, rows) in list_domains(twins.fast).items()}
        events = twins.apply(walk.step())
        check_triggers(twins.fast)
        for event in events[events["kind"] == codes.LIQUIDATION_STARTED]:
            if event["market"] < 0:
                seen[f"domains of {sizes.get((int(event['account']), int(event['other'])), 0)}"] += 1
    seen.update(twins.kinds)


def test_walks_reach_what_they_are_for():
    """The walks above call and liquidate often, pay funding, and liquidate domains of one and of many positions.

    Source: MARGIN-010.
    """
    if not seen:  # each worker knows its own walks only: an empty count says nothing about them
        pytest.skip("the walks ran in another worker or were deselected")
    wanted = {"liquidation_started": 100, "margin_call": 60, "funding_payment": 300}
    wanted |= {"domains of 1": 40, "domains of 2": 10, "domains of 3": 10, "domains of 4": 10}
    assert not {name: seen[name] for name, count in wanted.items() if seen[name] < count}


class TriggerMachine(RuleBasedStateMachine):
    """Marks walk, slack comes and goes: stateful against the full scan, and it shrinks."""

    @initialize(seed=st.integers(0, 40))
    def open_day(self, seed):
        """Give both engines the same markets and positions."""
        rng = random.Random(seed)
        self.setup = make_wide_setup(rng)
        self.twins, self.walk = Twins(self.setup), Walk(rng, self.setup)
        for command in self.walk.open_day():
            self.twins.apply(command)

    def send(self, kind, market=0, **fields):
        """Apply one command to both engines, in one of the markets there are."""
        self.twins.apply(Command(kind=kind, market=market % len(self.setup.markets), **fields))

    @rule(market=st.integers(0, 15), move=st.integers(-9, 9), times=st.integers(1, 4))
    def move_one(self, market, move, times):
        """Move one mark, in one step or in several."""
        for _ in range(times):
            self.move(market, move)

    def move(self, market, move):
        market %= len(self.setup.markets)
        mark = hold_mark(self.setup, market, self.walk.marks[market] + move)
        self.walk.marks[market] = mark
        self.send(codes.MARK, market, price_tick=mark)

    @rule(moves=st.lists(st.integers(-3, 3), min_size=2, max_size=16), start=st.integers(0, 15))
    def move_all(self, moves, start):
        """Move several marks by a little each."""
        for at, move in enumerate(moves):
            self.move(start + at, move)

    @rule(market=st.integers(0, 15), rate=st.integers(-3_000_000, 3_000_000), times=st.integers(1, 4))
    def pay_funding(self, market, rate, times):
        """Pay funding, several times at one rate, so that what is held back for it is used up."""
        for _ in range(times):
            self.send(codes.FUNDING, market, amount_quote=rate)

    @rule(market=st.integers(0, 15), table=st.integers(0, 3))
    def set_tiers(self, market, table):
        """Put another tier table in force."""
        self.send(codes.SET_TIERS, market, amount_quote=table)

    @rule(
        account=st.integers(1, 6),
        market=st.integers(0, 15),
        kind=st.sampled_from((codes.DEPOSIT, codes.WITHDRAW, codes.MOVE_MARGIN)),
        amount=st.integers(-300, 300),
    )
    def move_money(self, account, market, kind, amount):
        """Deposit, withdraw, move margin."""
        self.send(kind, market, account=account, amount_quote=amount if kind == codes.MOVE_MARGIN else abs(amount))

    @rule(
        account=st.integers(1, 6),
        market=st.integers(0, 15),
        side=st.sampled_from((BUY, SELL)),
        qty=st.integers(1, 60),
        amount=st.integers(0, 900),
    )
    def assign(self, account, market, side, qty, amount):
        """Bring a position from elsewhere."""
        price = self.walk.marks[market % len(self.setup.markets)]
        fields = {"account": account, "side": side, "qty_lot": qty, "price_tick": price, "amount_quote": amount}
        self.send(codes.ASSIGN, market, **fields)

    @precondition(lambda self: hasattr(self, "twins"))
    @invariant()
    def triggers_stand_true(self):
        """Nothing is missed, nor can be before a trigger is crossed."""
        check_triggers(self.twins.fast)


TestTriggerMachine = TriggerMachine.TestCase
