"""What is put on top of a recorded tape, a population of positions and a shock; and a market without a tape."""

from engine.scenario.population import Population, build_population, load_population
from engine.scenario.positions import read_positions
from engine.scenario.shock import Shock, load_shock
from engine.scenario.simulated import SimulatedMarket, load_simulated
from engine.scenario.warp import warp

__all__ = [
    "Population",
    "Shock",
    "SimulatedMarket",
    "build_population",
    "load_population",
    "load_shock",
    "load_simulated",
    "read_positions",
    "warp",
]
