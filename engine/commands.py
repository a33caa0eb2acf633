"""Commands as msgspec structs, the friendly face of COMMAND rows: JSON Lines and MessagePack come with them (CMD-001).

Prices, quantities and money are integers in ticks, lots and smallest units, as everywhere inside.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine import codes
from engine.errors import ConfigError, list_known
from engine.layout import COMMAND

TIFS = {"GTC": codes.GTC, "IOC": codes.IOC, "FOK": codes.FOK}
STPS = {"none": 0, "newest": codes.STP_NEWEST, "oldest": codes.STP_OLDEST, "both": codes.STP_NEWEST | codes.STP_OLDEST}
MODES = {"cross": codes.CROSS, "isolated": codes.ISOLATED, "portfolio": codes.PORTFOLIO}
SIDES = {"buy": codes.BUY, "sell": codes.SELL, "bid": codes.BUY, "ask": codes.SELL}


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="command", forbid_unknown_fields=True):
    """What every command has: when it arrives (ns since the epoch, never falling)."""

    ts_ns: int = 0


class _OfMarket(Command, frozen=True, kw_only=True):
    market: str | int = 0  # symbol or index


class _OfAccount(_OfMarket, frozen=True, kw_only=True):
    account: int


class Place(_OfAccount, frozen=True, kw_only=True, tag="place"):
    """Place an order; without a price it is a market order."""

    order_id: int
    side: str
    qty_lot: int
    price_tick: int | None = None
    tif: str = "GTC"
    post_only: bool = False
    reduce_only: bool = False
    stp: str = "none"


class Cancel(_OfAccount, frozen=True, kw_only=True, tag="cancel"):
    """Cancel one order."""

    order_id: int


class CancelAll(_OfAccount, frozen=True, kw_only=True, tag="cancel_all"):
    """Cancel the account's orders in a market."""


class Amend(_OfAccount, frozen=True, kw_only=True, tag="amend"):
    """Give an order a new price and remaining quantity."""

    order_id: int
    price_tick: int
    qty_lot: int


class Deposit(_OfAccount, frozen=True, kw_only=True, tag="deposit"):
    """Add money to the wallet in the market's settlement asset."""

    amount_quote: int


class Withdraw(_OfAccount, frozen=True, kw_only=True, tag="withdraw"):
    """Take money out of the wallet."""

    amount_quote: int


class MoveMargin(_OfAccount, frozen=True, kw_only=True, tag="move_margin"):
    """Move money into (positive) or out of an isolated position."""

    amount_quote: int


class SetLeverage(_OfAccount, frozen=True, kw_only=True, tag="set_leverage"):
    """Choose the leverage of a market."""

    leverage: int


class SetMarginMode(_OfAccount, frozen=True, kw_only=True, tag="set_margin_mode"):
    """Choose cross or isolated margin for a market, or portfolio margin for all that settle in its asset."""

    mode: str


class Assign(_OfAccount, frozen=True, kw_only=True, tag="assign"):
    """Bring a position from elsewhere, with its collateral, against the outside."""

    side: str
    qty_lot: int
    price_tick: int
    amount_quote: int


class Index(_OfMarket, frozen=True, kw_only=True, tag="index"):
    """A recorded index price."""

    price_tick: int


class Mark(_OfMarket, frozen=True, kw_only=True, tag="mark"):
    """A recorded mark price."""

    price_tick: int


class Level(_OfMarket, frozen=True, kw_only=True, tag="level"):
    """The outside's quantity at a price is now this."""

    side: str
    price_tick: int
    qty_lot: int


class Print(_OfMarket, frozen=True, kw_only=True, tag="print"):
    """A recorded trade; `side` is the taker's."""

    side: str
    price_tick: int
    qty_lot: int
    off_book: bool = False


class Funding(_OfMarket, frozen=True, kw_only=True, tag="funding"):
    """Funding at a rate in parts per 10^9, longs paying when positive."""

    rate_ppb: int


class FundDeposit(_OfMarket, frozen=True, kw_only=True, tag="fund_deposit"):
    """Add money to the market's insurance fund."""

    amount_quote: int


class SetTiers(_OfMarket, frozen=True, kw_only=True, tag="set_tiers"):
    """Another of the market's tier tables is in force from now on."""

    table: int


class Clock(Command, frozen=True, kw_only=True, tag="clock"):
    """Time passes."""


KINDS: dict[type[Command], int] = {
    Place: codes.PLACE,
    Cancel: codes.CANCEL,
    CancelAll: codes.CANCEL_ALL,
    Amend: codes.AMEND,
    Deposit: codes.DEPOSIT,
    Withdraw: codes.WITHDRAW,
    MoveMargin: codes.MOVE_MARGIN,
    SetLeverage: codes.SET_LEVERAGE,
    SetMarginMode: codes.SET_MARGIN_MODE,
    Index: codes.INDEX,
    Mark: codes.MARK,
    Level: codes.LEVEL,
    Print: codes.PRINT,
    Funding: codes.FUNDING,
    FundDeposit: codes.FUND_DEPOSIT,
    Clock: codes.CLOCK,
    Assign: codes.ASSIGN,
    SetTiers: codes.SET_TIERS,
}


def _choose(table: Mapping[str, int], name: str, what: str) -> int:
    if name not in table:
        raise ConfigError(f"command: {what}: unknown '{name}', {list_known(name, table)}")
    return table[name]


def _flags_of(command: Command) -> int:
    if isinstance(command, Place):
        flags = _choose(STPS, command.stp, "stp")
        flags |= codes.MARKET_ORDER if command.price_tick is None else 0
        flags |= codes.POST_ONLY if command.post_only else 0
        return flags | (codes.REDUCE_ONLY if command.reduce_only else 0)
    return codes.OFF_BOOK if isinstance(command, Print) and command.off_book else 0


def _amount_of(command: Command) -> int:
    for name in ("amount_quote", "leverage", "rate_ppb", "table"):
        if hasattr(command, name):
            return int(getattr(command, name))
    return _choose(MODES, command.mode, "mode") if isinstance(command, SetMarginMode) else 0


def to_rows(commands: Iterable[Command], symbols: Mapping[str, int]) -> NDArray[np.void]:
    """Return commands as COMMAND rows.

    Parameters
    ----------
    symbols : mapping
        Symbol -> market index, for commands that name their market.

    Raises
    ------
    ConfigError
        If a symbol, side, time in force, mode or self-trade prevention is not known.
    """
    found: list[tuple[Any, ...]] = []
    for command in commands:
        market = getattr(command, "market", 0)
        if isinstance(market, str):
            market = _choose(symbols, market, "market")
        side = getattr(command, "side", None)
        values = {
            "ts_ns": command.ts_ns,
            "order_id": getattr(command, "order_id", 0),
            "price_tick": getattr(command, "price_tick", 0) or 0,
            "qty_lot": getattr(command, "qty_lot", 0),
            "amount_quote": _amount_of(command),
            "account": getattr(command, "account", 0),
            "kind": KINDS[type(command)],
            "market": market,
            "side": 0 if side is None else _choose(SIDES, side, "side"),
            "tif": _choose(TIFS, command.tif, "tif") if isinstance(command, Place) else 0,
            "flags": _flags_of(command),
        }
        found.append(tuple(values.get(name, 0) for name in COMMAND.names or ()))
    return np.array(found, COMMAND)
