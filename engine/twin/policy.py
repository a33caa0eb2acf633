"""A policy file: what of the markets is otherwise from the fork on (TWIN-005)."""

import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from engine.codes import FUND_DEPOSIT, SET_TIERS
from engine.contract import Market, build_setup
from engine.errors import ConfigError, explain_os, list_known
from engine.files import explain_misfit
from engine.flight import check_rules
from engine.reference.own import OwnRule, is_rule, load_rule
from engine.replay import count_fund
from engine.venues import merge_tables, read_venue

AS_IT_IS = "market"
FROM_VENUE = ("liquidation", "adl", "liquidation_fee")


class MarketChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a policy changes of a market: the fields of a market file that may change in flight."""

    venue: str | None = None
    liquidation: dict[str, Any] = {}
    adl: dict[str, Any] = {}
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None
    liquidation_fee: Decimal | None = None
    order_collar: Decimal | None = None
    liquidation_collar: Decimal | None = None
    closeout_moves_last: bool | None = None
    tier_table: int | None = None


class PolicyFile(MarketChange, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy as its owner writes it.

    Parameters
    ----------
    venue : str, optional
        A preset whose `[liquidation]`, `[adl]` and `liquidation_fee` are taken; what else stands in the file wins.
    tier_table : int, optional
        Number of the tier table that comes in force at the fork.
    fund_deposit : mapping
        Fund name -> what is paid into it at the fork, in its asset.
    markets : mapping
        Symbol -> changes of that market alone, over those of all.

    Source: TWIN-005.
    """

    fund_deposit: dict[str, Decimal] = {}
    markets: dict[str, MarketChange] = {}


class Policy(NamedTuple):
    """A policy ready to be put in force: the markets by it, and commands at the fork.

    `commands` are rows of (kind, market, amount), `allocation` a function that stands for the markets' own (OWN-003).
    """

    name: str
    path: Path | None
    markets: tuple[Market, ...]
    commands: tuple[tuple[int, int, int], ...]
    allocation: OwnRule | None = None


def list_policies(paths: Sequence[Path], markets: Sequence[Market]) -> list[Policy]:
    """Return the policies of files; the first is what the others are compared with.

    `market` names the market files as they are, which come first where one file is given alone; FILE.py:FUNCTION is the
    market files with that function in the place of their allocation.

    Raises
    ------
    ConfigError
        Naming the file and the path in it: unknown fields and policies, what cannot change in flight, two of a name.

    Source: TWIN-005, OWN-004.
    """
    given = [Path(AS_IT_IS), *paths] if len(paths) == 1 else list(paths)
    found = [_load(path, markets) for path in given]
    names = [policy.name for policy in found]
    if len(set(names)) != len(names):
        raise ConfigError(f"--policy: expected files of different names, got {', '.join(names)}")
    return found


def check_engine(policies: Sequence[Policy], engine: str) -> None:
    """Refuse functions for the compiled engine before anything is run.

    Source: OWN-004.
    """
    own = [policy.name for policy in policies if policy.allocation is not None]
    if own and engine != "reference":
        raise ConfigError(f"--policy {own[0]}: a function expects --engine reference and a tape, got {engine}")


def _load(path: Path, markets: Sequence[Market]) -> Policy:
    if str(path) == AS_IT_IS:
        return Policy(AS_IT_IS, None, tuple(markets), ())
    if is_rule(str(path)):
        rule = load_rule(str(path))
        return Policy(rule.name, Path(str(path).rpartition(":")[0]), tuple(markets), (), rule)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        file = msgspec.convert(raw, PolicyFile, strict=False)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {explain_os(error, path)}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {explain_misfit(error, PolicyFile)}") from error
    unknown = sorted(set(file.markets) - {market.symbol for market in markets})
    if unknown:
        known = [market.symbol for market in markets]
        raise ConfigError(f"{path}: markets: unknown symbol '{unknown[0]}', {list_known(unknown[0], known)}")
    changed, tables = [], []
    for index, market in enumerate(markets):
        changes = [file, *(file.markets[name] for name in file.markets if name == market.symbol)]
        changed.append(_change_market(market, changes, path))
        table = [change.tier_table for change in changes if change.tier_table is not None]
        if table:
            if not 0 <= table[-1] <= len(market.tier_tables):
                raise ConfigError(f"{path}: tier_table: expected 0 to {len(market.tier_tables)}, got {table[-1]}")
            tables.append((SET_TIERS, index, table[-1]))
    before, after = build_setup(markets), build_setup(changed, str(path))
    check_rules(before, after, str(path))
    deposits = []
    for name, amount in file.fund_deposit.items():
        units = count_fund(f"{name}={amount:f}", markets)[name]
        fund = before.funds.index(name)
        market_index = next(index for index, rules in enumerate(before.markets) if rules.fund == fund)
        deposits += [(FUND_DEPOSIT, market_index, units)] if units else []
    return Policy(path.stem, path, tuple(changed), (*tables, *deposits))


def _change_market(market: Market, changes: Sequence[MarketChange], path: Path) -> Market:
    """Return a market with changes laid over it, one after another."""
    tables = msgspec.to_builtins(market)
    try:
        for change in changes:
            own = msgspec.to_builtins(change)
            if change.venue is not None:
                preset = read_venue(change.venue).fill()
                tables |= {name: _defaults(name) | preset.get(name, {}) for name in ("liquidation", "adl")}
                tables |= {name: preset[name] for name in FROM_VENUE if name == "liquidation_fee" and name in preset}
            kept = {name: own[name] for name in own if name in tables and own[name] is not None}
            tables = merge_tables(tables, kept)
        return msgspec.convert(tables, Market, strict=False)
    except (ConfigError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _defaults(name: str) -> dict[str, Any]:
    """Return a table of a market file as it is where the file says nothing."""
    fields = {field.name: field.type for field in msgspec.structs.fields(Market)}
    found: dict[str, Any] = msgspec.to_builtins(fields[name]())
    return found
