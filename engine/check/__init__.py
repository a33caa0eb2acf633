"""Scenarios of others, restated with exact numbers and run against this exchange and its formulas."""

from engine.check.formula import evaluate as evaluate
from engine.check.formula import is_close as is_close
