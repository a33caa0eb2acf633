"""`perp check`: scenarios with their expectations, ours and other projects', played on the real exchange."""

from engine.check.run import Result, ScenarioFile, summarise

__all__ = ["Result", "ScenarioFile", "summarise"]
