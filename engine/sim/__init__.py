"""A market that answers: makers and takers act on the book, liquidations move it, and they act on that (SIM-001)."""

from engine.sim.market import Simulator
from engine.sim.run import Simulated, open_simulation, run_simulation
from engine.sim.shape import measure_shape

__all__ = ["Simulated", "Simulator", "measure_shape", "open_simulation", "run_simulation"]
