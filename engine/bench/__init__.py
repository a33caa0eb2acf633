"""Workloads and timings behind `perp bench`."""
