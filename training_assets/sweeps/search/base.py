"""What drives a sweep asks of a search. A strategy is one file beside this one and a line in ``search/__init__.py``."""

from collections.abc import Mapping
from typing import Protocol

from training_assets.sweeps.trials import Decision, Suggestion, Trials, TrialState


class Search(Protocol):
    """Proposes trials and judges them. All that it knows is in ``trials``, which it is handed and writes to.

    Made again over the same trials it goes on as if it had never been away: every call may be repeated, and a
    repeated one returns what was said before.
    """

    trials: Trials

    def suggest(self, trial_id: int) -> Suggestion | None:
        """What trial ``trial_id`` (0 is the first) is to try; None: nothing now, or the search is through."""
        ...

    def resume(self) -> int | None:
        """A paused trial whose turn it is to go on, which it thereby does.

        None may mean that a new trial's turn is first: asked again without one, a paused one goes on.
        """
        ...

    def report(self, trial_id: int, epoch: int, metrics: Mapping[str, float]) -> Decision:
        """A trial's metrics after ``epoch`` (1 is the first): may it go on?"""
        ...

    def finish(self, trial_id: int, state: TrialState) -> None:
        """A trial has ended: ``completed``, ``stopped`` (also from outside), ``failed``; or rests (``paused``)."""
        ...
