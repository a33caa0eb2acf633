"""The policies of stages 1 to 3 as they are written: read in integers, and refused by name, value and expectation."""

from decimal import Decimal

import pytest

from engine import codes
from engine.contract import AdlPolicy, LiquidationPolicy, Market, Tier, build_setup, load_market
from engine.errors import ConfigError
from engine.layout import MARKET


def make_market(gate="always", **policy):
    tiers = (Tier(floor=Decimal(0), initial=Decimal("0.1"), maintenance=Decimal("0.05")),)
    sizes = {"tick_size": Decimal("0.5"), "lot_size": Decimal("0.1"), "quote_unit": Decimal("0.01")}
    liquidation, adl = LiquidationPolicy(**policy), AdlPolicy(gate=gate)
    return Market(symbol="X", tiers=tiers, default_leverage=5, liquidation=liquidation, adl=adl, **sizes)


def read(**policy):
    """Return the rules of a market with these policies."""
    return build_setup([make_market(**policy)]).markets[0]


STAGES = (
    "cancel", "size", "share_ppm", "share_min_quote", "full_below_quote", "step_max_quote", "cooldown_ns",
    "after_share", "limit", "spread_ppm", "adjustment_ppm", "surplus", "surplus_fee_ppm", "shortfall",
    "fund_loss_max_quote", "adl_gate",
)  # fmt: skip


def test_the_defaults_are_what_was():
    """STAGE-001..STAGE-009, CFG-001: nothing is set, and every field has a place in the kernels' record."""
    rules = read()
    policies = ("cancel", "size", "after_share", "limit", "surplus", "shortfall", "adl_gate", "cooldown_ns")
    assert {name: getattr(rules, name) for name in policies} == dict.fromkeys(policies, 0)
    assert {name: getattr(rules, name) for name in STAGES if name.endswith("_quote")} == {
        "share_min_quote": 0, "full_below_quote": 0, "step_max_quote": 0, "fund_loss_max_quote": 0,
    }  # fmt: skip
    assert set(STAGES) <= set(MARKET.names or ()) & set(rules._fields)


def test_policies_are_read_in_integers():
    """STAGE-003, STAGE-006, STAGE-007, STAGE-008: money in units of the asset, rates per million, times in ns."""
    text = {"cancel": "none", "size": "share", "limit": "fillable", "surplus": "capped_fee", "shortfall": "refuse"}
    rates = {"share": "0.125", "spread": "1.5", "adjustment": "2", "surplus_fee": "0.005", "cooldown_s": "0.0000005"}
    amounts = {"share_min": "1000", "full_below": "0.01", "step_max": "99999.99", "fund_loss_max": "1"}
    numbers = {name: Decimal(value) for name, value in (rates | amounts).items()}
    rules = read(gate="insolvent", after_share="full", **text, **numbers)
    assert [getattr(rules, name) for name in STAGES] == [
        codes.SCOPE_NONE, codes.SIZE_SHARE, 125_000, 100_000, 1, 9_999_999, 500, codes.AFTER_FULL,
        codes.LIMIT_FILLABLE, 1_500_000, 2_000_000, codes.SURPLUS_CAPPED, 5_000, codes.SHORTFALL_REFUSE, 100,
        codes.GATE_INSOLVENT,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"cancel": "all"}, r"X\.liquidation\.cancel: unknown policy 'all', known: account, market, none"),
        ({"size": "half"}, r"X\.liquidation\.size: unknown policy 'half', known: full, tiered, share"),
        ({"limit": "mark"}, r"X\.liquidation\.limit: unknown policy 'mark', known: none, bankruptcy, fillable"),
        ({"surplus": "me"}, r"X\.liquidation\.surplus: unknown policy 'me', known: fund, trader, capped_fee"),
        ({"shortfall": "x"}, r"X\.liquidation\.shortfall: unknown policy 'x', known: cut, refuse"),
        ({"after_share": "x"}, r"X\.liquidation\.after_share: unknown policy 'x', known: wait, full"),
        ({"gate": "x"}, r"X\.adl\.gate: unknown policy 'x', known: always, insolvent"),
        ({"share": "0.009"}, r"X\.liquidation\.share: expected 0\.01 to 1, got 0\.009"),
        ({"share": "1.01"}, r"X\.liquidation\.share: expected 0\.01 to 1, got 1\.01"),
        ({"spread": "-0.1"}, r"X\.liquidation\.spread: expected 0 to 10, got -0\.1"),
        ({"spread": "10.1"}, r"X\.liquidation\.spread: expected 0 to 10, got 10\.1"),
        ({"adjustment": "0.9"}, r"X\.liquidation\.adjustment: expected 1 to 100, got 0\.9"),
        ({"surplus_fee": "1"}, r"X\.liquidation\.surplus_fee: expected 0 to below 1, got 1"),
        ({"share_min": "-1"}, r"X\.liquidation\.share_min: expected 0 or more, up to 2\*\*58 units, got -1"),
        ({"fund_loss_max": "0.001"}, r"X\.liquidation\.fund_loss_max: value 0\.001 is not a multiple of 0\.01"),
        ({"full_below": "1e16"}, r"X\.liquidation\.full_below: expected 0 or more, up to 2\*\*58 units"),
        ({"cooldown_s": "-1"}, r"X\.liquidation\.cooldown_s: expected 0 to 1000000 seconds, got -1"),
        ({"cooldown_s": "1000001"}, r"X\.liquidation\.cooldown_s: expected 0 to 1000000 seconds, got 1000001"),
        ({"step_max": "5"}, r"X\.liquidation\.step_max: expected with a cooldown_s above 0"),
        ({"after_share": "full"}, r"X\.liquidation\.after_share: 'full' expects size = 'share' and a cooldown_s"),
        ({"after_share": "full", "cooldown_s": "1"}, r"X\.liquidation\.after_share: 'full' expects size = 'share'"),
    ],
)
def test_what_cannot_be_is_refused(policy, words):
    """CFG-001, CFG-002, LIQ-002: path, value and what was expected."""
    numbers = {
        name: value if name in codes.POLICIES or name == "gate" else Decimal(value) for name, value in policy.items()
    }
    with pytest.raises(ConfigError, match=words):
        read(**numbers)


def test_policies_are_read_from_a_file(tmp_path):
    """CFG-001: TOML with the names of the struct; an unknown one is refused."""
    lines = ['symbol = "X"', 'tick_size = "0.5"', 'lot_size = "0.1"', "default_leverage = 5", "[liquidation]"]
    lines += ['size = "share"', 'share = "0.1"', 'cooldown_s = "30"', 'after_share = "full"', "[adl]"]
    lines += ['gate = "insolvent"', "[[tiers]]", 'floor = "0"', 'initial = "0.1"', 'maintenance = "0.05"']
    file = tmp_path / "market.toml"
    file.write_text("\n".join(lines))
    rules = build_setup([load_market(file)]).markets[0]
    assert (rules.share_ppm, rules.cooldown_ns, rules.adl_gate) == (100_000, 30 * 10**9, codes.GATE_INSOLVENT)
    file.write_text("\n".join(lines).replace("cooldown_s", "cooldown"))
    with pytest.raises(ConfigError, match="cooldown"):
        load_market(file)
