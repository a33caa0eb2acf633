"""A deterministic perpetual-futures exchange: real book, liquidations, insurance fund, auto-deleveraging.

The public names are here; numba is imported only when an exchange first runs.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine import commands as commands
    from engine.contract import Market as Market
    from engine.contract import load_market as load_market
    from engine.exchange import Capacity as Capacity
    from engine.exchange import Exchange as Exchange
    from engine.runs.load import load_run as load_run
    from engine.sweep.load import load_sweep as load_sweep

__version__ = "0.1.0"
__all__ = ["Capacity", "Exchange", "Market", "commands", "load_market", "load_run", "load_sweep"]

_HOMES = {"Capacity": "exchange", "Exchange": "exchange", "Market": "contract", "load_market": "contract"}
_HOMES |= {"load_run": "runs", "load_sweep": "sweep.load"}


def __getattr__(name: str) -> Any:
    """Import public names when they are asked for, so that `import engine` stays fast."""
    import importlib

    if name == "commands":
        return importlib.import_module("engine.commands")
    if name in _HOMES:
        return getattr(importlib.import_module(f"engine.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'engine' has no attribute '{name}'")
