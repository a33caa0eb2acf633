"""The compiled engine's arrays: allocated, grown, shown, and handed to the one kernel in chunks.

The only module that owns state; kernels change it in place.
"""

import sys
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.codes import (
    ACCOUNTS_FULL,
    BACKSTOP_ADL,
    CROSS,
    EXTERNAL,
    HOUSE,
    ISOLATED,
    MARK_LAST,
    MARK_MEDIAN3,
    OK,
    ORDERS_FULL,
    PEAK_BUCKETS,
    POSITIONS_FULL,
    PPB,
    PRICE_PREVIOUS,
    STATUS_NAMES,
    TIERS_MAX,
    TRIGGER_DRAWDOWN,
)
from engine.contract import MarketRules, Setup, Tiers, is_derived
from engine.digest import View
from engine.errors import CapacityError, ConfigError, InvariantError
from engine.layout import (
    ASSET,
    AVERAGE,
    CALLED,
    EVENT,
    FUND,
    HEAD,
    HEAP,
    LADDER,
    LEAF_TICKS,
    LEVEL_RECORD,
    LINE_BYTES,
    MARKET,
    NETTED,
    NIL,
    ORDER,
    PAGE_TICKS,
    POSITION,
    TIER,
    WALLET,
    State,
)

LEAVES = PAGE_TICKS // LEAF_TICKS  # under one page
ROOM_BYTES = 1 << 26  # set aside for every array that grows
IDMAP_SPARSE = 1 << 17  # entries: a megabyte
CHUNK = 65_536  # commands per kernel call: a few milliseconds, so that an interrupt is answered
EVENTS_KEPT = 4_096  # rows of the event buffer, at least
EVENTS_RESERVED_MAX = 1 << 20
WALLETS_MAX = 1 << 31  # what 32 bits tell apart, with one for what is no wallet
Rows = NDArray[np.void]


class Capacity(NamedTuple):
    """How far the exchange may grow; arrays start small and double as needed.

    Account 0 and its position in every market count, and the house's where there is one.  A command begins only where
    an order and a position would find room, so the last of either stays empty.  Raise the one a `CapacityError` names.
    Memory per unit: account 120 per asset, position 128 + 88, order 64 + 32 bytes.
    """

    accounts_max: int = 16_777_216
    positions_max: int = 16_777_216
    orders_max: int = 16_777_216


def allot(count: int, dtype: Any) -> NDArray[Any]:
    """Return `count` zeros that begin on a cache line, so that a record of one line or two lies in no other.

    The owner of the memory, and so the array's `base`, is an array of bytes.
    """
    size = np.dtype(dtype).itemsize * count
    room = np.zeros(size + LINE_BYTES, np.uint8)
    start = -room.ctypes.data % LINE_BYTES
    return room[start : start + size].view(dtype)


def _grown(array: NDArray[Any], count: int) -> NDArray[Any]:
    """Return `array` zero-extended to `count` rows: in the room set aside when it last grew, else as a copy.

    Room is only address space until it is written to; blocks of this size are fresh from the system, hence zero.
    """
    room, size = array.base, count * array.itemsize
    if isinstance(room, np.ndarray):
        start = array.ctypes.data - room.ctypes.data
        if start + size <= room.nbytes:
            return room[start : start + size].view(array.dtype)
    longer = allot(max(count, ROOM_BYTES // array.itemsize), array.dtype)[:count]
    longer[: len(array)] = array
    return longer


def _copied(array: NDArray[Any]) -> NDArray[Any]:
    copy = allot(len(array), array.dtype)
    copy[:] = array
    return copy


class CompiledEngine:
    """The kernels' arrays and the one call into them."""

    _kernel: Any = None

    def __init__(self, setup: Setup, capacity: Capacity) -> None:
        self.setup, self.capacity = setup, capacity
        self.state = _allocate(setup, capacity)
        self.events = allot(EVENTS_KEPT, EVENT)
        self._lent: list[Any] = []

    @property
    def state(self) -> State:
        """Return the arrays."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        """Take other arrays; the kernels' view of the old ones goes with them."""
        self._state, self._box = state, None

    @property
    def box(self) -> Any:
        """Return what kernels take for the state."""
        if self._box is None:
            from engine.kernels.box import pack_state

            self._box = pack_state(self._state)
        return self._box

    def apply(self, rows: Rows) -> Rows:
        """Apply COMMAND rows in chunks; grow what is full and go on.

        Raises
        ------
        CapacityError
            Naming the capacity to raise; everything before the command that needed it is applied, its events are the
            error's `events`.
        InvariantError
            If the kernel stopped on a fault.
        """
        run_batch = self._load_kernel()
        self.reserve_events(2 * len(rows))
        at = 0
        try:
            while at < len(rows):
                status, count, self.events = run_batch(self.box, self.events, rows[at : at + CHUNK])
                at += count
                if status != OK:
                    self.grow(status, int(rows[min(at, len(rows) - 1)]["account"]))
        except (CapacityError, InvariantError) as error:
            error.events = self.take_events()
            raise
        return self.take_events()

    def _load_kernel(self) -> Any:
        """Return `run_batch`; numba is imported at its first use only."""
        if self._kernel is None:
            from engine.kernels.run import run_batch

            self._kernel = run_batch
        return self._kernel

    def reserve_events(self, count: int) -> None:
        """Have a buffer that will probably do: one handed out before that nobody holds any more, or a new one.

        A longer one costs nothing until it is written to; one that was written to need not be found again.
        """
        for at in range(len(self._lent)):
            # Whoever has a slice holds its memory, or the buffer itself where the kernel enlarged it.
            held = sys.getrefcount(self._lent[at]) > 2 or sys.getrefcount(self._lent[at].base) > 2
            if len(self._lent[at]) > len(self.events) and not held:
                self.events = self._lent.pop(at)
                break
        if len(self.events) < count:
            self.events = allot(min(max(count, EVENTS_KEPT), EVENTS_RESERVED_MAX), EVENT)

    def take_events(self) -> Rows:
        """Return the events since the last call: a small part of the buffer as a copy, else the buffer itself."""
        counter = self.state.head["event_count"]
        count = counter.item()
        counter[0] = 0
        if 4 * count <= len(self.events):
            # as bare bytes: numpy copies them in a fifth of the time that it takes over records
            return self.events.view(f"V{EVENT.itemsize}")[:count].copy().view(EVENT)
        taken = self.events[:count]
        self._lent = [self.events, *self._lent[:1]]
        self.events = allot(0, EVENT)
        return taken

    def grow(self, status: int, account: int = 0) -> None:
        """Grow what a kernel reported full.

        Raises
        ------
        CapacityError
            If the capacity does not allow it.
        InvariantError
            If the status is no lack of room but a fault.
        """
        if status == ACCOUNTS_FULL:
            self._grow_accounts(account + 1)
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
        assets = len(self.setup.assets)
        size = self._next_size(len(state.wallets) // assets, need, self.capacity.accounts_max, "accounts_max")
        if size * assets > WALLETS_MAX:
            raise CapacityError(f"{size} accounts in {assets} assets are more than {WALLETS_MAX} wallets: open fewer")
        self.state = state._replace(wallets=_grown(state.wallets, size * assets))
        _start_wallets(self.state.wallets, self.setup, len(state.wallets))
        self._fit_domains()

    def _grow_positions(self) -> None:
        have = len(self.state.positions)
        size = self._next_size(have, have + 1, self.capacity.positions_max, "positions_max")
        self.state = self.state._replace(positions=_grown(self.state.positions, size))
        self._fit_domains()
        self._fit_ladders()

    def _fit_ladders(self) -> None:
        state = self.state
        head = state.head[0]
        leaves, pages = _count_slots(len(state.orders) + len(state.positions), len(state.pages))
        if leaves > len(state.leaf_masks):
            self.state = state = state._replace(
                leaf_masks=_grown(state.leaf_masks, leaves),
                levels=_grown(state.levels[: LEAF_TICKS * int(head["leaf_used"])], LEAF_TICKS * leaves),
            )
        if pages > len(state.page_masks):
            self.state = state._replace(
                page_masks=_grown(state.page_masks, pages),
                page_leaves=_grown(state.page_leaves[: LEAVES * int(head["page_used"])], LEAVES * pages),
            )

    def _fit_domains(self) -> None:
        state = self.state
        size = len(state.wallets) + len(state.positions)
        self.state = state._replace(
            pending=_grown(state.pending, size),
            touched=_grown(state.touched, size),
            triggers=_grown(state.triggers, size),
            queue=_grown(state.queue, size),
            uneasy=_grown(state.uneasy, size),
        )
        if can_rest(self.setup):
            self.state = self.state._replace(resting=_grown(state.resting, 2 * size))

    def _grow_orders(self) -> None:
        state = self.state
        have = len(state.orders)
        size = self._next_size(have, have + 1, self.capacity.orders_max, "orders_max")
        idmap = make_idmap(size)
        from engine.kernels.idmap import copy_ids

        copy_ids(state.idmap, idmap)
        self.state = state._replace(orders=_grown(state.orders, size), idmap=idmap)
        self._fit_ladders()

    def count_commands(self) -> int:
        """Return how many commands were applied."""
        return int(self.state.head[0]["seq"])

    def view(self) -> View:
        """Return the canonical state.

        Source: STATE-001.
        """
        state = self.state
        head, markets = state.head[0], state.markets
        marks = np.zeros((len(markets), 5), np.int64)
        marks[:, :4] = _columns(markets, "mark_tick", "index_tick", "last_tick", "open_interest_lot")
        sums = ("fees_quote", "rounding_quote", "insolvency_quote", "deposits_quote")
        return View(
            clock=np.array([[head["seq"], head["ts_ns"], head["deficit_id"]]], np.int64),
            markets=marks,
            orders=self._view_orders(),
            positions=self._view_positions(),
            wallets=self._view_wallets(),
            funds=_columns(state.funds, "balance_quote", "low_quote"),
            assets=_columns(state.assets, *sums, "withdrawals_quote", "waived_quote"),
            tables=self._view_tables(),
            adl=self._view_adl(),
            resting=self._view_resting(),
            averages=self._view_averages(),
            portfolios=self._view_portfolios(),
            entries=self._view_entries(),
            unwinding=[(market, due) for market, due in enumerate(markets["unwind_due_ns"].tolist()) if due],
        )

    def _view_tables(self) -> NDArray[np.int64]:
        table = self.state.markets["tier_table"]
        (chosen,) = np.nonzero(table)
        return np.stack([chosen, table[chosen]], axis=1).astype(np.int64)

    def _view_adl(self) -> NDArray[np.int64]:
        """Return the state that only some ADL policies keep (ADL-017, ADL-021)."""
        rows = []
        for market, rules in enumerate(self.setup.markets):
            is_priced, is_watched = rules.adl_price == PRICE_PREVIOUS, rules.adl_trigger == TRIGGER_DRAWDOWN
            if is_priced or is_watched:
                row = self.state.markets[market]
                peaks = np.roll(
                    self.state.peaks[market * PEAK_BUCKETS : (market + 1) * PEAK_BUCKETS],
                    -1 - int(row["peak_bucket"]) % PEAK_BUCKETS,
                )
                previous = row["previous_tick"] if is_priced else 0
                rows.append([market, previous, row["adl_active"], row["peak_bucket"], *peaks])
        return np.array(rows, np.int64).reshape(-1, 4 + PEAK_BUCKETS)

    def _view_resting(self) -> NDArray[np.int64]:
        """Return the domains that rest or cool.

        Source: WAKE-001, WAKE-002.
        """
        state = self.state
        rows = state.resting[: int(state.head[0]["resting_count"])]
        if not len(rows):  # by far the most common
            return np.empty((0, 5), np.int64)
        code, assets = rows["item"], len(self.setup.assets)
        is_cross, place = (code & 1) == 1, code >> 1
        owners = state.positions[np.where(is_cross, 0, place)]
        market = np.where(is_cross, -1, owners["market"])
        account = np.where(is_cross, place // assets, owners["account"])
        asset = np.where(is_cross, place % assets, state.markets["asset"][owners["market"]])
        table = np.stack([account, asset, market, rows["key"], rows["minor"]], axis=1).astype(np.int64)
        return table[np.lexsort((table[:, 4], market, asset, account))]

    def _view_averages(self) -> list[tuple[int, ...]]:
        """Return what derived marks and funding remember, sample rings oldest first.

        Source: MARK-001, FUND-011.
        """
        rows: list[tuple[int, ...]] = []
        for market, rules in enumerate(self.setup.markets):
            if not is_derived(rules):
                continue
            row = self.state.averages[market]
            size, count, start = rules.basis_samples, int(row["ring_count"]), int(row["ring_offset"])
            oldest = int(row["ring_next"]) - count
            names = ("rate_ppb", "premium_count", "premium_sum_ppb", "premium_weighted_ppb")
            numbers = [int(row[name]) for name in (*names, "ema_micro", "ema_start_ppb")]
            numbers += [int(self.state.samples[start + (oldest + at) % size]) for at in range(count)]
            rows += [(market, place, number) for place, number in enumerate(numbers)]
        return rows

    def _view_entries(self) -> list[tuple[int, int]]:
        """Return (market, account) of those settled at the mark, in the order in which they entered.

        Source: CASH-002.
        """
        rows: list[tuple[int, int]] = []
        for market, slot in enumerate(self.state.markets["entered_head"].tolist()):
            while slot != NIL:
                position = self.state.positions[slot]
                rows.append((market, int(position["account"])))
                slot = int(position["next_entered"])
        return rows

    def _view_orders(self) -> NDArray[np.int64]:
        orders = self.state.orders[: int(self.state.head[0]["order_used"])]
        live = orders[orders["qty_lot"] > 0]
        side = live["side"].astype(np.int64)
        order = np.lexsort((live["priority"], -live["price_tick"] * side, -side, live["market"]))
        return _columns(live[order], "market", "side", "price_tick", "qty_lot", "account", "order_id", "flags")

    def _view_positions(self) -> NDArray[np.int64]:
        rows = self.state.positions[: int(self.state.head[0]["position_used"])]
        markets, account, market = self.state.markets, rows["account"], rows["market"]
        default = markets["margin_mode"][market]
        owner = account * len(self.setup.assets) + markets["asset"][market]
        is_netted = (self.state.wallets["flags"][owner] & NETTED) != 0
        is_trader = account > EXTERNAL  # the outside and the house have no mode of their own
        start_mode = np.where(is_trader & is_netted, CROSS, default)
        changed = (rows["leverage_ppm"] != markets["leverage_ppm"][market]) | (rows["mode"] != start_mode)
        (shown,) = np.nonzero((rows["qty_lot"] != 0) | (rows["cost_quote"] != 0) | (changed & is_trader))
        shown = shown[np.lexsort((market[shown], account[shown]))]
        names = ("account", "market", "qty_lot", "cost_quote", "margin_quote", "opened_seq", "leverage_ppm")
        table = _columns(rows[shown], *names, "mode", "flags")
        mode, flags = table[:, 7], table[:, 8]
        table[:, 8] = ((flags & CALLED) != 0) & (mode == ISOLATED)
        table[:, 7] = np.where(is_trader[shown], mode, default[shown])
        return table

    def _view_wallets(self) -> NDArray[np.int64]:
        wallets, assets = self.state.wallets, len(self.setup.assets)
        called = (wallets["flags"] & CALLED) != 0
        (at,) = np.nonzero((wallets["balance_quote"] != 0) | called)
        columns = (at // assets, at % assets, wallets["balance_quote"][at], called[at])
        return np.stack([column.astype(np.int64) for column in columns], axis=1)

    def _view_portfolios(self) -> NDArray[np.int64]:
        assets = len(self.setup.assets)
        netted = (self.state.wallets["flags"] & NETTED) != 0
        starts = [self.setup.starts_as_portfolio(asset) for asset in range(assets)]
        (at,) = np.nonzero((netted.reshape(-1, assets) != starts).ravel())
        return np.stack([at // assets, at % assets, netted[at].astype(np.int64)], axis=1)

    def copy(self) -> "CompiledEngine":
        """Return an independent copy: all arrays are copied.

        Source: STATE-002.
        """
        twin = CompiledEngine.__new__(CompiledEngine)
        twin.setup, twin.capacity = self.setup, self.capacity
        twin.state = State(*map(_copied, self.state))
        twin.events, twin._lent = allot(EVENTS_KEPT, EVENT), []
        return twin

    def rank_side(self, market: int, side: int) -> list[tuple[int, int, int, int]]:
        """Return (account, score, qty_lot, lights) of a side's ADL queue, best first.

        Source: ADL-002, ADL-009, ADL-028.
        """
        from engine.kernels.query import list_queue

        return [tuple(row) for row in list_queue(self.box, market, side).tolist()]

    def read_trigger(self, market: int) -> tuple[int, int, int]:
        """Return (whether the fund is kept from paying, its balance, its peak) as a market's trigger sees them.

        Source: ADL-029.
        """
        rules = self.state.markets[market]
        balance = int(self.state.funds[int(rules["fund"])]["balance_quote"])
        if rules["adl_trigger"] != TRIGGER_DRAWDOWN:
            return int(balance <= 0), balance, balance
        peaks = self.state.peaks[market * PEAK_BUCKETS : (market + 1) * PEAK_BUCKETS]
        return int(rules["adl_active"]), balance, int(peaks.max())

    def list_side(self, market: int, side: int, levels: int) -> list[tuple[int, int]]:
        """Return (price_tick, qty_lot) of a side's best price levels, best first."""
        from engine.kernels.query import list_depth

        return [(int(tick), int(qty)) for tick, qty in list_depth(self.box, market, side, levels)]

    def find_liquidation_price(self, account: int, market: int) -> int:
        """Return a position's liquidation price in ticks, 0 if it has none.

        Source: MARGIN-011.
        """
        from engine.kernels.query import find_liquidation_price

        return int(find_liquidation_price(self.box, account, market))

    def find_bankruptcy_price(self, account: int, market: int) -> int:
        """Return a position's bankruptcy price in ticks, for display.

        Source: MARGIN-005.
        """
        from engine.kernels.query import find_bankruptcy_price

        return int(find_bankruptcy_price(self.box, account, market))

    def measure_margin(self, account: int, market: int) -> tuple[int, int]:
        """Return (equity, maintenance) of the domain of an account's position in a market.

        Source: MARGIN-001.
        """
        from engine.kernels.query import measure_margin

        equity, maintenance = measure_margin(self.box, account, market)
        return int(equity), int(maintenance)

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the arrays, without the scratch space between commands."""
        scratch = {"pending", "touched", "triggers", "queue", "stage"}
        return {name: array for name, array in self.state._asdict().items() if name not in scratch}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over dumped arrays, as copies; ConfigError where one is not as markets and the others make it.

        Kernels index without looking.  Source: FEED-073.
        """
        taken = {}
        for name, own in self.dump().items():
            if name not in arrays or arrays[name].dtype != own.dtype or arrays[name].ndim != 1:
                raise ConfigError(f"snapshot: array '{name}' is missing or of another format")
            taken[name] = np.array(arrays[name], order="C")
        accounts = len(taken["wallets"]) // len(self.setup.assets)
        wanted = _allot_state(self.setup, accounts, len(taken["positions"]), len(taken["orders"]))._asdict()
        for name, array in taken.items():
            if len(array) != (rows := len(wanted[name])):
                raise ConfigError(f"snapshot: array '{name}' has {len(array)} rows, expected {rows}")
        self.state = self.state._replace(**taken)
        self._fit_domains()


def _columns(rows: Rows, *names: str) -> NDArray[np.int64]:
    """Return named columns of structured rows as an (n, len(names)) int64 table."""
    table = np.empty((len(rows), len(names)), np.int64)
    for at, name in enumerate(names):
        table[:, at] = rows[name]
    return table


def make_idmap(orders: int) -> NDArray[np.int64]:
    """Return an empty id map for so many orders, a power of two.

    A quarter full at most while that keeps it in the processor's cache, half full beyond: a probe more is cheaper then
    than a miss.
    """
    size = max(2 * orders, min(4 * orders, IDMAP_SPARSE))
    return np.zeros(1 << (size - 1).bit_length(), np.int64)


def _allocate(setup: Setup, capacity: Capacity) -> State:
    """Return the arrays of an empty exchange: small, and no larger than allowed; the outside has its place anyway."""
    standing = len(setup.markets) * (2 if _has_house(setup) else 1)  # the outside's, and the house's
    sizes = zip((64, 64 + standing, 1024), capacity, strict=True)  # of accounts, positions, orders
    state = _allot_state(setup, *map(min, sizes))
    _write_rules(state, setup)
    return state


def _allot_state(setup: Setup, accounts: int, positions: int, orders: int) -> State:
    """Return zeros for so many accounts, positions and orders, and at least for those that are always there."""
    markets, assets = len(setup.markets), len(setup.assets)
    accounts, orders = max(accounts, 1), max(orders, 1)
    positions = max(positions, markets * (2 if _has_house(setup) else 1))
    ladders, page_count, word_count = _allocate_ladders(setup)
    leaves, pages = _count_slots(orders + positions, page_count)
    domains = accounts * assets + positions
    return State(
        head=allot(1, HEAD),
        markets=allot(markets, MARKET),
        tiers=allot((markets + sum(map(len, _list_tables(setup)))) * TIERS_MAX, TIER),
        assets=allot(assets, ASSET),
        funds=allot(len(setup.funds), FUND),
        wallets=allot(accounts * assets, WALLET),
        positions=allot(positions, POSITION),
        orders=allot(orders, ORDER),
        idmap=make_idmap(orders),
        ladders=ladders,
        pages=np.full(page_count, NIL, np.int32),
        words=allot(word_count, np.uint64),
        page_masks=allot(pages, np.uint64),
        page_leaves=allot(LEAVES * pages, np.int32),
        leaf_masks=allot(leaves, np.uint64),
        levels=allot(LEAF_TICKS * leaves, LEVEL_RECORD),
        pending=allot(domains, np.int64),
        touched=allot(domains, np.int64),
        triggers=allot(domains, HEAP),
        queue=allot(domains, HEAP),
        stage=allot(2, EVENT),
        uneasy=allot(domains, np.int64),
        peaks=allot(markets * PEAK_BUCKETS, np.int64),
        resting=allot(2 * domains if can_rest(setup) else 0, HEAP),
        averages=allot(markets, AVERAGE),
        samples=allot(sum(_count_ring(rules) for rules in setup.markets), np.int64),
    )


def can_rest(setup: Setup) -> bool:
    """Return whether some policy may leave a domain liquidatable, so that it rests: twice its place is set aside."""
    return any(rules.adl_gate or rules.cooldown_ns for rules in setup.markets)


def _count_ring(rules: MarketRules) -> int:
    """Return how many basis samples a market keeps (MARK-003)."""
    return rules.basis_samples if rules.mark_model == MARK_MEDIAN3 else 0


def _count_slots(nodes: int, pages: int) -> tuple[int, int]:
    """Return how many leaves and pages so many nodes may need where there are so many pages in all."""
    return min(nodes, LEAVES * pages), min(nodes, pages)


def _list_tables(setup: Setup) -> list[tuple[Tiers, ...]]:
    """Return the tier tables of each market that has several; those of the others never change (TIER-001)."""
    return [rules.tables if rules.more_tables else () for rules in setup.markets]


def _allocate_ladders(setup: Setup) -> tuple[Rows, int, int]:
    """Return the ladder headers and how many pages and words they need.

    A book and a trigger ladder per market, then the trigger ladders of further tier tables.
    """
    owners = [rules for rules in setup.markets for _ in range(2)]
    owners += [rules for rules in setup.markets for _ in rules.more_tables]
    ladders = np.zeros(len(owners), LADDER)
    pages = words = 0
    for rules, header in zip(owners, ladders, strict=True):
        limit = rules.price_max_tick + 1
        page_count, word_counts = count_ladder(limit)
        header["best_ask"] = header["limit_tick"] = limit
        header["page_offset"], header["word_offset"] = pages, words
        header["word_counts"] = word_counts
        pages += page_count
        words += sum(word_counts)
    return ladders, pages, words


def count_ladder(limit_tick: int) -> tuple[int, list[int]]:
    """Return how many pages a ladder of so many ticks has, and how many words each level of their summary."""
    pages = -(-limit_tick // PAGE_TICKS)
    return pages, [-(-pages // 64**depth) for depth in (1, 2, 3)]


def _write_tables(state: State, setup: Setup) -> None:
    """Write where a market's tier tables and their ladders are, and the tables where there are several."""
    place, ladder = len(setup.markets), 2 * len(setup.markets)
    for row, rules, tables in zip(state.markets, setup.markets, _list_tables(setup), strict=True):
        row["table_count"] = len(rules.tables)
        row["tables_at"], row["ladders_at"] = place, ladder
        for number, tiers in enumerate(tables):
            for at, tier in enumerate(tiers):
                state.tiers[(place + number) * TIERS_MAX + at] = tier
        place += len(tables)
        ladder += len(rules.more_tables)


def _start_wallets(wallets: Rows, setup: Setup, first: int) -> None:
    """Begin the wallets from place `first` on: without positions, as portfolios where accounts start so (PORT-002)."""
    wallets["positions_head"][first:] = NIL
    assets = len(setup.assets)
    for asset in range(assets):
        if setup.starts_as_portfolio(asset):
            wallets["flags"][first + asset :: assets] |= NETTED


def _write_rules(state: State, setup: Setup) -> None:
    """Write the markets' parameters and the outside's positions into the arrays."""
    head = state.head[0]
    head["order_free"] = head["leaf_free"] = head["page_free"] = NIL
    head["asset_count"], head["market_count"] = len(setup.assets), len(setup.markets)
    _start_wallets(state.wallets, setup, 0)
    _write_tables(state, setup)
    for index, rules in enumerate(setup.markets):
        row = state.markets[index]
        for name in MARKET.names or ():
            if name in rules._fields:
                row[name] = getattr(rules, name)
        row["tier_count"] = len(rules.tiers)
        if rules.moves_ppm:
            row["fall_ppm"], row["rise_ppm"] = -rules.moves_ppm[0], rules.moves_ppm[-1]
        row["mark_tick"] = rules.initial_mark_tick
        row["external"] = index
        state.averages[index]["ema_start_ppb"] = PPB
        state.averages[index]["ring_offset"] = sum(_count_ring(before) for before in setup.markets[:index])
        row["entered_head"] = row["entered_tail"] = row["house"] = NIL
        for place, tier in enumerate(rules.tiers):
            state.tiers[index * TIERS_MAX + place] = tier
        state.assets[rules.asset]["call_ppm"] = rules.call_ppm
        state.assets[rules.asset]["settlement"] = rules.settlement
        position = state.positions[index]
        position["account"], position["market"] = EXTERNAL, index
        position["orders_head"] = NIL
        position["leverage_ppm"], position["mode"] = rules.leverage_ppm, CROSS
        position["next_owned"] = index + 1 if index + 1 < len(setup.markets) else NIL
    state.wallets[EXTERNAL]["positions_head"] = 0
    head["position_used"] = len(setup.markets)
    head["watch_count"] = sum(rules.adl_trigger == TRIGGER_DRAWDOWN for rules in setup.markets)
    head["derived_count"] = sum(rules.mark_model >= MARK_LAST for rules in setup.markets)
    if _has_house(setup):
        _write_house(state, setup)
    state.funds["asset"] = setup.fund_assets


def _has_house(setup: Setup) -> bool:
    """Return whether any market has a house (HOUSE-001)."""
    return any(rules.backstop != BACKSTOP_ADL for rules in setup.markets)


def _write_house(state: State, setup: Setup) -> None:
    """Give the house its positions, behind the outside's: one for each market that has a backstop for it."""
    slot = len(setup.markets)
    for index, rules in enumerate(setup.markets):
        if rules.backstop != BACKSTOP_ADL:
            position = state.positions[slot]
            position["account"], position["market"] = HOUSE, index
            position["orders_head"] = position["next_owned"] = NIL
            position["leverage_ppm"], position["mode"] = rules.leverage_ppm, CROSS
            state.markets[index]["house"] = slot
            slot += 1
    state.head[0]["position_used"] = slot
