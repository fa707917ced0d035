"""Looks at one attempt while it runs: its figures to CloudWatch, and which limit it has passed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from training_assets.observability.cloudwatch import CloudWatchMetrics, Labels
from training_assets.observability.figures import Figures, read_figures
from training_assets.observability.watchdogs import Standing, Trip
from training_assets.profiles import Profile
from training_assets.profiles.watching import Watch

LOOK_SECONDS = 15.0
"""Between two looks at the files; what it costs is asked at each poll."""


@dataclass
class Observer:
    """Called once a poll. ``batch_size`` is the global one; without ``metrics`` nothing is published."""

    attempt_dir: Path
    labels: Labels
    batch_size: int
    watch: Watch
    warn: Callable[[str], None]
    metrics: CloudWatchMetrics | None = None
    _standing: Standing = field(default_factory=Standing)
    _published: Figures | None = None
    _looked: float | None = None
    _unreadable: bool = False

    def poll(self, now: float, cost_usd: float | None = None, waiting: bool = False) -> Trip | None:
        """Look, if it is time to, and say which limit is passed; ``cost_usd`` is what all attempts have cost so far.

        What waits for its nodes is not looked at: it stands still for a reason.
        """
        if waiting:
            return None
        figures = Figures(now, cost_usd=cost_usd)
        if self._looked is None or now - self._looked >= LOOK_SECONDS:
            self._looked = now
            figures = self._look(now, cost_usd) or figures
        self._standing = self._standing.after(figures)
        return next(iter(self._standing.trips(self.watch)), None)

    def _look(self, now: float, cost_usd: float | None) -> Figures | None:
        size, before = self.batch_size, self._published
        try:
            figures = read_figures(self.attempt_dir, now, batch_size=size, cost_usd=cost_usd, before=before)
        except Exception as error:  # files that come and go, or are damaged: no reason to end a training
            if not self._unreadable:
                self.warn(f"the figures of this training cannot be read: {type(error).__name__}: {error}")
            self._unreadable = True
            return None
        self._unreadable = False
        if self.metrics is None or self.metrics.due(now, self.labels):
            self._published = figures
        if self.metrics is not None:
            self.metrics.publish(now, self.labels, figures)
        return figures


def observer_of(
    profile: Profile, attempt_dir: Path, labels: Labels, batch_size: int, warn: Callable[[str], None]
) -> Observer | None:
    """What the profile asks for; None where it asks for nothing."""
    metrics = CloudWatchMetrics(profile.cloudwatch.namespace, warn) if profile.cloudwatch else None
    if metrics is None and profile.watch == Watch():
        return None
    return Observer(attempt_dir, labels, batch_size, profile.watch, warn, metrics)
