"""Staged liquidation under storms of policies; what of it is state; what the auditor refuses."""

import copy
from collections import Counter

import pytest

from engine import codes
from engine.audit import Auditor
from engine.codes import BUY
from engine.contract import build_setup
from engine.digest import compute_digest
from engine.errors import InvariantError
from engine.exchange import Capacity, CompiledEngine, ReferenceEngine
from tests.mirror import streams
from tests.mirror.streams import Command, pack_commands
from tests.mirror.test_mirror_stages import HYPERLIQUID, SECOND, Desk, make_market, only
from tests.mirror.twins import Twins

STEPS = 200
seen: Counter[str] = Counter()

# ---------------------------------------------------------------- state


def test_rest_is_part_of_the_state():
    """Who rests is in the digest, in a copy and in a saved state of either engine, and all go on alike.

    Source: STATE-001, STATE-002, WAKE-001, WAKE-002.
    """
    desk = Desk(make_market(**HYPERLIQUID))
    desk.level(BUY, 99, 500)
    desk.bring(1, BUY, 100, 100, 100)
    clock = pack_commands([Command(kind=codes.CLOCK, ts_ns=1)])
    results = set()
    for made, engine in ((CompiledEngine, desk.twins.fast), (ReferenceEngine, desk.twins.plain)):
        view = engine.view()
        assert len(view.resting) == 2
        assert compute_digest(view._replace(resting=())) != compute_digest(view)
        args = (desk.twins.setup, Capacity()) if made is CompiledEngine else (desk.twins.setup,)
        loaded = made(*args)
        loaded.restore({name: array.copy() for name, array in engine.dump().items()})
        for each in (engine.copy(), loaded):
            assert compute_digest(each.view()) == compute_digest(view)
            results.add((each.apply(clock).tobytes(), compute_digest(each.view())))
        assert compute_digest(engine.view()) == compute_digest(view)  # the copies shared nothing
    assert len(results) == 1


def test_many_rest_and_wake_together():
    """300 accounts, more than there is place for at first, rest for their 9 s and wake by the command that is due.

    Source: WAKE-001, STEP-003.
    """
    desk = Desk(make_market(size="share", cooldown_s=9, gate="insolvent"))
    for account in range(1, 301):
        desk.ts_ns = account * SECOND // 100
        desk.bring(account, BUY, 10, 100, account % 49)
    # the first ones' nine seconds are not over before the last one comes, at 3 s
    assert len(desk.resting()) == 300
    desk.level(BUY, 99, 10_000)
    desk.ts_ns = 10 * SECOND
    events = desk.send(codes.CLOCK)
    assert sorted(only(events, "liquidation_started", "account")) == list(range(1, 101))
    # worst ratio first: those who brought nothing, then 1 each, ...
    brought = [account % 49 for account in only(events, "liquidation_started", "account")]
    assert brought == sorted(brought)
    desk.ts_ns = 40 * SECOND
    assert len(only(desk.send(codes.CLOCK), "liquidation_started", "account")) == 300


def test_nothing_is_set_aside_where_nobody_can_rest():
    """The defaults pay nothing for the place of those who rest, and a digest without them is what it was.

    Source: WAKE-001, STATE-001.
    """
    plain, gated = Desk(make_market()), Desk(make_market(gate="insolvent"))
    assert len(plain.twins.fast.state.resting) == 0
    assert len(gated.twins.fast.state.resting) == 2 * len(gated.twins.fast.state.pending)
    view = plain.twins.fast.view()
    assert compute_digest(view) == compute_digest(view._replace(resting=()))


# ---------------------------------------------------------------- the auditor sees it


def refuse(setup, events, words):
    with pytest.raises(InvariantError, match=words):
        Auditor(setup).feed(events)


def test_the_auditor_refuses_what_the_policies_forbid():
    """Another reason at the end, lots left open by a gate that is none, an attempt by a domain at rest.

    Source: STAGE-004, STAGE-009, WAKE-001.
    """
    market = make_market(gate="insolvent")
    setup, other = build_setup([market]), build_setup([make_market()])
    engine = ReferenceEngine(setup)
    day = [
        Command(kind=codes.LEVEL, side=BUY, price_tick=99, qty_lot=4),
        Command(kind=codes.ASSIGN, account=1, side=BUY, qty_lot=10, price_tick=100, amount_quote=40),
        Command(kind=codes.CLOCK),
    ]
    events = engine.apply(pack_commands(day))
    Auditor(setup).feed(events)
    refuse(other, events, "lots left open")
    wrong = copy.deepcopy(events)
    wrong["code"][events["kind"] == codes.LIQUIDATION_ENDED] = codes.COOLDOWN
    refuse(setup, wrong, "code is 4")
    hasty = copy.deepcopy(events)
    hasty["seq"][events["seq"] == 3] = 2
    refuse(setup, hasty, "a domain at rest")


# ---------------------------------------------------------------- storms


def find_seeds(count):
    """Return seeds of setups in which every market's limit or surplus, and some domain's rest, are policies."""
    found = []
    for seed in range(10_000, 11_000):
        rules = streams.make_setup(seed).markets
        if all(each.limit or each.surplus for each in rules) and any(each.adl_gate for each in rules):
            found.append(seed)
    return found[:count]


@pytest.mark.parametrize("seed", find_seeds(50))
def test_storms_of_policies(seed):
    """Streams in which markets differ in their policies: the engines agree, and what policies promise holds.

    Source: STAGE-001, STAGE-005, STAGE-008, STAGE-009, WAKE-001, STATE-003.
    """
    setup = streams.make_setup(seed)
    twins = Twins(setup)
    lost = 0
    for command in streams.random_stream(seed, setup, STEPS):
        for event in twins.apply(command):
            kind = int(event["kind"])
            if kind == codes.LIQUIDATION_STARTED:
                lost = 0
            elif kind == codes.LIQUIDATION_FILL:
                rules = setup.markets[event["market"]]
                lost += max(0, -int(event["amount_quote"]))
                assert rules.limit != codes.LIMIT_BANKRUPTCY or event["amount_quote"] >= 0
                assert event["amount_quote"] >= 0 or not rules.fund_loss_max_quote or lost <= rules.fund_loss_max_quote
                seen[f"limit {rules.limit}"] += 1
                seen[f"surplus {rules.surplus}"] += 1
            elif kind == codes.LIQUIDATION_ENDED:
                seen[f"ended {event['code']}"] += 1
                is_left = event["amount_quote"] < event["other_amount_quote"]
                assert (event["code"] != 0) == is_left
            elif kind == codes.CANCELED:
                seen[f"canceled {event['code']}"] += 1
        seen["resting"] += len(twins.fast.view().resting) > 0


def test_storms_reach_the_policies():
    """The storms above take every branch often enough to say something.

    Source: STAGE-001..STAGE-009, WAKE-001, WAKE-002.
    """
    if not seen:  # each worker knows its own streams only: an empty count says nothing about them
        pytest.skip("the storms ran in another worker or were deselected")
    wanted = {f"limit {number}": 5 for number in range(3)} | {f"surplus {number}": 10 for number in range(3)}
    wanted |= {"ended 0": 50, "ended 2": 20, "ended 4": 10, "resting": 50, f"canceled {codes.BY_LIQUIDATION}": 10}
    assert not {name: seen[name] for name, count in wanted.items() if seen[name] < count}
