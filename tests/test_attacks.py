"""`perp attack`: gains worked out by hand, conservation of every pair, what is refused."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from engine.cli import main
from engine.contract import Market, Tier
from engine.errors import ConfigError, DataError
from engine.lab.attacks import FILE, RESERVED, AttackFile, change_market, compose_attack, describe_attack
from engine.policies import AdlPolicy, LiquidationPolicy

OURS = AttackFile()
PAIRS = [(attack, policy) for attack in OURS.forms for policy in OURS.list_policies(attack)]
SPREAD = 10  # money is told in cents, lots cost 1 to 100: below this a change is fees or their rounding


@pytest.fixture(scope="module")
def outcomes():
    return {pair: OURS.play(*pair) for pair in PAIRS}


def gain(outcomes, attack, policy):
    return outcomes[attack, policy].gain


def test_every_pair_is_conserved_and_names_its_payers(outcomes):
    """Source: ATK-002, MONEY-001."""
    for (attack, policy), outcome in outcomes.items():
        assert sum(outcome.changes.values()) == 0, (attack, policy)
        attackers = OURS.forms[attack].fields["attackers"]
        assert outcome.gain == sum(outcome.changes[name] for name in attackers)
        assert set(RESERVED) < set(outcome.changes)
        assert outcome.changes["the outside"] == 0  # it is no party to any of these


def test_two_halves_score_half_where_the_score_is_money(outcomes):
    """Eve, 10 short from 120, is first of uPnL x leverage (300 to 250 and 200) and closed at 95, the mark being 90.

    She gives up 5 x 10, and a maker's fee of 2 basis points on 950, 0.19.  Her halves score 150 each and stand behind
    250 and 200, who fill the 20.  By bitmex she is first, whole or halved (ratios): two fees on 475 round up to 0.10
    each, one cent more.

    Source: ATK-001, ADL-012, ADL-003.
    """
    whole = 50_00 + 19
    assert gain(outcomes, "sybil-split", "upnl_leverage") == whole
    assert outcomes["sybil-split", "upnl_leverage"].changes["carol"] == 0  # closed either way
    assert outcomes["sybil-split", "upnl_leverage"].changes["dave"] == -whole
    assert gain(outcomes, "sybil-split", "bitmex") == -1


def test_a_bait_of_one_lot_saves_nine(outcomes):
    """Closed first is the bait, then carol's 10, then 9 of dave's, who was spared before.

    Eve keeps 9 lots: 9 x 5 and 0.19 less the bait's 0.02.  Source: ATK-001, ADL-003, ADL-025.
    """
    assert gain(outcomes, "sybil-bait", "bitmex") == 45_00 + 19 - 2
    for policy in ("contracts", "pnl", "equity", "draining", "min_max", "oldest_first"):
        assert gain(outcomes, "sybil-bait", policy) == 0


def test_a_wash_trade_resets_the_score_for_both_fees(outcomes):
    """10 at 100 cost 0.20 and 0.50.  The queue passes to others; shares by contracts stay what they were.

    Source: ATK-001, ADL-003, ADL-025.
    """
    assert gain(outcomes, "wash-trade", "bitmex") == 50_19 - 70
    assert gain(outcomes, "wash-trade", "oldest_first") == 50_19 - 70  # opened_seq is new too (POS-005)
    assert gain(outcomes, "wash-trade", "contracts") == -70
    assert outcomes["wash-trade", "contracts"].changes["fees"] == 70


def test_leverage_goes_both_ways(outcomes):
    """Down: the front of the queue is left, but by equity the richer gives more.

    Up: a solvent bankrupt's 88.5 is 1.5 better than the mark, for 10 lots, less 2 basis points of 885, 0.18 rounded up.
    Source: ATK-001, ADL-005, ADL-017, STAGE-009.
    """
    assert gain(outcomes, "leverage-cut", "bitmex") == 50_19
    assert gain(outcomes, "leverage-cut", "contracts") == 0
    assert gain(outcomes, "leverage-cut", "equity") < -10_00
    assert gain(outcomes, "leverage-raise", "bitmex") == 15_00 - 18
    assert gain(outcomes, "leverage-raise", "at_mark") == -18  # to be closed costs the fee of 900
    assert gain(outcomes, "leverage-raise", "insolvent_only") == 0


def test_the_fund_buys_the_attackers_bids(outcomes):
    """20 bankrupt at 95 fall on 5 at 93, 5 at 91 and 10 at 85: the fund pays 10 + 20 + 100.

    The buyer has 20 x 94 for 1,770, less fees of 0.10 + 0.10 + 0.17.  Not closed by ADL, carol keeps her 20 and a fee
    of 0.38.  A fillable price of 91 reaches two of the three; a limit at 95 none.

    Source: ATK-001, LIQ-005, STAGE-005, STAGE-006.
    """
    open_book = outcomes["self-liquidation", "bitmex"]
    assert open_book.gain == 20 * 94_00 - 1770_00 - 37
    assert open_book.changes["fund"] == -130_00
    assert open_book.changes["carol"] == 20_38
    assert outcomes["self-liquidation", "limit_fillable"].changes["fund"] == -30_00
    assert gain(outcomes, "self-liquidation", "limit_bankruptcy") == 0
    assert gain(outcomes, "self-liquidation", "vault") == 0


def test_a_push_pays_where_the_last_trade_is_the_mark(outcomes):
    """Six lots sold at 98, 96 and 95 and back at 100 cost 22, and taker fees of 3 x 0.10.

    The liquidated 20 are bought at 86, 14 below where they were sold, for a fee of 0.35.  With a limit at bankruptcy
    ADL closes them at 93.5, for 0.38.

    Source: ATK-001, STEP-002, MARK-003, STAGE-005.
    """
    push = -22_00 - 30
    assert gain(outcomes, "mark-push", "bitmex") == 20 * 14_00 - 35 + push
    assert gain(outcomes, "mark-push", "limit_bankruptcy") == 20 * 6_50 - 38 + push
    assert outcomes["mark-push", "limit_bankruptcy"].changes["fund"] == 0
    for policy in ("index", "median3"):
        assert gain(outcomes, "mark-push", policy) == push
        assert outcomes["mark-push", policy].changes["bob"] == 0


def test_a_house_that_holds_on_pays_the_winner(outcomes):
    """The loser's 100 are gone, the winner has 20 x 20; 280 of it are the house's from 106 on, 20 the fund's at once.

    Source: ATK-001, HOUSE-004, HOUSE-005, HOUSE-006.
    """
    vault = outcomes["vault-dump", "vault"]
    assert (vault.gain, vault.changes["fund"], vault.changes["house"]) == (300_00, -20_00, -280_00)
    assert -SPREAD * 10 < gain(outcomes, "vault-dump", "bitmex") < 0
    assert gain(outcomes, "vault-dump", "takeover_carry") == gain(outcomes, "vault-dump", "bitmex")


@pytest.mark.parametrize(
    ("attack", "policy"), [("sybil-bait", "hyperliquid"), ("mark-push", "bitmex"), ("vault-dump", "vault")]
)
def test_both_engines_and_every_time_the_same(outcomes, attack, policy):
    """Source: STATE-003."""
    assert OURS.play(attack, policy, "both") == outcomes[attack, policy]
    assert AttackFile().play(attack, policy) == outcomes[attack, policy]


def test_policies_have_three_forms(outcomes):
    """Source: ATK-001."""
    named = outcomes["self-liquidation", "limit_bankruptcy"]
    spelled = OURS.play("self-liquidation", "liquidation.limit=bankruptcy,adl.score=bitmex")
    assert spelled.changes == named.changes
    assert OURS.play("vault-dump", "venue:hyperliquid").gain == gain(outcomes, "vault-dump", "vault")
    assert OURS.play("mark-push", "mark_model=index").gain == gain(outcomes, "mark-push", "index")
    assert OURS.find_policy("venue:hyperliquid")["adl"]["price"] == "previous_mark"
    for text in ("nobody", "adl.score", "book.limit=x", "adl.=x"):
        with pytest.raises(ConfigError, match="--policy: unknown"):
            OURS.find_policy(text)
    with pytest.raises(ConfigError, match="score"):
        OURS.play("sybil-split", "adl.score=nobody")


def test_a_policy_changes_what_it_names_and_nothing_else():
    """Source: ATK-001."""
    market = Market(
        symbol="XYZ",
        tick_size=1,
        lot_size=1,
        tiers=(Tier(floor=0, initial=Decimal("0.1"), maintenance=Decimal("0.05")),),
        liquidation=LiquidationPolicy(limit="bankruptcy"),
        adl=AdlPolicy(score="kucoin"),
    )
    changed = change_market(market, {"liquidation": {"surplus": "trader"}, "mark_model": "last"})
    assert changed.liquidation == LiquidationPolicy(limit="bankruptcy", surplus="trader")
    assert (changed.adl, changed.mark_model, changed.tiers) == (market.adl, "last", market.tiers)
    with pytest.raises(ConfigError, match="colour"):
        change_market(market, {"colour": "red"})


def test_the_table_is_printed(capsys):
    """Source: ATK-003, CLI-002."""
    assert main(["attack", "--only", "vault-dump", "--policy", "vault"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("vault-dump: ")
    assert "JELLY" in text
    row = text.splitlines()[-1].split()
    assert row == ["vault", "300.00", "0.00", "0.00", "-20.00", "-280.00", "0.00", "0.00"]
    assert main(["attack", "--only", "sybil-split", "--policy", "bitmex", "--policy", "upnl_leverage", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (attack,) = found["attacks"]
    assert [row["gain_quote"] for row in attack["outcomes"]] == [-1, 50_19]
    assert (attack["asset"], attack["unit"], found["file"]) == ("USDT", "0.01", "attacks.json")
    assert main(["attack", "--only", "nobody"]) == 5
    assert "known: sybil-split" in capsys.readouterr().err


def change(tmp_path: Path, old: str, new: str) -> Path:
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    file = tmp_path / "mine.json"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            '"qty": "-5", "price": "120", "collateral": "150"',
            '"qty": "-5", "price": "120", "collateral": "151"',
            "begins",
        ),
        ('"attackers": ["eve", "eve2"]', '"attackers": ["eve", "adam"]', "adam"),
        (
            '"honest": {"accounts": [\n',
            '"honest": {"accounts": [{"name": "zoe", "deposit": "1"},\n',
            "zoe begins with 100 units in one run and 0 in the other",
        ),
        ('"id": "sybil-bait"', '"id": "sybil-split"', "another attack"),
        ('"policies": ["bitmex", "binance"', '"policies": ["bitmax", "binance"', "bitmax"),
        ('"after": [{"command": "mark"', '"after": [{"command": "mork"', "mork"),
        ('"name": "bob"', '"name": "fund"', "the exchange's own money"),
        ('"title": "one winner', '"titel": "one winner', "titel"),
        ('"eve2"\n', '{"name": "eve2", "deposit": "1"}\n', "begins"),
        (
            '"collateral": "150"}]}\n      ]},',
            '"collateral": "150"}]}\n      ], "steps": [{"command": "deposit", "account": "eve", "amount": "0.07"}]},',
            "7 units more are paid in",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, capsys, old, new, words):
    """Source: ATK-001, CLI-002."""
    file = change(tmp_path, old, new)
    with pytest.raises(DataError) as caught:
        AttackFile(file).play("sybil-split", "bitmex")
    assert caught.value.line
    assert words in str(caught.value)
    assert main(["attack", str(file), "--only", "sybil-split"]) == 4
    assert words in capsys.readouterr().err


def test_a_command_that_is_not_accepted_ends_it(tmp_path):
    """Source: ATK-001."""
    file = change(tmp_path, '"account": "purse", "amount": "1000"', '"account": "purse", "amount": "1001"')
    with pytest.raises(DataError, match=r"leverage-cut, attack under bitmex.*withdraw: it to be accepted"):
        AttackFile(file).play("leverage-cut", "bitmex")


def test_the_documentation_shows_these_gains(outcomes):
    """Both tables of engine/docs/attacks.md, every cell; and the page it quotes.  Source: ATK-003."""
    text = (FILE.parents[1] / "docs" / "attacks.md").read_text(encoding="utf-8")
    rows = [[cell.strip(" `") for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]
    shown, attacks = {}, []
    for row in rows:
        if row[0] == "policy":
            attacks = row[1:]
        elif attacks and row[0] in OURS.policies:
            shown |= {(name, row[0]): cell for name, cell in zip(attacks, row[1:], strict=False) if cell}
        elif row[0] in ("attack", "field"):
            attacks = []
    assert shown == {pair: f"{outcome.gain / 100:,.2f}" for pair, outcome in outcomes.items()}
    facts = describe_attack(OURS, "vault-dump", OURS.list_policies("vault-dump"), "compiled")
    assert compose_attack(facts) in text
