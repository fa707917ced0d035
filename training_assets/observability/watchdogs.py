"""Limits of a running training: which of them it has passed, from its figures over time. Pure; no clock, no files."""

from dataclasses import dataclass, replace
from typing import Literal

from training_assets.observability.figures import Figures
from training_assets.profiles.watching import Watch

IDLE_PERCENT = 10.0
"""GPUs that are less busy than this idle."""

MINUTE = 60.0


@dataclass(frozen=True)
class Trip:
    """A limit that was passed, and by how much, in words for people."""

    limit: Literal["max_cost_usd", "idle_gpu_minutes", "no_progress_minutes"]
    message: str


@dataclass(frozen=True)
class Standing:
    """What the watchdogs remember of all figures so far.

    ``idle_since`` is the first of the figures from which on the GPUs have idled without a break, ``moved_at`` when the
    step was last seen to grow, before the first step the first figures.
    """

    at: float | None = None
    idle_since: float | None = None
    idle_until: float | None = None
    step: int | None = None
    moved_at: float | None = None
    cost_usd: float | None = None

    def after(self, figures: Figures) -> "Standing":
        """The standing with ``figures``, none of which is older than those before; the unknown is passed over."""
        new = replace(self, at=figures.at, moved_at=figures.at if self.moved_at is None else self.moved_at)
        if figures.gpu_utilisation is not None:
            idle = figures.gpu_utilisation < IDLE_PERCENT
            since = figures.at if self.idle_since is None else self.idle_since
            new = replace(new, idle_since=since if idle else None, idle_until=figures.at if idle else None)
        if figures.step is not None and (self.step is None or figures.step > self.step):
            # That a step can be read for the first time is no progress: a resumed training begins at one.
            moved = new.moved_at if self.step is None else figures.at
            new = replace(new, step=figures.step, moved_at=moved)
        return new if figures.cost_usd is None else replace(new, cost_usd=figures.cost_usd)

    def trips(self, watch: Watch) -> tuple[Trip, ...]:
        """The limits that are passed now, money first."""
        found = (self._cost(watch.max_cost_usd), self._idle(watch.idle_gpu_minutes), self._stuck(watch))
        return tuple(trip for trip in found if trip is not None)

    def _cost(self, limit: float | None) -> Trip | None:
        if limit is None or self.cost_usd is None or self.cost_usd <= limit:
            return None
        return Trip("max_cost_usd", f"it has cost {self.cost_usd:.2f} US dollars, watch.max_cost_usd is {limit:.2f}")

    def _idle(self, minutes: float | None) -> Trip | None:
        if minutes is None or self.idle_since is None or self.idle_until is None:
            return None
        idled = self.idle_until - self.idle_since
        if idled < minutes * MINUTE:
            return None
        return Trip(
            "idle_gpu_minutes",
            f"its GPUs were less than {IDLE_PERCENT:.0f} % busy for {idled / MINUTE:.1f} minutes,"
            f" watch.idle_gpu_minutes is {minutes:g}",
        )

    def _stuck(self, watch: Watch) -> Trip | None:
        minutes = watch.no_progress_minutes
        if minutes is None or self.at is None or self.moved_at is None:
            return None
        still = self.at - self.moved_at
        if still < minutes * MINUTE:
            return None
        where = "before its first step" if self.step is None else f"after step {self.step}"
        return Trip(
            "no_progress_minutes",
            f"it finished no step for {still / MINUTE:.1f} minutes ({where}), watch.no_progress_minutes is {minutes:g}",
        )
