"""What a sweep can be after, by name: a task's metrics, and what else is known of a trial.

``<task>/<metric>``, ``<task>/<metric>/<class>``    on val, after each epoch and of the judged model
``<any of these>@<slice>``                          on one slice
``regression_delta``, ``regression_delta.<slice>``  by how much the worst of the compared metrics is below production's
``latency_p95_ms``, …                               of the exported model, see ``COSTS``
"""

from trainer.contract import metrics
from training_assets.sweeps.goals import Direction

AT = "@"
REGRESSION = "regression_delta"
COSTS = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "peak_memory_mb", "model_mb", "flops", "parameters")


def better(metric: str) -> Direction:
    """Which way a metric is better, by its name."""
    name = metric.partition(AT)[0]
    falls = is_cost(name) or metrics.direction(name) < 0
    return "minimize" if falls else "maximize"


def is_cost(metric: str) -> bool:
    """Whether it is of no task, and less of it is better."""
    return metric in COSTS or metric == REGRESSION or metric.startswith(f"{REGRESSION}.")
