"""Mutated recordings, snapshots and settings: whatever the bytes, only our own errors come out."""
