"""The exchange: owns the arrays, feeds the kernel in chunks, grows what is full, shows what is inside.

`Exchange(markets)` is the compiled engine; `Exchange(markets, engine="reference")` the readable one behind the same
methods.  Both take COMMAND rows (or `engine.commands` structs) and return EVENT rows.
"""

import io
import json
import os
import zipfile
from collections import namedtuple
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.codes import ACCOUNTS_FULL, CROSS, EXTERNAL, ISOLATED, OK, ORDERS_FULL, POSITIONS_FULL, STATUS_NAMES, TIERS_MAX
from engine.commands import Command, to_rows
from engine.contract import Market, Setup, build_setup
from engine.digest import View, compute_digest
from engine.errors import CapacityError, ConfigError, DataError, InvariantError
from engine.layout import (
    ACCOUNT,
    ASSET,
    CALLED,
    COMMAND,
    EVENT,
    FUND,
    HEAD,
    HEAP,
    IDMAP,
    LADDER,
    LEVEL_RECORD,
    MARKET,
    NIL,
    ORDER,
    POSITION,
    TIER,
    WALLET,
    State,
)

CHUNK = 65_536  # commands per kernel call: a few milliseconds, so that an interrupt is answered
SNAPSHOT_FORMAT = 1
Rows = NDArray[np.void]
Table = dict[str, NDArray[Any]]


class Capacity(NamedTuple):
    """How far the exchange may grow; arrays start small and double as needed.

    Raise the one a `CapacityError` names.  Memory per unit: account 8 + 80 per asset, position 128 + 96, order 64 + 32
    bytes.
    """

    accounts_max: int = 16_777_216
    positions_max: int = 16_777_216
    orders_max: int = 16_777_216


class Engine(Protocol):
    """What both engines offer the exchange."""

    def apply(self, rows: Rows) -> Rows:
        """Apply COMMAND rows and return EVENT rows."""

    def view(self) -> View:
        """Return the canonical state."""

    def copy(self) -> "Engine":
        """Return an independent copy."""

    def rank_side(self, market: int, side: int) -> list[tuple[int, int, int]]:
        """Return (account, score, qty_lot) of a side's ADL queue, best first."""

    def find_liquidation_price(self, account: int, market: int) -> int:
        """Return a position's liquidation price in ticks, 0 if it has none."""

    def find_bankruptcy_price(self, account: int, market: int) -> int:
        """Return a position's bankruptcy price in ticks, for display."""

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the engine's state as named arrays."""

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over the state of `dump`."""


def _grown(array: NDArray[Any], count: int) -> NDArray[Any]:
    """Return a zero-extended copy of `array` with `count` rows."""
    longer = np.zeros(count, array.dtype)
    longer[: len(array)] = array
    return longer


class CompiledEngine:
    """The kernels' arrays and the one call into them."""

    def __init__(self, setup: Setup, capacity: Capacity) -> None:
        self.setup, self.capacity = setup, capacity
        self.state = _allocate(setup)

    def apply(self, rows: Rows) -> Rows:
        """Apply COMMAND rows in chunks; grow what is full and go on.

        Raises
        ------
        CapacityError
            Naming the capacity to raise; everything before the command that needed it is applied.
        InvariantError
            If the kernel stopped on a fault.
        """
        from engine.kernels.run import run_batch  # numba is imported at the first use only

        done: list[Rows] = []
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            at = 0
            while at < len(chunk):
                status, count, arrays = run_batch(self.state, chunk[at:])
                self.state = self.state._replace(
                    **dict(zip(("levels", "leaf_masks", "page_masks", "page_leaves", "events"), arrays, strict=True))
                )
                at += int(count)
                done.append(self._drain())
                if status != OK:
                    self._make_room(int(status), chunk[min(at, len(chunk) - 1)])
        if len(done) == 1:
            return done[0]
        return np.concatenate(done) if done else np.zeros(0, EVENT)

    def _drain(self) -> Rows:
        head = self.state.head[0]
        count = int(head["event_count"])
        head["event_count"] = 0
        return cast(Rows, self.state.events[:count].copy())

    def _make_room(self, status: int, command: Any) -> None:
        if status == ACCOUNTS_FULL:
            self._grow_accounts(int(command["account"]) + 1)
        elif status == POSITIONS_FULL:
            self._grow_positions()
        elif status == ORDERS_FULL:
            self._grow_orders()
        else:
            seq = int(self.state.head[0]["seq"])
            raise InvariantError(f"command {seq}: the engine stopped: {STATUS_NAMES.get(status, status)}")

    def _next_size(self, have: int, need: int, limit: int, name: str) -> int:
        if need > limit:
            raise CapacityError(f"{name}={limit} is used up: raise Capacity.{name} (--{name.replace('_', '-')})")
        return min(max(2 * have, need), limit)

    def _grow_accounts(self, need: int) -> None:
        state = self.state
        size = self._next_size(len(state.accounts), need, self.capacity.accounts_max, "accounts_max")
        accounts = _grown(state.accounts, size)
        accounts["positions_head"][len(state.accounts) :] = NIL
        wallets = _grown(state.wallets, size * len(self.setup.assets))
        self.state = state._replace(accounts=accounts, wallets=wallets)
        self._fit_domains()

    def _grow_positions(self) -> None:
        have = len(self.state.positions)
        size = self._next_size(have, have + 1, self.capacity.positions_max, "positions_max")
        self.state = self.state._replace(positions=_grown(self.state.positions, size))
        self._fit_domains()

    def _fit_domains(self) -> None:
        state = self.state
        size = len(state.wallets) + len(state.positions)
        self.state = state._replace(
            pending=_grown(state.pending, size),
            touched=_grown(state.touched, size),
            triggers=_grown(state.triggers, size),
            queue=_grown(state.queue, size),
        )

    def _grow_orders(self) -> None:
        state = self.state
        have = len(state.orders)
        size = self._next_size(have, have + 1, self.capacity.orders_max, "orders_max")
        self.state = state._replace(orders=_grown(state.orders, size), idmap=_make_idmap(size))
        from engine.kernels.query import index_orders

        index_orders(self.state)

    def view(self) -> View:
        """Return the canonical state.

        Source: STATE-001.
        """
        state = self.state
        head = state.head[0]
        markets = state.markets
        mark = _columns(markets, "mark_tick", "index_tick", "last_tick", "open_interest_lot")
        return View(
            clock=np.array([[head["seq"], head["ts_ns"], head["deficit_id"]]], np.int64),
            markets=np.concatenate([mark, np.zeros((len(markets), 1), np.int64)], axis=1),
            orders=self._view_orders(),
            positions=self._view_positions(),
            wallets=self._view_wallets(),
            funds=_columns(state.funds, "balance_quote", "low_quote"),
            assets=_columns(
                state.assets,
                "fees_quote",
                "rounding_quote",
                "insolvency_quote",
                "deposits_quote",
                "withdrawals_quote",
                "waived_quote",
            ),
        )

    def _view_orders(self) -> NDArray[np.int64]:
        orders = self.state.orders[: int(self.state.head[0]["order_used"])]
        live = orders[orders["qty_lot"] > 0]
        side = live["side"].astype(np.int64)
        order = np.lexsort((live["priority"], -live["price_tick"] * side, -side, live["market"]))
        return _columns(live[order], "market", "side", "price_tick", "qty_lot", "account", "order_id", "flags")

    def _view_positions(self) -> NDArray[np.int64]:
        rows = self.state.positions[: int(self.state.head[0]["position_used"])]
        rules = self.state.markets[rows["market"]]
        changed = (rows["leverage_ppm"] != rules["leverage_ppm"]) | (rows["mode"] != rules["margin_mode"])
        shown = (rows["qty_lot"] != 0) | (changed & (rows["account"] != EXTERNAL))
        rows = rows[shown]
        rows = rows[np.lexsort((rows["market"], rows["account"]))]
        called = (((rows["flags"] & CALLED) != 0) & (rows["mode"] == ISOLATED)).astype(np.int64)
        names = ("account", "market", "qty_lot", "cost_quote", "margin_quote", "opened_seq", "leverage_ppm")
        # the outside has no mode of its own
        default = self.state.markets["margin_mode"][rows["market"]]
        mode = np.where(rows["account"] == EXTERNAL, default, rows["mode"]).astype(np.int64)
        return np.concatenate([_columns(rows, *names), mode.reshape(-1, 1), called.reshape(-1, 1)], axis=1)

    def _view_wallets(self) -> NDArray[np.int64]:
        wallets = self.state.wallets
        called = (wallets["flags"] & CALLED) != 0
        (at,) = np.nonzero((wallets["balance_quote"] != 0) | called)
        assets = len(self.setup.assets)
        columns = (at // assets, at % assets, wallets["balance_quote"][at], called[at])
        return np.stack([column.astype(np.int64) for column in columns], axis=1)

    def copy(self) -> "CompiledEngine":
        """Return an independent copy: all arrays are copied.

        Source: STATE-002.
        """
        twin = CompiledEngine.__new__(CompiledEngine)
        twin.setup, twin.capacity = self.setup, self.capacity
        twin.state = State(*(array.copy() for array in self.state))
        return twin

    def rank_side(self, market: int, side: int) -> list[tuple[int, int, int]]:
        """Return (account, score, qty_lot) of a side's ADL queue, best first.

        Source: ADL-002.
        """
        from engine.kernels.query import list_queue

        found = list_queue(self.state, market, side)
        return [(int(account), int(score), int(qty)) for account, score, qty in found]

    def find_liquidation_price(self, account: int, market: int) -> int:
        """Return a position's liquidation price in ticks, 0 if it has none.

        Source: MARGIN-011.
        """
        from engine.kernels.query import find_liquidation_price

        return int(find_liquidation_price(self.state, account, market))

    def find_bankruptcy_price(self, account: int, market: int) -> int:
        """Return a position's bankruptcy price in ticks, for display.

        Source: MARGIN-005.
        """
        from engine.kernels.query import find_bankruptcy_price

        return int(find_bankruptcy_price(self.state, account, market))

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the arrays, without the scratch space between commands."""
        scratch = {"pending", "touched", "triggers", "queue", "events"}
        return {name: array for name, array in self.state._asdict().items() if name not in scratch}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over dumped arrays."""
        fresh = self.state._asdict()
        taken = {}
        for name in self.dump():
            if name not in arrays or arrays[name].dtype != fresh[name].dtype:
                raise ConfigError(f"snapshot: array '{name}' is missing or of another format")
            taken[name] = np.require(arrays[name], requirements=["C", "W", "O"])
        self.state = self.state._replace(**taken)
        self._fit_domains()


def _columns(rows: Rows, *names: str) -> NDArray[np.int64]:
    """Return named columns of structured rows as an (n, len(names)) int64 table."""
    return np.stack([rows[name].astype(np.int64) for name in names], axis=1)


def _make_idmap(orders: int) -> Rows:
    """Return an empty id map for so many orders: a power of two, at most half full."""
    idmap = np.zeros(1 << (2 * orders - 1).bit_length(), IDMAP)
    idmap["slot"] = NIL
    return idmap


def _allocate(setup: Setup) -> State:
    """Return the arrays of an empty exchange."""
    markets, assets = len(setup.markets), len(setup.assets)
    accounts, positions, orders = 64, 64 + markets, 256
    ladders, page_count, word_count = _allocate_ladders(setup)
    levels = np.zeros(64 * 64, LEVEL_RECORD)
    levels["head"] = levels["tail"] = NIL
    domains = accounts * assets + positions
    state = State(
        head=np.zeros(1, HEAD),
        markets=np.zeros(markets, MARKET),
        tiers=np.zeros(markets * TIERS_MAX, TIER),
        assets=np.zeros(assets, ASSET),
        funds=np.zeros(len(setup.funds), FUND),
        accounts=np.zeros(accounts, ACCOUNT),
        wallets=np.zeros(accounts * assets, WALLET),
        positions=np.zeros(positions, POSITION),
        orders=np.zeros(orders, ORDER),
        idmap=_make_idmap(orders),
        ladders=ladders,
        pages=np.full(page_count, NIL, np.int32),
        words=np.zeros(word_count, np.uint64),
        page_masks=np.zeros(16, np.uint64),
        page_leaves=np.full(16 * 64, NIL, np.int32),
        leaf_masks=np.zeros(64, np.uint64),
        levels=levels,
        pending=np.zeros(domains, np.int64),
        touched=np.zeros(domains, np.int64),
        triggers=np.zeros(domains, HEAP),
        queue=np.zeros(domains, HEAP),
        events=np.zeros(4096, EVENT),
    )
    _write_rules(state, setup)
    return state


def _allocate_ladders(setup: Setup) -> tuple[Rows, int, int]:
    """Return the ladder headers (a book and a trigger ladder per market) and how many pages and words they need."""
    ladders = np.zeros(2 * len(setup.markets), LADDER)
    pages = words = 0
    for index, header in enumerate(ladders):
        limit = setup.markets[index // 2].price_max_tick + 1
        header["best_ask"] = header["limit_tick"] = limit
        header["page_offset"], header["word_offset"] = pages, words
        count = -(-limit // 4096)
        pages += count
        for depth in range(3):
            count = -(-count // 64)
            header["word_counts"][depth] = count
            words += count
    return ladders, pages, words


def _write_rules(state: State, setup: Setup) -> None:
    """Write the markets' parameters and the outside's positions into the arrays."""
    head = state.head[0]
    head["order_free"] = head["leaf_free"] = head["page_free"] = NIL
    head["asset_count"], head["market_count"] = len(setup.assets), len(setup.markets)
    state.accounts["positions_head"] = NIL
    for index, rules in enumerate(setup.markets):
        row = state.markets[index]
        for name in MARKET.names or ():
            if name in rules._fields:
                row[name] = getattr(rules, name)
        row["tier_count"] = len(rules.tiers)
        row["mark_tick"] = rules.initial_mark_tick
        row["external"] = index
        for place, tier in enumerate(rules.tiers):
            state.tiers[index * TIERS_MAX + place] = tier
        state.assets[rules.asset]["call_ppm"] = rules.call_ppm
        position = state.positions[index]
        position["account"], position["market"] = EXTERNAL, index
        position["orders_head"] = NIL
        position["leverage_ppm"], position["mode"] = rules.leverage_ppm, CROSS
        position["next_owned"] = index + 1 if index + 1 < len(setup.markets) else NIL
    state.accounts[EXTERNAL]["positions_head"] = 0
    head["position_used"] = len(setup.markets)
    state.funds["asset"] = setup.fund_assets


class ReferenceEngine:
    """The readable engine behind the same methods."""

    def __init__(self, setup: Setup) -> None:
        from engine.reference.exchange import ReferenceExchange

        self.setup = setup
        self.inner = ReferenceExchange(setup)

    def apply(self, rows: Rows) -> Rows:
        """Apply COMMAND rows one by one and return EVENT rows."""
        events = [event for row in rows for event in self.inner.step(_Row(*row.tolist()))]
        out = np.zeros(len(events), EVENT)
        for at, event in enumerate(events):
            out[at] = tuple(getattr(event, name) for name in EVENT.names or ())
        return out

    def view(self) -> View:
        """Return the canonical state."""
        return View(*self.inner.view())

    def copy(self) -> "ReferenceEngine":
        """Return an independent copy."""
        twin = ReferenceEngine.__new__(ReferenceEngine)
        twin.setup, twin.inner = self.setup, self.inner.copy()
        return twin

    def rank_side(self, market: int, side: int) -> list[tuple[int, int, int]]:
        """Return (account, score, qty_lot) of a side's ADL queue, best first."""
        return self.inner.adl_queue(market, side)

    def find_liquidation_price(self, account: int, market: int) -> int:
        """Return a position's liquidation price in ticks, 0 if it has none."""
        return self.inner.liquidation_price(account, market)

    def find_bankruptcy_price(self, account: int, market: int) -> int:
        """Return a position's bankruptcy price in ticks, for display."""
        return self.inner.bankruptcy_price(account, market)

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the state as one array of MessagePack bytes."""
        return {"reference": np.frombuffer(msgspec.msgpack.encode(self.inner.save_state()), np.uint8)}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over a dumped state."""
        from engine.reference.exchange import ReferenceExchange

        if "reference" not in arrays:
            raise ConfigError("snapshot: written by the compiled engine")
        plain = msgspec.msgpack.decode(arrays["reference"].tobytes(), strict=False)
        self.inner = ReferenceExchange.load_state(self.setup, plain)


_Row = namedtuple("_Row", COMMAND.names or (), rename=True)  # type: ignore[misc]


class Exchange:
    """A deterministic perpetual-futures exchange.

    Parameters
    ----------
    markets : sequence of Market
        The contracts, in the order commands number them.
    engine : {"compiled", "reference"}
        Same events and digests; the reference is for reading and checking.
    capacity : Capacity, optional
        How far the compiled engine may grow.

    Source: DESIGN 11; spec STATE-003.
    """

    def __init__(
        self, markets: Sequence[Market], engine: str = "compiled", capacity: Capacity | None = None
    ) -> None:
        self.markets = tuple(markets)
        self.setup = build_setup(self.markets)
        self.engine_name = engine
        self.engine = _make_engine(self.setup, engine, capacity or Capacity())

    def apply(self, commands: Rows | Iterable[Command]) -> Rows:
        """Apply commands in order and return their events.

        Parameters
        ----------
        commands : COMMAND[:] or iterable of `engine.commands` structs

        Returns
        -------
        EVENT[:]
            Rejections included; what each field means stands in EVT-001.

        Raises
        ------
        DataError
            If an array is not of the COMMAND layout.
        """
        if isinstance(commands, np.ndarray):
            if commands.dtype != COMMAND:
                raise DataError("commands", None, None, f"expected rows of engine.layout.COMMAND, got {commands.dtype}")
            rows = np.require(commands, requirements=["C", "W", "O"])
        else:
            rows = to_rows(commands, self.symbol_index())
        return self.engine.apply(rows)

    def symbol_index(self) -> dict[str, int]:
        """Return symbol -> market index."""
        return {market.symbol: index for index, market in enumerate(self.markets)}

    def view(self) -> View:
        """Return the canonical state as integer tables."""
        return self.engine.view()

    def digest(self) -> str:
        """Return the digest of the canonical state: equal for both engines and on every machine.

        Source: STATE-001.
        """
        return compute_digest(self.view())

    def copy(self) -> "Exchange":
        """Return an independent copy: a fork of the market.

        Source: STATE-002.
        """
        twin = Exchange.__new__(Exchange)
        twin.markets, twin.setup, twin.engine_name = self.markets, self.setup, self.engine_name
        twin.engine = self.engine.copy()
        return twin

    def save(self, path: str | Path) -> None:
        """Write a snapshot (one .npz file with markets, state and digest), whole or not at all.

        Source: STATE-002.
        """
        meta = {
            "format": SNAPSHOT_FORMAT,
            "engine": self.engine_name,
            "digest": self.digest(),
            "markets": msgspec.to_builtins(self.markets),
        }
        buffer = io.BytesIO()
        text = np.frombuffer(json.dumps(meta).encode(), np.uint8)
        np.savez_compressed(buffer, allow_pickle=False, meta=text, **self.engine.dump())  # type: ignore[arg-type]
        target = Path(path)
        part = target.with_name(target.name + ".part")
        part.write_bytes(buffer.getvalue())
        os.replace(part, target)

    @classmethod
    def load(cls, path: str | Path) -> "Exchange":
        """Read a snapshot and check its digest.

        Raises
        ------
        DataError
            If the file is not a snapshot of this format, or its digest does not fit.
        """
        try:
            with np.load(path, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
            meta = json.loads(arrays.pop("meta").tobytes())
            markets = msgspec.convert(meta["markets"], list[Market])
            if meta["format"] != SNAPSHOT_FORMAT:
                raise DataError(path, None, "format", f"expected snapshot format {SNAPSHOT_FORMAT}")
            exchange = cls(markets, engine=meta["engine"])
            exchange.engine.restore(arrays)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
            raise DataError(path, None, None, f"expected a snapshot written by Exchange.save: {error}") from error
        if exchange.digest() != meta["digest"]:
            raise DataError(path, None, "digest", f"expected {meta['digest']}, the state has {exchange.digest()}")
        return exchange

    def balances(self) -> Table:
        """Return columns account, asset, balance_quote (wallets that are not empty)."""
        table = np.asarray(self.view().wallets, np.int64).reshape(-1, 4)
        return {"account": table[:, 0], "asset": table[:, 1], "balance_quote": table[:, 2]}

    def positions(self) -> Table:
        """Return the open positions: columns account, market, qty_lot, cost_quote, margin_quote, opened_seq,
        leverage_ppm, mode, unrealised_quote."""
        view = self.view()
        table = np.asarray(view.positions, np.int64).reshape(-1, 9)
        table = table[table[:, 2] != 0]
        names = ("account", "market", "qty_lot", "cost_quote", "margin_quote", "opened_seq", "leverage_ppm", "mode")
        columns: Table = {name: table[:, at] for at, name in enumerate(names)}
        marks = np.asarray(view.markets, np.int64).reshape(-1, 5)[:, 0]
        units = np.array([rules.multiplier for rules in self.setup.markets], np.int64)
        market = columns["market"]
        columns["unrealised_quote"] = marks[market] * units[market] * columns["qty_lot"] - columns["cost_quote"]
        return columns

    def funds(self) -> Table:
        """Return columns fund (name), asset (name), balance_quote, low_quote."""
        table = np.asarray(self.view().funds, np.int64).reshape(-1, 2)
        assets = [self.setup.assets[asset] for asset in self.setup.fund_assets]
        return {
            "fund": np.array(self.setup.funds),
            "asset": np.array(assets),
            "balance_quote": table[:, 0],
            "low_quote": table[:, 1],
        }

    def depth(self, market: int, levels: int = 10) -> dict[str, list[tuple[int, int]]]:
        """Return the best price levels, {"bids": [(price_tick, qty_lot), ...], "asks": [...]}, best first."""
        table = np.asarray(self.view().orders, np.int64).reshape(-1, 7)
        table = table[table[:, 0] == market]
        found: dict[str, list[tuple[int, int]]] = {}
        for name, side in (("bids", 1), ("asks", -1)):
            rows = table[table[:, 1] == side]
            ticks, start = np.unique(rows[:, 2], return_inverse=True)
            sums = np.zeros(len(ticks), np.int64)
            np.add.at(sums, start, rows[:, 3])
            pairs = [(int(tick), int(qty)) for tick, qty in zip(ticks, sums, strict=True)]
            found[name] = pairs[::-side][:levels]
        return found

    def adl_queue(self, market: int, side: int) -> Table:
        """Return the ADL queue of a side (1: longs), best first: account, score, qty_lot, rank, lights.

        Source: ADL-002, ADL-009.
        """
        rows = self.engine.rank_side(market, side)
        table = np.array(rows, np.int64).reshape(-1, 3)
        place = np.arange(len(rows), dtype=np.int64)
        return {
            "account": table[:, 0],
            "score": table[:, 1],
            "qty_lot": table[:, 2],
            "rank": place + 1,
            "lights": 5 - 5 * place // max(len(rows), 1),
        }

    def liquidation_price(self, account: int, market: int) -> int:
        """Return the mark price in ticks at which a position's domain becomes liquidatable, 0 if there is none.

        Source: MARGIN-011.
        """
        return self.engine.find_liquidation_price(account, market)

    def bankruptcy_price(self, account: int, market: int) -> int:
        """Return the price in ticks at which a position's share of equity is gone, 0 without a position.

        Source: MARGIN-005.
        """
        return self.engine.find_bankruptcy_price(account, market)

    def liquidation_map(self, market: int) -> Table:
        """Return what would be liquidated at which mark, this market's mark moving alone.

        Columns price_tick, long_lot, short_lot, rising by price.  Source: MARGIN-011.
        """
        open_ = self.positions()
        sums: dict[int, list[int]] = {}
        for account, place, qty in zip(open_["account"], open_["market"], open_["qty_lot"], strict=True):
            if place == market and account != EXTERNAL:
                tick = self.liquidation_price(int(account), market)
                if tick:
                    sums.setdefault(tick, [0, 0])[0 if qty > 0 else 1] += abs(int(qty))
        table = np.array([(tick, *sums[tick]) for tick in sorted(sums)], np.int64).reshape(-1, 3)
        return {"price_tick": table[:, 0], "long_lot": table[:, 1], "short_lot": table[:, 2]}


def _make_engine(setup: Setup, engine: str, capacity: Capacity) -> Engine:
    if engine == "compiled":
        return CompiledEngine(setup, capacity)
    if engine == "reference":
        return ReferenceEngine(setup)
    raise ConfigError(f"engine: unknown '{engine}', known: compiled, reference")
