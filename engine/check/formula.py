"""Scenarios of profile `formula`: one named function, cases of inputs and expected outputs.

Each name is a binding of inputs to public functions of `engine.formulas`; nothing is computed here but names.  Inputs
and outputs are JSON values whose numbers are integers or text ("0.5", "14/3"), compared exactly; a key that ends in `~`
holds approximate numbers.

Source: FORM-004.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from engine import formulas
from engine.formulas import exact

Inputs = Mapping[str, Any]

MICRO = Fraction(1, 10**6)
NEAR_LIST, NEAR_NUMBER = Fraction(2, 10**5), Fraction(1, 10**6)  # of keys that end in ~


def evaluate(function: str, inputs: Inputs) -> dict[str, Any]:
    """Return what our formulas make of a case's inputs, numbers as Fractions.

    Raises
    ------
    ValueError
        For an unknown function, listing the known, and for inputs it cannot use, naming function and fault.

    Source: FORM-004.
    """
    if function not in FUNCTIONS:
        raise ValueError(f"unknown function {function!r}, known: {', '.join(sorted(FUNCTIONS))}")
    try:
        return FUNCTIONS[function](inputs)
    except KeyError as error:
        raise ValueError(f"{function}: expected an input named {error}") from error
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{function}: {error}") from error


def is_close(got: Any, want: Any) -> bool:
    """Return whether a result holds everything that is expected of it.

    Numbers are equal as rationals, whatever their form (1, "1.0", "3/3"); a mapping has every expected key; the numbers
    of a key that ends in `~` differ by less than 2e-5 in lists and 1e-6 alone.

    Source: FORM-004.
    """
    if isinstance(want, Mapping):
        if not isinstance(got, Mapping) or not set(want) <= set(got):
            return False
        return all(
            _is_near(got[key], want[key]) if key.endswith("~") else is_close(got[key], want[key]) for key in want
        )
    if isinstance(want, list):
        same = isinstance(got, list) and len(got) == len(want)
        return same and all(is_close(a, b) for a, b in zip(got, want, strict=True))
    if isinstance(want, bool) or isinstance(got, bool):
        return got is want
    return bool(_normal(got) == _normal(want))


def _is_near(got: Any, want: Any) -> bool:
    if isinstance(want, list):
        same = isinstance(got, list) and len(got) == len(want)
        return same and all(abs(_number(a) - _number(b)) < NEAR_LIST for a, b in zip(got, want, strict=True))
    return abs(_number(got) - _number(want)) < NEAR_NUMBER


def _normal(value: Any) -> Any:
    try:
        return _number(value)
    except (TypeError, ValueError):
        return value


def _number(value: Any) -> Fraction:
    # JSON has no decimals of its own: a float is one that was printed, and means the shortest text that reads the same
    return exact(repr(value)) if isinstance(value, float) else exact(value)


# ---------------------------------------------------------------- margin, bankruptcy, order prices


def _table(i: Inputs) -> tuple[Any, Any, dict[str, Any]]:
    return i["positions"], i["prices"], dict.fromkeys(i["positions"], i["mmr"])


def _dydx_bankruptcy(i: Inputs) -> dict[str, Any]:
    quote = formulas.bankruptcy_quote(i["quote"], *_table(i), i["perp"], i["delta"], MICRO)
    return {"micro": quote / MICRO}


def _dydx_fillable(i: Inputs) -> dict[str, Any]:
    price = formulas.fillable_price_of(i["quote"], *_table(i), i["perp"], spread=i["smmr"], adjustment=i["ba"])
    return {"price": price}


def _dydx_fund_delta(i: Inputs) -> dict[str, Any]:
    position = {"sell": "long", "buy": "short"}[i["side"]]  # the order's side closes the position's
    return {
        "delta": formulas.fund_delta(position, exact(i["qty"]) * exact(i["px"]), i["bankruptcy_quote"], i["max_fee"])
    }


def _liquidatable(i: Inputs) -> dict[str, Any]:
    one = formulas.collateral_account(i["quote"], {"": i["base"]}, {"": i["oracle"]}, {"": i["mmr"]})
    return {"liquidatable": formulas.is_liquidatable(one.equity, one.maintenance)}


def _vega_liquidatable(i: Inputs) -> dict[str, Any]:
    return {"liquidatable": formulas.is_liquidatable(i["equity"], i["maintenance"], flat_too=True)}


def _cross_margin(i: Inputs) -> dict[str, Any]:
    held = [formulas.CrossPosition(p["qty"], p["entry"], p["mark"], p["mm"], p["im"]) for p in i["positions"]]
    account = formulas.cross_account(i["collateral"], held)
    return {
        "equity": account.equity,
        "mm": account.maintenance,
        "im": account.initial,
        "liquidatable": formulas.is_liquidatable(account.equity, account.maintenance, strict=False, flat_too=True),
        "trade_ok": account.equity >= account.initial,
    }


def _reduce_only(i: Inputs) -> dict[str, Any]:
    order = exact(i["order"]) * formulas.sign_of(i["side"])
    return {"accept": formulas.accepts_order(i["position"], order, i["equity"], i["initial"], i["maintenance"])}


def _mtm_interval(i: Inputs) -> dict[str, Any]:
    return {"cashflow": formulas.settle_interval(i["qty"], i["m0"], i["m1"])}


def _disposal(i: Inputs) -> dict[str, Any]:
    sizes = formulas.disposal_sizes(i["position"], i["fraction"], i["full"], i["book"], i["max_consume"])
    return {"sizes": sizes}


# ---------------------------------------------------------------- marks and funding


def _mark_weighted(i: Inputs) -> dict[str, Any]:
    return {"mark": formulas.weighted_mark([(t["px"], t["qty"], t["w"]) for t in i["trades"]], 1)}


def _mark_median(i: Inputs) -> dict[str, Any]:
    return {"mark": formulas.median_of_sources(i["sources"], 1)}


def _mark_last_trade_freq(i: Inputs) -> dict[str, Any]:
    events = [(event["t"], event["last_trade"]) for event in i["events"]]
    return {"marks": formulas.throttle_marks(i["mark"], events, i["max_frequency"])}


def _funding(i: Inputs) -> dict[str, Any]:
    return {"payments": formulas.funding_payments(i["positions"], i["s_twap"], i["rate"], i["dt_years"])}


# ---------------------------------------------------------------- fund and losses


def _fund_valid(i: Inputs) -> dict[str, Any]:
    return {"valid": formulas.can_pay(i["fund"], i["delta"])}


def _drift_social(i: Inputs) -> dict[str, Any]:
    spread = formulas.socialise_per_unit(i["loss"], i["long_base"], i["short_base"])
    return {"delta_per_base": spread.per_unit, "long_cost": spread.longs, "short_cost": spread.shorts}


def _mango(i: Inputs) -> dict[str, Any]:
    cover = formulas.cover_loss(
        i["loss"],
        i["fund_units"],
        fund_price=i["fund_price"],
        settle_price=i["settle_price"],
        cap=i.get("liqor_cap"),
    )
    return {"covered": cover.from_fund, "fund_units_paid": cover.fund_units, "socialised": cover.socialised}


def _injective_social(i: Inputs) -> dict[str, Any]:
    return {"cuts": formulas.share_loss(i["missing"], i["profit_qty"])}


def _percolator(i: Inputs) -> dict[str, Any]:
    names = ("principal", "realized", "warming", "collateral", "insurance")
    cut = formulas.haircut_claims(*(i[name] for name in names))
    return {"burned_warming": cut.burned, "equity_left": cut.kept, "haircut": cut.rate}


def _perennial(i: Inputs) -> dict[str, Any]:
    side = formulas.cover_side(i["major"], i["minor"], i["maker"], i["from"], i["to"])
    micro = formulas.floor_to_step(side.per_unit, MICRO) / MICRO
    return {"covered": side.covered, "pnl_major_total": side.pnl, "pnl_per_unit_micro_floor": micro}


# ---------------------------------------------------------------- auto-deleveraging


def _bitmex_queue(i: Inputs) -> dict[str, Any]:
    queue = formulas.build_queue([(a["id"], a["qty"], a["score"]) for a in i["accounts"]], i["need"])
    return {
        "closed": {place.account: place.closed for place in queue if place.closed},
        "cum_pct": {place.account: 100 * place.part for place in queue},
    }


def _bitmex_score(i: Inputs) -> dict[str, Any]:
    score = formulas.score_signed_values(i["mark_value"], i["avg_entry_value"], i["bankrupt_value"])
    return {"score": score.score}


def _hl_rank(i: Inputs) -> dict[str, Any]:
    rows = {account["id"]: account for account in i["accounts"]}
    docs = {name: formulas.score_hyperliquid_docs(a["entry"], a["mark"], a["lev"]) for name, a in rows.items()}
    gained = {
        name: formulas.return_on_margin(formulas.sign_of(int(a["side"])), a["entry"], a["mark"], a["lev"])
        for name, a in rows.items()
    }
    return {
        "docs_order": sorted(docs, key=lambda name: -docs[name]),
        "pnl_order": sorted(gained, key=lambda name: -gained[name]),
    }


def _deleverage_gate(i: Inputs) -> dict[str, Any]:
    return {"deleverage": formulas.may_deleverage(i["quote"], i["base"], i["oracle"])}


def _gmx_adl(i: Inputs) -> dict[str, Any]:
    state = formulas.is_pool_pnl_above(
        i["pool_tokens"], i["pool_price"], i["size_tokens"], i["entry"], i["px"], i["max_factor"]
    )
    return {"factor": state.ratio, "adl": state.triggered}


def _window(i: Inputs) -> dict[str, Any]:
    return {"used": formulas.spent_in_window(i["now"], i["window"], i["past"])}


def _queue_alloc(i: Inputs) -> dict[str, Any]:
    capacities = {w["id"]: w["w"] for w in i["winners"]}
    done = formulas.allocate_queue(capacities, {w["id"]: w["score"] for w in i["winners"]}, i["budget"])
    return {"x": done.taken, "unfilled": done.unfilled}


def _prorata_alloc(i: Inputs) -> dict[str, Any]:
    weights = {w["id"]: exact(w["w"]) * exact(w.get("g", 1)) for w in i["winners"]}
    done = formulas.allocate_pro_rata(weights, i["budget"], {w["id"]: w.get("cap", w["w"]) for w in i["winners"]})
    return {"x": done.taken, "unfilled": done.unfilled}


def _largest_remainder(i: Inputs) -> dict[str, Any]:
    return {"x": formulas.allocate_largest_remainder({w["id"]: w["contracts"] for w in i["winners"]}, i["close"])}


def _min_max_lev(i: Inputs) -> dict[str, Any]:
    accounts = {a["id"]: (a["qty"], a["equity"]) for a in i["accounts"]}
    done = formulas.drain_leverage(accounts, i["price"], i["close"])
    return {"level": done.level, "x": done.taken}


def _float_waterfill(i: Inputs) -> dict[str, Any]:
    # the paper's one-factor form: exposures are risk-weighted sums, and only one asset is taken
    factors, asset = [_number(v) for v in i["v"]], i["asset"]
    names = [str(index) for index in range(len(i["accounts"]))]
    sizes = [[_number(q) for q in account["q"]] for account in i["accounts"]]
    exposures = [sum((v * q for v, q in zip(factors, own, strict=True)), Fraction(0)) for own in sizes]
    equities = [_number(account["equity"]) for account in i["accounts"]]
    done = formulas.fill_water(
        dict(zip(names, zip(exposures, equities, strict=True), strict=True)),
        dict.fromkeys(names, factors[asset]),
        {name: own[asset] for name, own in zip(names, sizes, strict=True)},
        _number(i["close"]),
    )
    return {"x~": [done.taken[name] for name in names], "eta~": done.level}


def _linear_regret(i: Inputs) -> dict[str, Any]:
    high, rounds, price = exact(i["M"]), i["T"], exact(i["lambda"])
    regret = formulas.fixed_queue_regret(high, rounds, price)
    return {"regret": regret, "closed_form": Fraction(rounds, 2) * price * (1 - 1 / high)}


def _churn(i: Inputs) -> dict[str, Any]:
    low, high, rounds = exact(i["a_min"]), exact(i["a_max"]), i["T"]
    heads = [high if turn % 2 else low for turn in range(rounds)]
    everybody = [(low + high) / 2] * rounds  # pro rata takes from the same mixture every time
    return {
        "queue_variation": formulas.impact_variation(heads),
        "prorata_variation": formulas.impact_variation(everybody),
    }


FUNCTIONS: dict[str, Callable[[Inputs], dict[str, Any]]] = {
    "bitmex_queue": _bitmex_queue,
    "bitmex_score": _bitmex_score,
    "churn": _churn,
    "cross_margin": _cross_margin,
    "deleverage_gate": _deleverage_gate,
    "disposal": _disposal,
    "drift_social": _drift_social,
    "dydx_bankruptcy": _dydx_bankruptcy,
    "dydx_fillable": _dydx_fillable,
    "dydx_fund_delta": _dydx_fund_delta,
    "float_waterfill": _float_waterfill,
    "fund_valid": _fund_valid,
    "funding": _funding,
    "gmx_adl": _gmx_adl,
    "hl_rank": _hl_rank,
    "injective_social": _injective_social,
    "largest_remainder": _largest_remainder,
    "linear_regret": _linear_regret,
    "liquidatable": _liquidatable,
    "mango": _mango,
    "mark_last_trade_freq": _mark_last_trade_freq,
    "mark_median": _mark_median,
    "mark_weighted": _mark_weighted,
    "min_max_lev": _min_max_lev,
    "mtm_interval": _mtm_interval,
    "percolator": _percolator,
    "perennial": _perennial,
    "prorata_alloc": _prorata_alloc,
    "queue_alloc": _queue_alloc,
    "reduce_only": _reduce_only,
    "vega_liquidatable": _vega_liquidatable,
    "window": _window,
}
