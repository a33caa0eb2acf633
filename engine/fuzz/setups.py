"""Random small markets whose policies are drawn: few ticks, deep leverage, low limits (FUZZ-001)."""

import random
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import structs

from engine import codes
from engine.contract import Market, Setup, Tier, build_setup
from engine.policies import AdlPolicy, FundingPolicy, PortfolioPolicy

LARGE = 29_999_999_999  # money per tick and lot at which products with a rate pass 2^63


def make_tiers(style: int, scale: int) -> tuple[Tier, ...]:
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


def make_market(index: int, rng: random.Random, scale: int = 1) -> Market:
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


def make_setup(seed: int) -> Setup:
    """Return what engines are built from of `make_markets`."""
    return build_setup(make_markets(seed))


def make_markets(seed: int) -> list[Market]:
    """Return one to three random markets; mostly one asset, sometimes the last market settles in another."""
    rng = random.Random(seed)
    scale = LARGE if rng.random() < 0.15 else 1
    markets = [make_market(index, rng, scale) for index in range(rng.choice((1, 2, 3, 3)))]
    call = markets[0].margin_call
    made: list[Market] = []
    for index, market in enumerate(markets):
        is_other = index == 2 and rng.random() < 0.3
        settle, fund = ("BTC", "other") if is_other else ("USDT", market.fund)
        market = replace_market(market, settle=settle, fund=fund, margin_call=call)
        for draw in POLICY_DRAWS:  # each with dice of its own: a new one leaves the others' streams as they are
            market = draw(random.Random(f"{draw.__name__} {seed} {index}"), market)
        made.append(market)
    for setup_draw in SETUP_DRAWS:
        made = setup_draw(random.Random(f"{setup_draw.__name__} {seed}"), made)
    return agree(made)


def raise_rates(tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
    """Return a table whose rates are forty times as high."""
    return tuple(structs.replace(tier, initial=tier.initial * 40, maintenance=tier.maintenance * 40) for tier in tiers)


def draw_house(rng: random.Random, market: Market) -> Market:
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
    changes: dict[str, Any] = {
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


def draw_inverse(rng: random.Random, market: Market) -> Market:
    """Make about a third of the markets inverse: a lot is worth about what it was, sometimes but a few units."""
    if rng.random() < 0.65:
        return market
    scale = LARGE if market.tick_size >= LARGE else 1
    worth = rng.choice((10_000, 10_000, 30_000, 3_000, 777)) * scale
    lot = market.tick_size * worth
    most = min(int(market.open_interest_max or 0), (1 << 58) // worth)
    changes = {"open_interest_max": lot * most, "order_max": lot * min(100, most)}
    return replace_market(market, kind="inverse", lot_size=lot, **changes)


def draw_tables(rng: random.Random, market: Market) -> Market:
    """Give about half of the markets one to three further tier tables, laxer and stricter ones."""
    if rng.random() < 0.5:
        return market
    scale = LARGE if market.tick_size >= LARGE else 1
    strict = Tier(floor=Decimal(0), initial=Decimal("0.3"), maintenance=Decimal("0.15"))
    tables = [make_tiers(rng.randrange(3), scale) for _ in range(rng.choice((1, 1, 2)))]
    return replace_market(market, tier_tables=(*tables, *([(strict,)] if rng.random() < 0.4 else [])))


def draw_adl(rng: random.Random, market: Market) -> Market:
    """Choose the policies of auto-deleveraging, each of them alone often enough."""
    if rng.random() < 0.5:
        return market

    def pick(group: str) -> str:
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


def draw_stages(rng: random.Random, market: Market) -> Market:
    """Choose stages 1 to 3 of the waterfall and the gate of the backstop."""
    if rng.random() < 0.5:
        return market
    unit = market.tick_size
    size = rng.choice(("full", "tiered", "share", "share"))
    cooldown = rng.choice(("0", "0", "0.000000003", "0.0004", "0.003"))
    is_patient = size != "share" or cooldown == "0" or rng.random() < 0.5
    policy: dict[str, Any] = {
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


def draw_marks(rng: random.Random, market: Market) -> Market:
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


def draw_portfolio(rng: random.Random, markets: list[Market]) -> list[Market]:
    """Give half of the setups price moves and underlyings, and half of those portfolio margin from the start."""
    if rng.random() < 0.5:
        return markets
    curved = {market.settle for market in markets if market.kind == "inverse"}
    starts = {market.settle: rng.random() < 0.5 and market.settle not in curved for market in markets}
    modes = ["portfolio" if starts[market.settle] else market.margin_mode for market in markets]
    given = give_portfolios(rng, markets)
    return [replace_market(market, margin_mode=mode) for market, mode in zip(given, modes, strict=True)]


def give_portfolios(rng: random.Random, markets: list[Market]) -> list[Market]:
    """Return markets with price moves, on one or two underlyings."""
    grids: dict[str, PortfolioPolicy] = {}
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


def agree(markets: list[Market]) -> list[Market]:
    """Return markets that agree where those of one asset must: on the first one's settlement and margin call."""
    made: list[Market] = []
    for market in markets:
        alike = [other for other in markets if other.settle == market.settle]
        first = alike[0]
        highest = max(tiers[-1].maintenance for other in alike for tiers in (other.tiers, *other.tier_tables))
        call = first.margin_call if highest * first.margin_call < 1 else Decimal(0)
        changes: dict[str, Any] = {"settlement": first.settlement, "margin_call": call}
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


def replace_market(market: Market, **changes: Any) -> Market:
    """Return a market with some fields changed."""
    return Market(**({name: getattr(market, name) for name in market.__struct_fields__} | changes))
