"""Hypothesis strategies over the hostile streams of `engine.fuzz`: those shrink, the plain generator is seeded."""

from hypothesis import strategies as st

from engine import codes
from engine.contract import Setup, build_setup
from engine.fuzz.setups import (
    LARGE,
    agree,
    draw_inverse,
    draw_tables,
    give_portfolios,
    make_market,
    make_markets,
    make_setup,
    replace_market,
)
from engine.fuzz.storm import FIELDS, HOUR, SECOND, Command, pack_commands, random_stream

__all__ = [
    "FIELDS",
    "HOUR",
    "LARGE",
    "SECOND",
    "Command",
    "draw_inverse",
    "draw_tables",
    "give_portfolios",
    "make_edge_stream",
    "make_market",
    "make_setup",
    "pack_commands",
    "random_stream",
    "replace_market",
    "streams",
]

MONEY_IN = (codes.DEPOSIT, codes.FUND_DEPOSIT, codes.ASSIGN)
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


def make_edge_stream(seed, kind, steps=150):
    """Return a setup and a stream at an edge: "single" lots, prices that "fall" to a few ticks, an asset per market."""
    setup = make_setup(seed)
    if kind == "assets":
        markets = [
            replace_market(market, settle=settle, fund=settle)
            for market, settle in zip(make_markets(seed), ("BTC", "ETH", "USDT"), strict=False)
        ]
        setup = build_setup(agree(markets))
        return setup, random_stream(seed, setup, steps)
    commands = random_stream(seed, setup, steps)
    if kind == "fall":
        markets = [replace_market(market, initial_mark=None) for market in make_markets(seed)]
        setup = build_setup(markets)
    for command in commands:
        if kind == "single":
            command.qty_lot = min(command.qty_lot, 1)
        else:
            command.price_tick = -(-command.price_tick // 30)
        if command.kind in MONEY_IN and command.amount_quote > 0:
            command.amount_quote = -(-command.amount_quote // 30)
    return setup, commands
