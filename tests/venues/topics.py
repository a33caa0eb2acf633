"""Each topic of the venue vectors as calls of public formulas: inputs of a vector in, the numbers it expects out.

A function here only carries names over (contracts x contract size, a leverage into a margin); what is computed is
computed by `engine.formulas`.  Inputs are exact: the file's decimals are read as Fractions.
"""

from decimal import Decimal
from fractions import Fraction

from engine import formulas as f
from engine.formulas import exact

PPM = 1_000_000


def _table(i):
    """Return dYdX's inputs: positions, prices and the same rate in every market."""
    positions = i["positions"]
    return positions, i["oracle"], dict.fromkeys(positions, i["mmf"])


def _qty(i, default=1):
    """Return the size of a position: base or quote units."""
    if "qty" in i:
        return exact(i["qty"])
    if "contracts" in i:
        return exact(i["contracts"]) * exact(i.get("contract_size", i.get("multiplier", i.get("face", 1))))
    return exact(i.get("size", default))


def _margin(i, inverse=False):
    """Return the collateral of a position, however the venue words it."""
    if "wb" in i:
        return exact(i["wb"])
    if "isolated_margin" in i:
        return exact(i["isolated_margin"]) - exact(i["upnl"])
    if "margin" in i:
        return exact(i["margin"])
    own = f.initial_margin(_qty(i), i["entry"], i["leverage"], inverse=inverse)
    return own + exact(i.get("extra_margin", 0))


# ---------------------------------------------------------------- adl


def adl_execution(i, _):
    others = [(other.get("id", str(n)), other["quote"], other["size"]) for n, other in enumerate(i["counterparties"])]
    done = f.offset_position(i["victim_quote"], i["victim_size"], others, i["oracle"], i.get("price"))
    return {
        "bankruptcy_price": done.price,
        "counterparty_quote": [other.quote for other in done.victims],
        "after": [[other.account, other.quote, other.size] for other in done.victims],
        "not_deleveraged": done.left,
    }


def adl_indicator(i, _):
    if "n" in i:
        lights = [f.lights_of_rank(rank, i["n"]) for rank in range(1, i["n"] + 1)]
        return {"bars": lights, "percentile": [20 * (6 - light) for light in lights]}
    shown = f.show_lights(f.lights_of_place(i["percentile_from_front"]))
    names = {
        "bitmex": "bitmex_lights",
        "bybit": "bybit_adlRankIndicator",
        "binance": "binance_adlQuantile",
        "gate": "gate_adl_ranking",
    }
    return {names.get(venue, venue): light for venue, light in shown.items()}


def adl_price(i, _):
    size, entry, price = i["size"], i["entry"], i["price"]
    pnl = f.unrealised_pnl("short", size, entry, price)
    bankrupt = f.bankruptcy_price("short", size, entry, i["b_deposit"])
    return {
        "a_expected": f.unrealised_pnl("long", size, entry, price),
        "b_equity": exact(i["b_deposit"]) + pnl,
        "bankruptcy_price": bankrupt,
        "a_pnl": f.unrealised_pnl("long", size, entry, bankrupt),
        "b_pnl": f.unrealised_pnl("short", size, entry, bankrupt),
    }


def adl_queue(i, _):
    accounts = [(a["id"], a["qty"], a["score"] if "score" in a else -a["rank"]) for a in i["accounts"]]
    queue = f.build_queue(accounts, i["liq_qty"] if "liq_qty" in i else i["adl_qty"])
    hit = [place for place in queue if place.closed]
    return {
        "order": [place.account for place in queue],
        "percentile": [place.percentile for place in queue],
        "closed": {place.account: place.closed for place in hit},
        "remaining": {place.account: place.remaining for place in hit},
    }


def adl_score(i, vector):
    if vector["venue"].startswith("binance"):
        score = f.score_binance(i["upnl"], i["wb"], i.get("mm"), margin_ratio=i.get("margin_ratio"))
        return {"pnl_percent": score.ret, "leverage_pnl": score.score, "margin_ratio": score.leverage}
    if "bankruptcy" in i:
        prices = (i["entry"], i["mark"], i["bankruptcy"])
        score = f.score_bitmex(i["side"], i["qty"], *prices, inverse=i.get("inverse", False))
        return {"pnl_pct": score.ret, "eff_leverage": score.leverage, "score": score.score}
    if vector["venue"] == "cube":
        score = f.score_upnl_leverage(i["contracts"], i["mark"], i["cost"], i["equity"], i.get("side", 1))
        return {"score": score.score, "eff_leverage": score.leverage}
    if "positions" in i:
        rows = i["positions"]
        return {
            "docs_index": [
                f.score_hyperliquid_docs(
                    p["entry"], p["mark"], f.leverage_of(p["side"], p["size"], p["mark"], p["account_value"])
                )
                for p in rows
            ],
            "osec_score": [
                f.score_hyperliquid_decompiled(p["side"], p["size"], p["entry"], p["mark"], p["account_value"])
                for p in rows
            ],
        }
    if "cases" in i:
        return {
            "ret": [
                f.return_on_entry(side, entry, mark, inverse=kind == "inverse")
                for kind, side, entry, mark in i["cases"]
            ]
        }
    return {"score": f.rank_by_leverage(i["ret"], i["eff_lev"])}


def adl_trigger(i, _):
    if "avg_8h" in i:
        threshold = f.okx_fund_threshold(i["avg_8h"], i["pct"], i["floor_usd"])
        return {"threshold": threshold, "triggered": exact(i["current"]) < threshold}
    if "peak_8h" in i:
        state = f.check_peak_drawdown(i["peak_8h"], i["peak_8h"] - i["current"], i["pct"])
        return {"drawdown": state.ratio, "triggered": state.triggered}
    if "fund_peak" in i:
        state = f.check_peak_drawdown(i["fund_peak"], i["loss"], i["threshold"], i["position_margin"])
        return {"drawdown": state.ratio, "triggered": state.triggered}
    if "upnl" in i:
        return {"triggered": f.is_fund_overrun(i["fund"], i["position_margin"], i["upnl"])}
    ratio = i.get("pnl_ratio", 0)
    if "symbol_pnl" in i:
        ratio = f.pool_pnl_ratio(i["symbol_pnl"], i["symbol_8h_max_pnl"], i["pool_8h_max"])
    state = f.check_pool_drawdown(
        i["balance"], ratio, i["insurance_pnl_ratio"], i["adl_trigger_threshold"], i.get("pool_8h_max", 0)
    )
    return {
        "pnl_ratio": state.ratio,
        "trigger_drawdown": state.triggered,
        "trigger_balance": f.is_fund_empty(i["balance"]),
        "excess_loss": state.excess,
        "stops": f.releases_pool_drawdown(ratio, i["adl_stop_ratio"]),
    }


def api_adl_rank(i, vector):
    read = f.read_adl_rank(vector["venue"], i)
    return {"rank": read.rank, "rating": read.lights, "percentage": read.percentage}


def api_liquidation(i, vector):
    return f.read_liquidation(vector["venue"], i)._asdict()


# ---------------------------------------------------------------- bankruptcy and liquidation prices


def bankruptcy_price(i, _):
    if "positions" in i:
        return {"bankruptcy_quote": f.bankruptcy_quote(i["quote"], *_table(i), i["market"], i["delta"])}
    if "cases" in i:
        return {
            "bust": [
                f.bankruptcy_price(
                    side,
                    1,
                    entry,
                    f.initial_margin(1, entry, leverage, inverse=kind == "inverse"),
                    inverse=kind == "inverse",
                )
                for kind, side, entry, leverage in i["cases"]
            ]
        }
    if "wallet" in i:
        own = exact(i["position_margin"]) + exact(i["wallet"])
        bankrupt = f.bankruptcy_price(i.get("side", 1), i["qty"], i["entry"], own)
        chosen = f.price_within(bankrupt, i["mark"], i["max_dev"])
        return {"bankruptcy_price": bankrupt, "deviation": chosen.deviation, "adl_price": chosen.price}
    return _isolated(i, inverse="side" not in i or i.get("inverse", False))


def _isolated(i, inverse):
    """Return Bybit's isolated prices at initial margin, exact and on the tick if there is one."""
    side, tick, own = i.get("side", 1), i.get("tick"), _margin(i, inverse)
    position = (side, _qty(i), i["entry"], own)
    bust = f.bankruptcy_price(*position, inverse=inverse)
    out = {"bust_exact": bust, "bust": f.bankruptcy_price(*position, inverse=inverse, tick=tick)}
    if "mmr" in i:
        rule = "bybit-inverse" if inverse else "bybit-linear"
        out["liq"] = f.liquidation_price(*position, maintenance_rate=i["mmr"], rule=rule, tick=tick)
        out["liquidation_price"] = out["liq"]
    if "taker" in i:
        out["position_balance"] = own + f.closing_fee_reserve(_qty(i), bust, i["taker"], inverse=inverse)
    return out


def bankruptcy_rounding(i, _):
    size = {"BTC": i["size"]}
    delta = Fraction(i["delta_quantums"], 10**8) * (-1 if i["size"] > 0 else 1)
    unit = Fraction(1, PPM)
    any_price = {"BTC": 50_000}  # with one position the oracle price drops out
    quote = f.bankruptcy_quote(i["quote_usd"], size, any_price, {"BTC": i["mmf"]}, "BTC", delta, unit)
    return {"quantums": quote / unit}


def liquidation_price(i, vector):
    return PRICES[vector["venue"].removesuffix("-isolated")](i)


def _price_binance(i):
    others = i.get("others", ())
    own = _margin(i) + sum(f.unrealised_pnl(o["side"], o["qty"], o["entry"], o["mark"]) for o in others)
    needs = [f.CrossPosition(o["qty"], o["entry"], o["mark"], o["mmr"], 0, o["cum"]) for o in others]
    price = f.liquidation_price(
        i["side"],
        _qty(i),
        i["entry"],
        own,
        maintenance_rate=i["mmr"],
        deduction=i.get("cum", 0),
        other_maintenance=f.cross_account(0, needs).maintenance,
        rule="binance-usdm",
    )
    return {"liquidation_price": price}


def _price_binance_coin(i):
    price = f.liquidation_price(
        i["side"],
        _qty(i),
        i["entry"],
        _margin(i, inverse=True),
        maintenance_rate=i["mmr"],
        deduction=i.get("cum", 0),
        rule="binance-coinm",
    )
    return {"liquidation_price": price}


def _price_bybit_inverse(i):
    if "tick" in i:
        return _isolated(i, inverse=True)
    own, value = _margin(i, inverse=True), f.initial_margin(i["qty"], i["entry"], 1, inverse=True)
    out = {"pv": value, "im": own, "mm": f.maintenance_margin(value, f.build_brackets([0], [i["mmr"]]))}
    for side in ("long", "short"):
        out[f"liq_{side}"] = f.liquidation_price(
            side, i["qty"], i["entry"], own, maintenance_rate=i["mmr"], rule="bybit-inverse"
        )
    return out


def _price_bybit_cross(i):
    position = (i.get("side", 1), i["qty"], i["entry"], i["balance"] - i["order_margin"])
    common = {"maintenance_rate": i["mmr"], "closing_fee": i["fee"], "rule": "bybit-inverse-cross"}
    return {
        "bust": f.bankruptcy_price(*position, closing_fee=i["fee"], inverse=True),
        "liq_exact": f.liquidation_price(*position, **common),
        "liq": f.liquidation_price(*position, **common, tick=i["tick"]),
    }


def _price_dydx(i):
    side = 1 if i["size"] > 0 else -1
    price = f.liquidation_price(
        side,
        abs(i["size"]),
        i["price"],
        i["equity"],
        maintenance_rate=i["mmf"],
        other_maintenance=i.get("mmr_other", 0),
        rule="dydx",
    )
    return {"liq_price": price}


def _price_with_fee(i, venue):
    inverse = "face" in i
    rule = f"{venue}-inverse" if inverse else venue
    price = f.liquidation_price(
        i["side"],
        _qty(i),
        i["avg"] if inverse else i["entry"],
        _margin(i, inverse),
        maintenance_rate=i["mmr"],
        closing_fee=i["taker"],
        rule=rule,
        tick=i.get("tick"),
    )
    return {"liquidation_price": price, "liq_price": price}


def _price_at_mark(i, venue):
    """Return the price of venues that tell equity at the mark instead of a wallet and an entry."""
    mark = exact(i["mark"]) if "mark" in i else exact(i["value"]) / exact(i["size"])
    rate = f.brackets_from_leverage([0], [i["max_leverage"]])[0].rate if "max_leverage" in i else i["mmf"]
    price = f.liquidation_price(
        i["side"],
        i["size"],
        mark,
        i["margin"] if "margin" in i else i["account_value"],
        maintenance_rate=rate,
        other_maintenance=i.get("mmr_other", 0),
        rule=venue,
    )
    return {"liq_price": price}


def _price_kucoin(i):
    side, size, entry, tick = i.get("side", 1), i["size"], exact(i["entry"]), i.get("tick", 1)
    own = _margin(i) + exact(i["cross_add"])
    fee = f.closing_fee_reserve(size, entry * (1 + 1 / exact(i["leverage"])), i["taker"])
    needs = f.maintenance_margin(size * entry, f.build_brackets([0], [i["mmr"]]))
    down = "down" if side > 0 else "up"
    return {
        "pos_comm": fee,
        "pos_margin": own + fee,
        "pos_maint": needs + fee,
        "bankrupt": f.bankruptcy_price(side, size, entry, own, tick=tick, rounding=down),
        "liq": f.liquidation_price(side, size, entry, own, maintenance_rate=i["mmr"], rule="kucoin", tick=tick),
    }


PRICES = {
    "binance-usdm": _price_binance,
    "binance-coinm": _price_binance_coin,
    "bybit-linear": lambda i: _isolated(i, inverse=False),
    "bybit-inverse": _price_bybit_inverse,
    "bybit-inverse-cross": _price_bybit_cross,
    "dydx": _price_dydx,
    "gate": lambda i: _price_with_fee(i, "gate"),
    "okx": lambda i: _price_with_fee(i, "okx"),
    "hyperliquid": lambda i: _price_at_mark(i, "hyperliquid"),
    "kucoin": _price_kucoin,
    "lighter": lambda i: _price_at_mark(i, "lighter"),
}


# ---------------------------------------------------------------- funding


def funding_cap(i, _):
    if "factor" in i:
        return {"cap": f.rate_cap(i["factor"], i["imf"], i["mmf"])}
    return {"cap_ppm": f.rate_cap_ppm(i["clamp_factor_ppm"], i["im_ppm"], i["mm_fraction_ppm"])}


def funding_interest(i, _):
    return {"interest": f.interest_rate(i["quote_day"], i["base_day"], i["intervals_per_day"])}


def funding_payment(i, _):
    if "qty" in i:
        paid = -f.funding_payment(i["qty"], i["entry"], i["rate_8h"], inverse=True)
        pnl = f.unrealised_pnl(1, i["qty"], i["entry"], i["exit"], inverse=True)
        value = abs(f.position_value(1, i["qty"], i["entry"], inverse=True))
        return {"value_xbt": value, "funding_xbt": paid, "pnl_xbt": pnl, "net_xbt": pnl - paid}
    paid = f.funding_per_unit(
        i["f_twap"],
        i["s_twap"],
        year_part=i["dt"],
        interest=i["ir"],
        low=i["lo"],
        high=i["hi"],
        scale=i.get("scale", 1),
        rate_low=i.get("rlo"),
        rate_high=i.get("rhi"),
    )
    return {"payment": paid, "rate": paid / exact(i["s_twap"])}


def funding_premium(i, _):
    return {"premium_ppm": f.premium_ppm(i["bids"], i["asks"], i["index"], i["impact"])}


def funding_rate(i, _):
    if "damper" in i:
        rate = f.dampen_premium(i["premium"], i["damper"])
        return {"rate_8h": rate, "payment": -f.funding_payment(i["size"], 1, rate, exact(i["hours"]) / 8)}
    premium = f.premium(i["impact_bid"], i["impact_ask"], i["oracle"])
    rate = f.funding_rate(premium, i["interest_8h"], i["clamp"])
    hourly = f.rate_per_interval(rate, 1, i.get("cap_1h", Decimal("0.04")))
    return {"premium": premium, "rate_8h": rate, "rate_1h": hourly}


def funding_twap(i, _):
    pauses = [i["auction"]] if "auction" in i else []
    marks, spots = ([(0, i[f"{name}0"]), *i[name]] for name in ("mark", "spot"))
    inside, outside = (f.time_weighted_average(series, 0, i["period"], pauses) for series in (marks, spots))
    part = f.open_time(0, i["period"], pauses) / exact(i["period"])
    payment = f.funding_per_unit(inside, outside, open_part=part)
    return {"internal_twap": inside, "external_twap": outside, "payment": payment}


# ---------------------------------------------------------------- the fund


def insurance_fund(i, _):
    if "fund0" in i:
        trace = f.trace_fund(i["side"], i["bankruptcy"], i["fills"], i["fund0"])
        return {"deltas": [step.delta for step in trace], "balances": [step.balance for step in trace]}
    if "bust" in i:
        deltas = [step.delta for step in f.trace_fund(i["side"], i["bust"], i["fills"])]
        return {"sign": [(delta > 0) - (delta < 0) for delta in deltas]}
    if "fill_quote" in i:
        return {"fund_delta": f.fund_delta(i["side"], i["fill_quote"], i["bankruptcy_quote"], i["max_fee"])}
    if "pool" in i:
        cover = f.cover_loss(i["shortfall"], i["pool"])
        return {"from_pool": cover.from_fund, "socialised": cover.socialised}
    deposit, size, entry = i["deposit"], i["size"], i["entry"]
    worst = f.fillable_price("long", 1, i["mmf"], 0, i["smmr"])
    return {
        "equity_at_oracle": exact(deposit) + f.unrealised_pnl("long", size, entry, i["oracle"]),
        "mmr_at_entry": f.maintenance_margin(size * exact(entry), f.build_brackets([0], [i["mmf"]])),
        "fund_pays": f.deficit_of_fill(deposit, "long", size, entry, i["fill"]),
        "max_spread": 1 - worst,
    }


def loss_socialisation(i, _):
    if "long_base" in i:
        return {"funding_rate_delta": f.socialise_per_unit(i["loss"], i["long_base"], i["short_base"]).per_unit}
    return {"paid": f.share_floor_last(i["collected"], i["gains"], i["target"])}


# ---------------------------------------------------------------- closing


def liquidation_fee(i, _):
    rate = f.liquidation_fee_rate(i["margin_ratio"], i["liq_fee"], i["shortage"], i["base"], i["price"], i["max_fee"])
    return {"if_fee": rate}


def liquidation_flow(i, _):
    if "position" in i:
        return {"trades": f.disposal_sizes(i["position"], i["fraction"], i["full_size"], i["book"], i["m"])}
    book = i["book_asks"] if i["victim_size"] < 0 else i["book_bids"]
    walk = f.walk_book(
        i["victim_quote"], i["victim_size"], book, i["limit"], i["oracle"], fund=i["fund"], fee_cap=i["max_fee"]
    )
    return {
        "filled": walk.filled,
        "victim_quote": walk.quote,
        "victim_size": walk.size,
        "requires_deleveraging": walk.requires_deleveraging,
        "fund": walk.fund,
    }


def order_price(i, _):
    if "keep" in i:
        limit = f.price_keeping_margin(i["side"], i["qty"], i["mark"], i["mm"], i["keep"])
        return {"close_price": limit.price, "left": limit.left}
    if "positions" in i:
        price = f.fillable_price_of(i["quote"], *_table(i), i["market"], spread=i["smmr"], adjustment=i["ba"])
        return {"fillable_price": price}
    if "q" in i:
        return {"fillable_price": f.fillable_price(i["side"], i["oracle"], i["mmf"], i["q"], i["smmr"], i["ba"])}
    price = f.zero_price(i["side"], i["mark"], i["mmf"], i["account_value"], i["mmr"])
    # what closing at that price does: the loss against the mark, and the maintenance that goes
    lost = f.unrealised_pnl(i["side"], i["close"], i["mark"], price)
    gone = f.maintenance_margin(i["close"] * exact(i["mark"]), f.build_brackets([0], [i["mmf"]]))
    before = f.Account(exact(i["account_value"]), exact(i["mmr"]))
    after = f.Account(before.equity + lost, before.maintenance - gone)
    return {"zero_price": price, "ratio_before": 1 / before.ratio, "ratio_after": 1 / after.ratio}


def partial(i, _):
    if "liq_fee" in i:
        base = f.size_to_cover(
            i["shortage"],
            i["price"],
            i["margin_ratio"],
            i["liq_fee"],
            i["if_fee"],
            quote_price=i["quote_price"],
            step=Decimal("1e-9"),
        )
        return {"base": base}
    if "slots" in i:
        return {"pct": f.share_after_slots(i["shortage"], i["slots"], i["initial"], i["duration"])}
    if "notional" in i:
        backstop = f.vault_level(i["equity"], i["mm"])
        return {
            "first_order_notional": f.first_notional(i["notional"]),
            "backstop": backstop.reached,
            "backstop_level": backstop.level,
        }
    if "tier1_max" in i:
        return {"close": f.size_to_tier(i["position"], i["tier1_max"])}
    held = [f.CrossPosition(p["size"], p["entry"], p["mark"], 0) for p in i["positions"]]
    equity = f.cross_account(i["balance"], held).equity
    choice = f.least_share(equity, i["mmr_total"], i["fee_rate"], i["target"], i["step"])
    rows = [
        [row.share, row.maintenance, row.penalty, row.equity, None if row.ratio is None else 100 * row.ratio]
        for row in choice.rows
    ]
    return {"upnl": equity - i["balance"], "account_value": equity, "rows": rows, "share": choice.share}


def trigger(i, _):
    if "quote" in i:
        one = {"BTC": i["size"]}
        account = f.collateral_account(i["quote"], one, {"BTC": i["oracle"]}, {"BTC": i["mmf"]})
        bad = f.is_liquidatable(account.equity, account.maintenance)
        return {"tnc": account.equity, "tmmr": account.maintenance, "liquidatable": bad}
    side = i.get("side", 1)
    pnl = f.unrealised_pnl(side, i["qty"], i["entry"], i["mark"])
    account = f.Account(f.initial_margin(i["qty"], i["entry"], i["leverage"]) + pnl, exact(i["mm"]))
    return {"equity": account.equity, "margin_ratio": account.ratio}


# ---------------------------------------------------------------- margin


def margin_initial(i, _):
    if "factor" in i:
        return {"margin_usdc": f.quadratic_margin(i["position"], i["base_rate"], i["factor"], i["index"])}
    return {"im_btc": f.initial_margin(_qty(i), i["price"], i["leverage"], inverse=True)}


def margin_initial_oi(i, _):
    base = Fraction(i["base_ppm"], PPM)
    return {"imf_ppm": PPM * f.initial_rate_at_interest(base, i["lower"], i["upper"], i["open_notional"])}


def margin_isolated(i, _):
    return {"margin": f.isolated_margin(i["entry"], i["pos"], i["factor"])}


def margin_maintenance(i, vector):
    if "table" in i:
        table = vector["tables"][i["table"]]["inputs"]
        return {"mm": f.maintenance_margin(i["notional"], f.build_brackets(table["floors"], table["mmr"]))}
    if "tier_size" in i:
        floors = [n * i["tier_size"] for n in range(len(i["mmr"]))]
        return {"mm": f.maintenance_margin(i["position"], f.build_brackets(floors, i["mmr"]))}
    if "tiers" in i:
        floors = [0, *(top for top, _ in i["tiers"][:-1])]
        brackets = f.build_brackets(floors, [rate for _, rate in i["tiers"]])
        return {"mm": f.maintenance_margin(i["position"], brackets)}
    if "factor" in i:
        return {"margin_usdc": f.quadratic_margin(i["position"], i["base_rate"], i["factor"], i["index"])}
    return {"mm": f.maintenance_with_slippage(i["mark"], i["pos"], i["slippage"], i["rf"])}


def margin_maintenance_perp(i, _):
    return {"mm_perp": f.maintenance_with_funding(i["mm"], i["factor"], i["pos"], i["funding"])}


def margin_tier(i, _):
    rung = f.risk_limit_step(i["position"], i["base_limit"], i["step"], i["base_mm"], i["base_im"])
    rates = {"mm_rate": rung.maintenance_rate, "im_rate": rung.initial_rate}
    return {"limit": rung.limit, "mm": rung.maintenance, **rates}


def margin_tier_table(i, _):
    if "cum_prev" in i:
        return {"cum": f.tier_deduction(i["floor"], i["mmr"], i["mmr_prev"], i["cum_prev"])}
    if "limits" in i:
        rates = [exact(rate) / 100 for rate in i["mmr_pct"]]
        table = f.build_brackets([0, *i["limits"][:-1]], rates)
    elif "mmr" in i:
        table = f.build_brackets(i["floors"], i["mmr"])
    else:
        table = f.brackets_from_leverage(i["floors"], i["max_leverage"])
    deductions = [tier.deduction for tier in table]
    names = ("cum", "mm_deduction", "deduction")
    return {"mmr": [tier.rate for tier in table], **dict.fromkeys(names, deductions)}


# ---------------------------------------------------------------- marks and profit


def mark_price(i, _):
    common = (i["index"], i["funding_rate"] if "funding_rate" in i else i["last_funding"])
    common = (*common, i["time_to_funding_h"], i["interval_h"])
    if "last" not in i:
        return {"fair": f.fair_price(*common)}
    mark = f.median_mark(*common, i["basis_ma"], i["last"])
    return {"p1": mark.funding_price, "p2": mark.basis_price, "mark": mark.mark}


def mark_price_ema(i, _):
    return {"ema": f.exponential_average(i["samples"], i["tau"])}


def pnl_takeover(i, _):
    trace = f.trace_network_position(i["events"])
    marks = [mark for _, _, mark in i["events"]]
    return {"states": [[h.qty, h.realised, h.unrealised(m)] for h, m in zip(trace, marks, strict=True)]}


def pnl_unrealised(i, _):
    entry = i["entry"]
    if "leverages" in i:
        pnl = f.unrealised_pnl(i.get("side", 1), i["qty"], entry, i["price"], inverse=True)
        returns = [f.return_on_margin(1, entry, i["price"], times, inverse=True) for times in i["leverages"]]
        return {"pnl_btc": pnl, "pct": [100 * ret for ret in returns], "usd": pnl * exact(i["price"])}
    side, inverse = i.get("side", 1), "contract_size" in i
    return {
        "upnl": f.unrealised_pnl(side, _qty(i), entry, i["mark"], inverse=inverse),
        "value": abs(f.position_value(side, _qty(i), i["mark"], inverse=inverse)),
    }


TOPICS = {
    "adl.execution": adl_execution,
    "adl.indicator": adl_indicator,
    "adl.price": adl_price,
    "adl.queue": adl_queue,
    "adl.score": adl_score,
    "adl.trigger": adl_trigger,
    "api.adl_rank": api_adl_rank,
    "api.liquidation": api_liquidation,
    "bankruptcy_price": bankruptcy_price,
    "bankruptcy_price.rounding": bankruptcy_rounding,
    "funding.cap": funding_cap,
    "funding.interest": funding_interest,
    "funding.payment": funding_payment,
    "funding.premium": funding_premium,
    "funding.rate": funding_rate,
    "funding.twap": funding_twap,
    "insurance_fund": insurance_fund,
    "liquidation.fee": liquidation_fee,
    "liquidation.flow": liquidation_flow,
    "liquidation.order_price": order_price,
    "liquidation.partial": partial,
    "liquidation.trigger": trigger,
    "liquidation_price": liquidation_price,
    "loss_socialisation": loss_socialisation,
    "margin.initial": margin_initial,
    "margin.initial_oi": margin_initial_oi,
    "margin.isolated": margin_isolated,
    "margin.maintenance": margin_maintenance,
    "margin.maintenance_perp": margin_maintenance_perp,
    "margin.tier": margin_tier,
    "margin.tier_table": margin_tier_table,
    "mark_price": mark_price,
    "mark_price.ema": mark_price_ema,
    "pnl.takeover": pnl_takeover,
    "pnl.unrealised": pnl_unrealised,
}
