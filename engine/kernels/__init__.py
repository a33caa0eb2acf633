"""The compiled engine: everything numba sees, downwards from `run` to the leaves."""
