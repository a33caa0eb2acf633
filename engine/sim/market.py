"""The loop: the simulated market and the exchange, step by step in one kernel call (SIM-001)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.codes import OK
from engine.compiled import CHUNK, CompiledEngine
from engine.contract import Market
from engine.errors import CapacityError, ConfigError, InvariantError
from engine.exchange import Exchange
from engine.layout import COMMAND
from engine.sim.desk import Desk

Rows = NDArray[np.void]


class Simulator:
    """A simulated market on an exchange.

    Parameters
    ----------
    exchange : Exchange
        The compiled engine, with a mark and the makers' and takers' money.
    desk : Desk
        As `build_desk` returns it; its arrays are changed in place.

    Source: SIM-001.
    """

    def __init__(self, exchange: Exchange, desk: Desk) -> None:
        if not isinstance(exchange.engine, CompiledEngine):
            raise ConfigError("engine: expected 'compiled', the simulated market reads its arrays")
        self.exchange, self.desk = exchange, desk
        self.rows = np.zeros(max(CHUNK, 2 * int(desk.desk[0]["rows_most"])), COMMAND)

    @property
    def step(self) -> int:
        """Return how many steps are done."""
        return int(self.desk.desk[0]["step"])

    @property
    def series(self) -> Rows:
        """Return what stood at each step done so far."""
        return self.desk.series[: self.step]

    def advance(self, steps: int) -> Iterator[tuple[Rows, Rows]]:
        """Run so many steps, or to the end of the path.

        Yields
        ------
        commands : COMMAND[:]
            Some steps' commands, in order; good until the next are asked for.
        events : EVENT[:]
            What the exchange made of them.

        Raises
        ------
        CapacityError, InvariantError
            As of `CompiledEngine.apply`.
        """
        state = self.desk.desk[0]
        state["step_end"] = min(self.step + steps, len(self.desk.path))
        while self.step < state["step_end"]:
            events = self._run()
            count = int(state["row_count"])
            state["row_count"] = state["row_next"] = 0
            yield self.rows[:count], events

    def _run(self) -> Rows:
        """Run until the steps are done or rows or events are to be taken; return the events."""
        from engine.kernels.box import find_address
        from engine.kernels.run import run_batch
        from engine.kernels.simulate import run_steps

        engine: Any = self.exchange.engine
        desk, path, ladder, sizes, series = self.desk
        state = desk[0]
        engine.reserve_events(2 * len(self.rows))
        run_batch(engine.box, engine.events, self.rows[:0])  # only what was called has an address
        batch = find_address(run_batch)
        status = -1
        try:
            while status != OK:
                status, engine.events = run_steps(
                    engine.box, engine.events, self.rows, desk, path, ladder, sizes, series, batch
                )
                if status != OK:
                    at = min(int(state["row_next"]), int(state["row_count"]) - 1)
                    engine.grow(status, int(self.rows[at]["account"]))
        except (CapacityError, InvariantError) as error:
            error.events = engine.take_events()
            raise
        events: Rows = engine.take_events()
        return events

    def copy(self, markets: Sequence[Market] | None = None) -> "Simulator":
        """Return an independent copy: the same market, which will go on alike until something else happens in it.

        Parameters
        ----------
        markets : sequence of Market, optional
            The market with other policies, as of `Exchange.copy`.

        Source: STATE-002, TWIN-004.
        """
        desk, path, ladder, sizes, series = self.desk
        return Simulator(self.exchange.copy(markets), Desk(desk.copy(), path, ladder, sizes, series.copy()))
