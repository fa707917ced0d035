"""What each way to end means for the run: the one table. ``docs/launching.md`` shows it to people."""

from dataclasses import dataclass
from typing import Literal

from trainer.contract.results import FailureKind

Budget = Literal["crash", "disruption", "none"]

RETRIES: dict[Budget, int] = {"crash": 2, "disruption": 20, "none": 0}
"""How often a Dagster run tries again; a training resumes from its last checkpoint. The budgets are apart: a week on
spot instances may lose many hosts, and still a crash that repeats itself ends the run soon."""


@dataclass(frozen=True)
class Outcome:
    """``budget``: what another try is counted against, after ``wait`` seconds; ``meaning`` for people."""

    budget: Budget
    meaning: str
    wait: float = 2.0


OUTCOMES: dict[FailureKind, Outcome] = {
    "bad_input": Outcome("none", "the recipe, the data or the command is wrong"),
    "gate": Outcome("none", "a gate inside the run ended it"),
    "not_finite": Outcome("none", "a loss or gradient is not finite"),
    "out_of_memory": Outcome("none", "the device's or the host's memory is too small"),
    "shared_memory": Outcome("none", "shared memory is too small"),
    "data": Outcome("none", "a shard is damaged"),
    "port_taken": Outcome("none", "somebody else has the port that the ranks were to meet at"),
    "deadline": Outcome("none", "it hung, and did not end by itself after launch.max_run_seconds"),
    "image": Outcome("none", "the image cannot be pulled"),
    "quota": Outcome("none", "the account or namespace may not use so much"),
    "cost": Outcome("none", "the run's spend reached its cap"),
    "cancelled": Outcome("none", "somebody cancelled it; in Dagster the step ends as cancelled"),
    "stopped": Outcome("disruption", "somebody else stopped it; a checkpoint was saved"),
    "spot": Outcome("disruption", "a spot instance was taken away", wait=10.0),
    "host_lost": Outcome("disruption", "a host is gone", wait=10.0),
    "capacity": Outcome("disruption", "there were no hosts to be had; what had started was given back", wait=60.0),
    "timeout": Outcome("crash", "ranks waited in vain for each other"),
    "no_progress": Outcome("crash", "it made no step for longer than the profile allows"),
    "rank_lost": Outcome("crash", "a rank was killed"),
    "crash": Outcome("crash", "anything else"),
}
