"""Both engines side by side; see `engine.fuzz.twins`."""

from engine.fuzz.twins import Twins, differ, show_event

__all__ = ["Twins", "differ", "show_event"]
