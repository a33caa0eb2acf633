"""dYdX's own cases of liquidation and deleveraging, through both engines and the auditor."""

from decimal import Decimal

import pytest

from engine import codes
from engine.codes import BUY, SELL
from tests.mirror.test_mirror_stages import Desk, make_market, only

UNIT = 1000  # money and lots per dollar and per bitcoin
DYDX = {"limit": "fillable", "spread": 1, "surplus": "capped_fee", "surplus_fee": 0.005, "shortfall": "refuse"}


def open_dydx(oracle=50_000, **policy):
    """Return a desk with the market of dYdX's tests: a tick is a dollar, maintenance 10 %, initial 20 %, no fees."""
    sizes = {"lot_size": Decimal("0.001"), "quote_unit": Decimal("0.001"), "price_max": Decimal(100_000)}
    tiers = ((0, "0.2", "0.1"),)
    changes = sizes | {"initial_mark": Decimal(oracle), "default_leverage": 5}
    return Desk(make_market("BTC", gate="insolvent", tiers=tiers, changes=changes, **DYDX | policy))


def bring_dydx(desk, account, quote, base):
    """Give an account a quote balance and a position of one bitcoin, entered at 50,000."""
    return desk.bring(account, base, UNIT, 50_000, round((quote + 50_000 * base) * UNIT))


def show_dydx(desk, account):
    """Return (quote, base) as dYdX counts them: what the position cost is out of the quote balance."""
    qty, cost = desk.position(account)
    return ((desk.wallet(account) - cost) / UNIT, qty / UNIT)


CARL, DAVE, CARL1 = 1, 2, 3


@pytest.mark.parametrize(
    ("policy", "carl", "dave", "fund"),
    [
        ({"share": 0.01, "share_min": 100_000, "cooldown_s": 1}, (249, 0), (100_000, 0), 250),  # DYDX-LIQ-S
        ({"share": 0.1, "share_min": 1000, "cooldown_s": 1}, (45_474, -0.9), (55_000, 0.9), 25),  # DYDX-PORTION-S
    ],
)
def test_dydx_short(policy, carl, dave, fund):
    """A short with 499 of 5,000 closes at 50,000, B 50,499: of the 499 above it at most 0.5 % are the fund's.

    Source: STAGE-003, STAGE-006, STAGE-007.
    """
    desk = open_dydx(size="share", spread=0.1, **policy)
    bring_dydx(desk, DAVE, 50_000, BUY)
    desk.place(DAVE, SELL, 50_000, UNIT, 1)
    bring_dydx(desk, CARL, 50_499, SELL)
    assert (show_dydx(desk, CARL), show_dydx(desk, DAVE), desk.fund()) == (carl, dave, fund * UNIT)


def test_dydx_long():
    """DYDX-LIQ-L: the same for a long of -49,501.

    Source: STAGE-006, STAGE-007.
    """
    desk = open_dydx(size="share", spread=0.1, share=0.01, share_min=100_000)
    bring_dydx(desk, CARL, 100_000, SELL)
    desk.place(CARL, BUY, 50_000, UNIT, 1)
    bring_dydx(desk, DAVE, -49_501, BUY)
    assert (show_dydx(desk, CARL), show_dydx(desk, DAVE)) == ((50_000, 0), (249, 0))
    assert desk.fund() == 250 * UNIT


def test_dydx_notional_is_counted_at_the_oracle_price():
    """DYDX-NOTIONAL-S: 5,000 of notional at 50,000 is a tenth, whatever the fill; at 49,500 the fee is 24.75.

    Source: STAGE-003, STAGE-007.
    """
    desk = open_dydx(size="share", spread=0.1, share=1, step_max=5000, cooldown_s=1)
    bring_dydx(desk, DAVE, 50_000, BUY)
    desk.place(DAVE, SELL, 49_500, UNIT, 1)
    bring_dydx(desk, CARL, 50_499, SELL)
    assert (show_dydx(desk, CARL), show_dydx(desk, DAVE)) == ((45_524.25, -0.9), (54_950, 0.9))
    assert desk.fund() == 24_750


def test_dydx_insurance_cap():
    """DYDX-INSCAP-S: carl's surplus of 999 leaves 247.5; carl1 costs 0.1 with a tenth, and 0.9 more would pass 0.5.

    Source: STAGE-008, STAGE-009, WAKE-001.
    """
    desk = open_dydx(fund_loss_max=0.5)
    bring_dydx(desk, DAVE, 50_000, BUY)
    for order_id, price, qty in ((1, 49_500, 1000), (2, 50_500, 100), (3, 50_500, 1000)):
        desk.place(DAVE, SELL, price, qty, order_id)
    bring_dydx(desk, CARL, 50_499, SELL)
    assert (show_dydx(desk, CARL), desk.fund()) == ((751.5, 0), 247_500)
    events = bring_dydx(desk, CARL1, 50_499, SELL)
    assert only(events, "liquidation_ended", "qty_lot", "code") == [(100, codes.LOSS_LIMIT)]
    assert (show_dydx(desk, CARL1), show_dydx(desk, DAVE)) == ((45_449.1, -0.9), (104_550, -0.1))
    assert desk.fund() == 247_400


def test_dydx_partial_fill_is_not_deleveraged():
    """DYDX-PARTIAL: what crosses is filled, the rest stays, is tried at each command, and goes when equity is gone.

    0.75 short with 37,936.5; the limit is 54,418 then, and the ask at 60,000 out of reach. At 52,000 equity is
    -1,063.5: nothing fills up to 57,200, and dave's 0.75 close at 37,936.5 / 0.75 = 50,582 each.

    Source: STAGE-009, WAKE-001.
    """
    desk = open_dydx()
    bring_dydx(desk, DAVE, 50_000, BUY)
    desk.place(DAVE, SELL, 50_000, 250, 1)
    desk.place(DAVE, SELL, 60_000, 750, 2)
    bring_dydx(desk, CARL, 50_499, SELL)
    assert (show_dydx(desk, CARL), show_dydx(desk, DAVE)) == ((37_936.5, -0.75), (62_500, 0.75))
    assert desk.fund() == 62_500
    events = desk.send(codes.CLOCK)
    assert only(events, "liquidation_ended", "qty_lot", "amount_quote", "code") == [(0, 436_500, codes.BOOK_EMPTY)]
    events = desk.mark(52_000)
    assert only(events, "adl_fill", "qty_lot", "amount_quote") == [(750, -37_936_500)]
    assert (show_dydx(desk, CARL), show_dydx(desk, DAVE)) == ((0, 0), (100_436.5, 0))


def test_dydx_deleveraging():
    """DYDX-DELEV: the fund is empty and the fill would cost 0.25: refused, and the whole goes at 50,499.

    Source: STAGE-008, STAGE-009.
    """
    desk = open_dydx(oracle=50_500)
    bring_dydx(desk, DAVE, 50_000, BUY)
    desk.place(DAVE, SELL, 50_500, 250, 1)
    events = bring_dydx(desk, CARL, 50_499, SELL)
    assert only(events, "adl_started", "code", "qty_lot") == [(codes.FUND_SHORT, UNIT)]
    assert (show_dydx(desk, CARL), show_dydx(desk, DAVE), desk.fund()) == ((0, 0), (100_499, 0), 0)
