"""Policies of a run, each in a file of its own; the loop calls them at fixed points."""

from trainer.engine.callbacks.base import Callback, Stop

__all__ = ["Callback", "Stop"]
