"""The exchange: two engines behind one face.

`Exchange(markets)` is the compiled engine; `Exchange(markets, engine="reference")` the readable one behind the same
methods.  Both take COMMAND rows (or `engine.commands` structs) and return EVENT rows.
"""

import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.codes import BUY, EXTERNAL, PPM, SELL
from engine.commands import Command, to_rows
from engine.compiled import Capacity as Capacity
from engine.compiled import CompiledEngine, Rows
from engine.contract import Market, Setup, build_setup, convert_markets, value_of
from engine.digest import View, compute_digest
from engine.errors import ConfigError, DataError, JournalError
from engine.files import read_arrays
from engine.flight import change_rules, check_change, check_units
from engine.journal import LOG, SNAPSHOT, Journal, Log, Tail, cut_tail, list_snapshots, sync_folder, write_durably
from engine.layout import COMMAND, EVENT

SNAPSHOT_FORMAT = 2  # one more whenever the arrays of `layout.State` change
VERIFIED = 16  # commands of a log between two looks whether to stop: the reference engine takes long over a cascade
META_BYTES_MAX = 1 << 24  # of what a snapshot says of itself
COMMAND_NAMES = COMMAND.names or ()
EVENT_NAMES = EVENT.names or ()
Table = dict[str, NDArray[Any]]
Allocation = Callable[[int, list[Any]], Mapping[int, int]]  # lots, holders -> account -> lots (OWN-001)


class Engine(Protocol):
    """What both engines offer the exchange."""

    def apply(self, rows: Rows) -> Rows:
        """Apply COMMAND rows and return EVENT rows."""

    def view(self) -> View:
        """Return the canonical state."""

    def count_commands(self) -> int:
        """Return how many commands were applied."""

    def copy(self) -> "Engine":
        """Return an independent copy."""

    def rank_side(self, market: int, side: int) -> list[tuple[int, int, int, int]]:
        """Return (account, score, qty_lot, lights) of a side's ADL queue, best first."""

    def read_trigger(self, market: int) -> tuple[int, int, int]:
        """Return (whether the fund is kept from paying, its balance, its peak) as a market's trigger sees them."""

    def list_side(self, market: int, side: int, levels: int) -> list[tuple[int, int]]:
        """Return (price_tick, qty_lot) of a side's best price levels, best first."""

    def find_liquidation_price(self, account: int, market: int) -> int:
        """Return a position's liquidation price in ticks, 0 if it has none."""

    def find_bankruptcy_price(self, account: int, market: int) -> int:
        """Return a position's bankruptcy price in ticks, for display."""

    def measure_margin(self, account: int, market: int) -> tuple[int, int]:
        """Return (equity, maintenance) of the domain of an account's position in a market."""

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the engine's state as named arrays."""

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over the state of `dump`."""


class ReferenceEngine:
    """The readable engine behind the same methods."""

    def __init__(self, setup: Setup) -> None:
        from engine.reference.exchange import ReferenceExchange

        self.setup = setup
        self.inner = ReferenceExchange(setup)

    def apply(self, rows: Rows) -> Rows:
        """Apply COMMAND rows one by one and return EVENT rows."""
        events = [event for row in rows for event in self.inner.step(_make_row(row))]
        out = np.zeros(len(events), EVENT)
        for at, event in enumerate(events):
            out[at] = tuple(getattr(event, name) for name in EVENT_NAMES)
        return out

    def view(self) -> View:
        """Return the canonical state."""
        return View(*self.inner.view())

    def count_commands(self) -> int:
        """Return how many commands were applied."""
        return self.inner.state.seq

    def copy(self) -> "ReferenceEngine":
        """Return an independent copy."""
        twin = ReferenceEngine.__new__(ReferenceEngine)
        twin.setup, twin.inner = self.setup, self.inner.copy()
        return twin

    def change_rules(self, setup: Setup) -> None:
        """Go on by other rules."""
        self.setup = setup
        self.inner.change_rules(setup)

    def rank_side(self, market: int, side: int) -> list[tuple[int, int, int, int]]:
        """Return (account, score, qty_lot, lights) of a side's ADL queue, best first."""
        rows, lights = self.inner.adl_queue(market, side), self.inner.adl_lights(market, side)
        return [(*row, count) for row, count in zip(rows, lights, strict=True)]

    def read_trigger(self, market: int) -> tuple[int, int, int]:
        """Return (whether the fund is kept from paying, its balance, its peak) as a market's trigger sees them."""
        return self.inner.adl_trigger(market)

    def list_side(self, market: int, side: int, levels: int) -> list[tuple[int, int]]:
        """Return (price_tick, qty_lot) of a side's best price levels, best first."""
        sums: dict[int, int] = {}
        for place, order_side, tick, qty, *_ in self.view().orders:
            if place == market and order_side == side:
                sums[tick] = sums.get(tick, 0) + qty
        return sorted(sums.items(), reverse=side > 0)[:levels]

    def find_liquidation_price(self, account: int, market: int) -> int:
        """Return a position's liquidation price in ticks, 0 if it has none."""
        return self.inner.liquidation_price(account, market)

    def find_bankruptcy_price(self, account: int, market: int) -> int:
        """Return a position's bankruptcy price in ticks, for display."""
        return self.inner.bankruptcy_price(account, market)

    def measure_margin(self, account: int, market: int) -> tuple[int, int]:
        """Return (equity, maintenance) of the domain of an account's position in a market."""
        return self.inner.margin(account, market)

    def dump(self) -> dict[str, NDArray[Any]]:
        """Return the state as one array of MessagePack bytes; ConfigError where a rule is a function, which is none."""
        rule = self.inner.state.allocation
        if rule is not None:
            raise ConfigError(f"snapshot: expected named policies, rule {rule.name} is a function")
        return {"reference": np.frombuffer(msgspec.msgpack.encode(self.inner.save_state()), np.uint8)}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take over a dumped state."""
        from engine.reference.exchange import ReferenceExchange

        if "reference" not in arrays:
            raise ConfigError("snapshot: written by the compiled engine")
        plain = msgspec.msgpack.decode(arrays["reference"].tobytes(), strict=False)
        self.inner = ReferenceExchange.load_state(self.setup, plain)


def _make_row(row: Any) -> Any:
    """Return a COMMAND record as plain Python integers under the same names."""
    return SimpleNamespace(**dict(zip(COMMAND_NAMES, row.tolist(), strict=True)))


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
    allocation : OwnRule or callable, optional
        Who gives up how many lots in ADL, in the place of the markets' `[adl] allocation`; of the reference only, since
        the compiled engine knows those by name and no Python.

    Raises
    ------
    ConfigError
        For markets that do not fit together, an unknown engine, an allocation for the compiled one.

    Source: DESIGN 11; spec STATE-003, OWN-003.
    """

    journal: "Journal | None" = None  # of `open`
    recovery: "Recovery | None" = None

    def __init__(
        self,
        markets: Sequence[Market],
        engine: str = "compiled",
        capacity: Capacity | None = None,
        allocation: Allocation | None = None,
    ) -> None:
        self.markets = tuple(markets)
        self.setup = build_setup(self.markets)
        self.engine_name = engine
        self.engine = _make_engine(self.setup, engine, capacity or Capacity())
        if allocation is not None:
            _put_in_force(self.engine, allocation)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        markets: Sequence[Market] = (),
        engine: str = "compiled",
        capacity: Capacity | None = None,
        fsync: str = "group",
    ) -> "Exchange":
        """Return the exchange a journal tells of, to its last durable command; what is applied next is written there.

        A snapshot, where a sound one lies there, spares replaying what came before it.  A torn or damaged tail is cut
        and reported in `recovery` and to the log `engine.journal`.

        Parameters
        ----------
        folder : path
            Of a journal; without a log in it, one is begun.
        markets : sequence of Market
            To begin with; of a journal that exists they must be its own, or none.
        fsync : {"group", "always", "never"}
            When commands are on disk (`Journal`).

        Raises
        ------
        ConfigError
            If there is no journal and no markets, or the markets are others.
        DataError
            If it is damaged in the middle, or a digest in it is not that of the state.

        Source: JRN-003, JRN-004.
        """
        if not (Path(folder) / LOG).exists():
            if not markets:
                raise ConfigError(f"journal: {folder}: expected a journal here, or markets to begin one")
            exchange = cls(markets, engine, capacity)
            exchange.journal = Journal(folder, markets, fsync)
            return exchange
        log = Log(folder)
        if markets and list(markets) != log.markets:
            raise ConfigError(f"journal: {folder}: expected the markets it was begun with")
        total = sum(len(frame.rows) for frame in log.frames())
        exchange, at = _load_newest(folder, total, log.markets, engine, capacity)
        checked = 0
        for frame in log.frames():
            if frame.first_seq + len(frame.rows) > at:
                exchange.engine.apply(
                    np.require(frame.rows[max(at - frame.first_seq, 0) :], requirements=["C", "W", "O"])
                )
            if frame.digest and frame.first_seq >= at:
                checked += 1
                if exchange.digest() != frame.digest:
                    where = f"after command {frame.first_seq}"
                    raise DataError(
                        log.path, None, "digest", f"expected {frame.digest} {where}, got {exchange.digest()}"
                    )
        exchange.recovery = Recovery(total, at, checked, log.tail)
        if log.tail.lost_bytes:
            logging.getLogger("engine.journal").warning("%s: %s", log.path, exchange.recovery.describe())
            cut_tail(folder, log.tail)
        exchange.journal = Journal.resume(folder, total, fsync)
        return exchange

    def snapshot(self) -> Path:
        """Commit the journal and write the state beside it; the two newest snapshots are kept.

        Raises
        ------
        JournalError
            If the disk refuses; a log that was committed goes on, and older snapshots are as they were.

        Source: JRN-005, JRN-008.
        """
        if self.journal is None:
            raise ConfigError("snapshot: expected an exchange with a journal (Exchange.open)")
        digest = self.digest()
        self.journal.append_digest(digest)
        self.journal.commit()
        path = self.journal.folder / SNAPSHOT.format(self.engine.count_commands())
        try:
            self.save(path)
            for _, old in list_snapshots(self.journal.folder)[2:]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise JournalError(
                f"journal: {path}: {error.strerror}; the commands are safe, older snapshots are as they were"
            ) from error
        return path

    def close(self) -> None:
        """Write the digest of the state to the journal, commit and close it."""
        if self.journal is not None and self.journal.is_open:
            self.journal.append_digest(self.digest())
            self.journal.close()

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
        return self.engine.apply(rows) if self.journal is None else self._apply_durably(rows, self.journal)

    def _apply_durably(self, rows: Rows, journal: Journal) -> Rows:
        # Applied first and written then: the log holds exactly what was applied, in a batch that broke off too.
        journal.check()
        before = self.engine.count_commands()
        try:
            return self.engine.apply(rows)
        finally:
            journal.append(rows[: self.engine.count_commands() - before])

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

    def copy(self, markets: Sequence[Market] | None = None, allocation: Allocation | None = None) -> "Exchange":
        """Return an independent copy: a fork of the market.

        Parameters
        ----------
        markets : sequence of Market, optional
            The same markets with other policies, in force from the copy's next command on.
        allocation : OwnRule or callable, optional
            One's own, in force from then on; without it a copy goes on by the one there is.

        Raises
        ------
        ConfigError
            If they differ in what cannot change in flight; for an allocation of one's own in the compiled engine.

        Source: STATE-002, TWIN-001, TWIN-002, TWIN-003, OWN-003.
        """
        twin = Exchange.__new__(Exchange)
        twin.markets, twin.setup, twin.engine_name = self.markets, self.setup, self.engine_name
        setup = None if markets is None else build_setup(markets)
        if setup is not None:
            check_units(self.markets, markets or ())
            check_change(self.setup, setup, self.view())
        twin.engine = self.engine.copy()
        if markets is not None and setup is not None:
            twin.markets, twin.setup = tuple(markets), setup
            if isinstance(twin.engine, CompiledEngine):
                change_rules(twin.engine, setup)
            elif isinstance(twin.engine, ReferenceEngine):
                twin.engine.change_rules(setup)
        if allocation is not None:
            _put_in_force(twin.engine, allocation)
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
        np.savez_compressed(buffer, allow_pickle=False, meta=text, **self.engine.dump())
        target = Path(path)
        part = target.with_name(target.name + ".part")
        try:
            write_durably(part, buffer.getvalue())
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(target.parent)

    @classmethod
    def load(cls, path: str | Path, capacity: Capacity | None = None) -> "Exchange":
        """Read a snapshot and check its digest.

        Raises
        ------
        DataError
            If the file is not a snapshot of this format, or its digest does not fit.
        """
        arrays = read_arrays(path)
        try:
            meta = json.loads(arrays.pop("meta").tobytes())
            if meta["format"] != SNAPSHOT_FORMAT:
                raise DataError(path, None, "format", f"expected snapshot format {SNAPSHOT_FORMAT}")
            exchange = cls(convert_markets(meta["markets"]), engine=meta["engine"], capacity=capacity)
            exchange.engine.restore(arrays)
            digest = exchange.digest()
        except DataError:
            raise
        except Exception as error:  # a state that is not one of ours fails wherever it is first looked at
            raise DataError(path, None, None, f"expected a snapshot written by Exchange.save: {error}") from error
        if digest != meta["digest"]:
            raise DataError(path, None, "digest", f"expected {meta['digest']}, the state has {digest}")
        return exchange

    def balances(self) -> Table:
        """Return columns account, asset, balance_quote (wallets that are not empty)."""
        table = np.asarray(self.view().wallets, np.int64).reshape(-1, 4)
        return {"account": table[:, 0], "asset": table[:, 1], "balance_quote": table[:, 2]}

    def positions(self) -> Table:
        """Return the open positions, a column per field.

        Columns account, market, qty_lot, cost_quote, margin_quote, opened_seq, leverage_ppm, mode, unrealised_quote.
        """
        view = self.view()
        table = np.asarray(view.positions, np.int64).reshape(-1, 9)
        table = table[table[:, 2] != 0]
        names = ("account", "market", "qty_lot", "cost_quote", "margin_quote", "opened_seq", "leverage_ppm", "mode")
        columns: Table = {name: table[:, at] for at, name in enumerate(names)}
        marks = np.asarray(view.markets, np.int64).reshape(-1, 5)[:, 0]
        unrealised = -columns["cost_quote"]
        for market, rules in enumerate(self.setup.markets):
            here = columns["market"] == market
            unrealised[here] += value_of(rules, marks[market], columns["qty_lot"][here])
        columns["unrealised_quote"] = unrealised
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
        sides = (("bids", BUY), ("asks", SELL))
        return {name: self.engine.list_side(market, side, levels) for name, side in sides}

    def adl_queue(self, market: int, side: int) -> Table:
        """Return the ADL queue of a side (1: longs), best first: account, score, qty_lot, rank, lights.

        Source: ADL-002, ADL-009, ADL-028.
        """
        rows = self.engine.rank_side(market, side)
        table = np.array(rows, np.int64).reshape(-1, 4)
        return {
            "account": table[:, 0],
            "score": table[:, 1],
            "qty_lot": table[:, 2],
            "rank": np.arange(1, len(rows) + 1, dtype=np.int64),
            "lights": table[:, 3],
        }

    def adl_state(self, market: int) -> dict[str, int | bool]:
        """Return how a market's ADL trigger stands: active, balance_quote and peak_quote of its fund, drawdown_ppm.

        Source: ADL-029.
        """
        active, balance, peak = self.engine.read_trigger(market)
        drawdown = (peak - balance) * PPM // peak if peak > 0 else 0
        return {"active": bool(active), "balance_quote": balance, "peak_quote": peak, "drawdown_ppm": drawdown}

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

    def margin(self, account: int, market: int) -> tuple[int, int]:
        """Return (equity_quote, maintenance_quote) of the domain an account's position in a market belongs to.

        Without an open position there: its cross domain in the market's asset.  (0, 0) for the outside and for accounts
        that never were.  Source: MARGIN-001.
        """
        return self.engine.measure_margin(account, market)

    def liquidation_map(self, market: int) -> Table:
        """Return what would be liquidated at which mark, this market's mark moving alone.

        Columns price_tick, long_lot, short_lot, rising by price.  Source: MARGIN-011.
        """
        open_ = self.positions()
        sums: dict[int, list[int]] = {}
        for account, place, qty in zip(open_["account"], open_["market"], open_["qty_lot"], strict=True):
            if place == market and account > EXTERNAL:
                tick = self.liquidation_price(int(account), market)
                if tick:
                    sums.setdefault(tick, [0, 0])[0 if qty > 0 else 1] += abs(int(qty))
        table = np.array([(tick, *sums[tick]) for tick in sorted(sums)], np.int64).reshape(-1, 3)
        return {"price_tick": table[:, 0], "long_lot": table[:, 1], "short_lot": table[:, 2]}


class Recovery(NamedTuple):
    """What opening a journal found."""

    commands: int
    snapshot_seq: int  # commands the snapshot spared; 0 without one
    digests: int  # of the log that were compared
    tail: Tail

    def describe(self) -> str:
        """Return it as a sentence."""
        found = f"{self.commands} commands recovered, {self.snapshot_seq} of them from a snapshot"
        if self.tail.lost_bytes:
            found += f"; cut {self.tail.lost_bytes} bytes from byte {self.tail.offset} on: {self.tail.why}"
        return found


def _load_newest(
    folder: str | Path, total: int, markets: Sequence[Market], engine: str, capacity: Capacity | None
) -> tuple[Exchange, int]:
    """Return the newest snapshot that is sound and within the log, or an empty exchange, with the commands in it."""
    for seq, path in list_snapshots(folder):
        if seq > total:
            continue
        try:
            exchange = Exchange.load(path, capacity)
        except DataError as error:
            logging.getLogger("engine.journal").warning("%s: left aside: %s", path, error)
            continue
        if exchange.engine_name == engine and exchange.engine.count_commands() == seq:
            return exchange, seq
    return Exchange(markets, engine, capacity), 0


def _put_in_force(engine: Engine, allocation: Allocation) -> None:
    """Let a function say who gives up how many lots.

    Source: OWN-003.
    """
    from engine.reference.own import OwnRule

    if not isinstance(engine, ReferenceEngine):
        raise ConfigError("allocation: one's own expects engine='reference'; the compiled engine knows those of [adl]")
    engine.inner.state.allocation = allocation if isinstance(allocation, OwnRule) else OwnRule(allocation)


def _make_engine(setup: Setup, engine: str, capacity: Capacity) -> Engine:
    if engine == "compiled":
        return CompiledEngine(setup, capacity)
    if engine == "reference":
        return ReferenceEngine(setup)
    raise ConfigError(f"engine: unknown '{engine}', known: compiled, reference")


def verify_journal(
    folder: str | Path,
    engines: Sequence[str],
    until_seq: int | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Replay a command log from its beginning in each engine and compare every digest it and its snapshots hold.

    Nothing on disk is changed.

    Parameters
    ----------
    engines : sequence of {"compiled", "reference"}
    until_seq : int, optional
        Stop after this many commands.
    should_stop : callable, optional
        Asked after every few commands; when true it ends there, with `interrupted`.

    Returns
    -------
    dict
        The keys of `perp verify --json` (formats.md).

    Raises
    ------
    DataError
        If the log is damaged in the middle, or its header is.

    Source: JRN-006.
    """
    log = Log(folder)
    exchanges = {name: Exchange(log.markets, name) for name in engines}
    snapshots = {seq: read_digest(path) for seq, path in list_snapshots(folder)}
    differences: list[dict[str, Any]] = []
    count = compared = 0
    interrupted = False

    def compare(logged: str) -> None:
        nonlocal compared
        compared += 1
        for name, exchange in exchanges.items():
            digest = exchange.digest()
            if digest != logged:
                differences.append({"seq": count, "engine": name, "logged": logged, "digest": digest})

    def apply(rows: Rows) -> bool:
        """Apply commands a few at a time, every engine the same ones; return whether somebody stops it."""
        nonlocal count
        size = VERIFIED if "reference" in exchanges else max(len(rows), 1)
        for start in range(0, len(rows), size):
            if should_stop and should_stop():
                return True
            piece = np.require(rows[start : start + size], requirements=["C", "W", "O"])
            for exchange in exchanges.values():
                exchange.engine.apply(piece)
            count += len(piece)
        return False

    for frame in log.frames():
        if interrupted or (until_seq is not None and count >= until_seq):
            break
        if frame.digest:
            compare(frame.digest)
        end = frame.first_seq + len(frame.rows)
        for stop in sorted({end, *(seq for seq in snapshots if frame.first_seq < seq < end)}):
            last = stop if until_seq is None else min(stop, until_seq)
            rows = frame.rows[count - frame.first_seq : last - frame.first_seq]
            interrupted = apply(rows)
            if interrupted:
                break
            if count == stop and count in snapshots and len(rows):
                compare(snapshots[count])
    digests = {exchange.digest() for exchange in exchanges.values()}
    return {
        "engines": list(engines),
        "interrupted": interrupted,
        "commands": count,
        "digests": compared,
        "equal": not differences and len(digests) == 1,
        "differences": differences,
        "digest": " / ".join(sorted(digests)),
        "tail_offset": log.tail.offset,
        "tail_bytes": log.tail.lost_bytes,
        "tail": log.tail.why,
    }


def read_digest(path: Path) -> str:
    """Return the digest a snapshot says it has; DataError where it is none."""
    try:
        return str(json.loads(read_arrays(path, "meta", most=META_BYTES_MAX)["meta"].tobytes())["digest"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(path, None, None, f"expected a snapshot written by Exchange.save: {error}") from error
