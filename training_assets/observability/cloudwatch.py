"""Amazon CloudWatch gets the figures of running trainings: at most once a minute, and it may be away."""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from training_assets.aws import client
from training_assets.observability.figures import Figures

MINUTE = 60.0
MOST_A_CALL = 1000
"""Data of one PutMetricData, as CloudWatch limits it."""

UNITS = {
    "loss": ("loss", "None"),
    "samples_per_second": ("samples_per_second", "Count/Second"),
    "gpu_utilisation": ("gpu_utilisation", "Percent"),
    "cost_usd": ("cost_usd", "None"),
    "step": ("progress_steps", "Count"),
}
"""Field of the figures → metric and unit. CloudWatch has no unit for money."""


@dataclass(frozen=True)
class Labels:
    """Whose figures they are. Alarms are set on the project's; a run's own are for looking at."""

    project: str
    recipe: str
    run: str

    def dimensions(self) -> Iterator[list[dict[str, str]]]:
        yield [{"Name": "project", "Value": self.project}]
        yield [{"Name": name, "Value": getattr(self, name)} for name in ("project", "recipe", "run")]


@dataclass(frozen=True)
class SweepLabels:
    """Whose budget it is. Alarms are set on the project's."""

    project: str
    recipe: str
    sweep: str

    def dimensions(self) -> Iterator[list[dict[str, str]]]:
        yield [{"Name": "project", "Value": self.project}]
        yield [{"Name": name, "Value": getattr(self, name)} for name in ("project", "recipe", "sweep")]


@dataclass
class CloudWatchMetrics:
    """One namespace. What is told within a minute goes out together; ``warn`` hears of what CloudWatch did not take.

    Region and credentials are boto3's own business (environment, host role).
    """

    namespace: str
    warn: Callable[[str], None]
    _waiting: list[dict[str, Any]] = field(default_factory=list)
    _told: dict[Labels | SweepLabels, float] = field(default_factory=dict)
    _sent: float | None = None
    _failing: bool = False

    def due(self, now: float, labels: Labels | SweepLabels) -> bool:
        """Whether figures of ``labels`` would be taken now: once a minute."""
        told = self._told.get(labels)
        return told is None or now - told >= MINUTE

    def publish(self, now: float, labels: Labels, figures: Figures) -> None:
        """Take ``figures`` if they are due, and send what waits if a minute has passed. Never raises."""
        self._publish(now, labels, _data(labels, figures))

    def publish_budget(self, now: float, labels: SweepLabels, used: float, cost_usd: float | None) -> None:
        """As :meth:`publish`, of a sweep: ``used`` is the share of the cap that is nearest."""
        figures = {"sweep_budget_used": used, **({} if cost_usd is None else {"sweep_cost_usd": cost_usd})}
        data = [point for name, value in figures.items() for point in _points(labels, now, name, value, "None")]
        self._publish(now, labels, data)

    def _publish(self, now: float, labels: Labels | SweepLabels, data: Iterable[dict[str, Any]]) -> None:
        if self.due(now, labels):
            self._told[labels] = now
            self._waiting += data
        if self._waiting and (self._sent is None or now - self._sent >= MINUTE):
            self._sent = now
            self.flush()

    def flush(self) -> None:
        """Send what waits; what CloudWatch does not take is lost, and is told once till it takes something again."""
        waiting, self._waiting = self._waiting, []
        try:
            for begin in range(0, len(waiting), MOST_A_CALL):
                data = waiting[begin : begin + MOST_A_CALL]
                self._client.put_metric_data(Namespace=self.namespace, MetricData=data)
            self._failing = False
        except Exception as error:  # whatever it is, a training does not fail because its figures are not seen
            if not self._failing:
                self.warn(f"CloudWatch does not take the figures of this training: {type(error).__name__}: {error}")
            self._failing = True

    @functools.cached_property
    def _client(self) -> Any:
        # Asked from the loop that watches the training: it may not be held up for long.
        return client("cloudwatch", tries=2, connect_timeout=2, read_timeout=3)


def _data(labels: Labels, figures: Figures) -> Iterator[dict[str, Any]]:
    for name, (metric, unit) in UNITS.items():
        value = getattr(figures, name)
        if value is not None:
            yield from _points(labels, figures.at, metric, float(value), unit)


def _points(labels: Labels | SweepLabels, at: float, metric: str, value: float, unit: str) -> Iterator[dict[str, Any]]:
    for dimensions in labels.dimensions():
        yield {"MetricName": metric, "Dimensions": dimensions, "Timestamp": at, "Value": value, "Unit": unit}
