"""Streams made to break things, played through both engines at once."""

from engine.fuzz.run import build_stream, fuzz, play, replay_failure, shrink

__all__ = ["build_stream", "fuzz", "play", "replay_failure", "shrink"]
