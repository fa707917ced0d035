"""``sweep_summary.json``: what a sweep tried, what came of it and what it cost. Page and Markdown show nothing else."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, NonNegativeInt

from trainer.contract.files import write_text
from training_assets.sweeps.goals import Constraint, Objective
from training_assets.sweeps.trials import TrialState, Verdict

SUMMARY_FILE = "sweep_summary.json"

Scores = dict[str, FiniteFloat]
NonNegative = Annotated[FiniteFloat, Field(ge=0)]
Share = Annotated[FiniteFloat, Field(ge=0, le=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Axis(_Model):
    """One searched parameter: the dotted ``name`` of the recipe's field, where it was searched, and what it is now.

    ``low`` and ``high`` are of numbers, ``choices`` of ``choice``. ``recipe`` is None where the recipe says nothing.
    """

    name: str
    scale: Literal["linear", "log", "choice"]
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    choices: tuple[JsonValue, ...] = ()
    recipe: JsonValue = None


class SweepFacts(_Model):
    """What the sweep was, and why it was started (``because``). Times are None where it has not begun, or not ended."""

    name: str
    recipe: str
    project: str
    strategy: str
    seed: NonNegativeInt = 0
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    window: str | None = None
    because: str = ""
    data_digest: str | None = None
    git_sha: str | None = None


class Baseline(_Model):
    """What the trials are compared with: production, say, or the recipe as it is."""

    name: str
    metrics: Scores


class TrialFacts(_Model):
    """What the search does not know of a trial.

    ``metrics`` are those of its evaluation; they count before those of its training. ``error`` is why it failed.
    """

    name: str
    gpu_hours: NonNegative | None = None
    cost_usd: NonNegative | None = None
    seconds: NonNegative | None = None
    metrics: Scores = {}
    error: str | None = None


class Kept(_Model):
    """A constraint of one trial; None: not known."""

    constraint: str
    value: FiniteFloat | None
    kept: bool | None


class Decided(_Model):
    """What was decided after ``epoch``. ``threshold`` and ``reached`` are larger the better."""

    epoch: NonNegativeInt
    verdict: Verdict
    rule: str
    reason: str
    rung: NonNegativeInt | None
    threshold: FiniteFloat | None
    reached: FiniteFloat | None
    peers: NonNegativeInt


class TrialRow(_Model):
    """A trial as the leaderboard has it. ``rank`` 1 is the best, None where there is nothing to rank by.

    ``objectives`` are those of its evaluation, or after its best epoch; ``differences`` are to the baseline.
    ``feasible`` is None where not all constraints are known. ``curve``: objective → epoch → value.
    """

    rank: NonNegativeInt | None
    id: NonNegativeInt
    name: str
    state: TrialState
    parent: NonNegativeInt | None
    params: dict[str, JsonValue]
    objectives: Scores
    differences: Scores
    constraints: tuple[Kept, ...]
    feasible: bool | None
    on_front: bool
    epochs: NonNegativeInt
    best_epoch: NonNegativeInt | None
    gpu_hours: NonNegative | None
    cost_usd: NonNegative | None
    seconds: NonNegative | None
    error: str | None
    curve: dict[str, dict[int, FiniteFloat]]
    decisions: tuple[Decided, ...]


class Effect(_Model):
    """How much a parameter matters, as a share of all of them, and its Shapley value in each trial where there is one.

    ``shap``: trial → how much its value of the parameter adds to the objective, in the objective's units.
    """

    parameter: str
    share: Share
    shap: dict[int, FiniteFloat] = {}


class Importance(_Model):
    """Who says so (``evaluator``), from how many ``trials``, and by which value (``basis``).

    ``fit`` is the out-of-bag R² of a forest fitted to these trials: how much they tell at all. ``note`` says why there
    are no ``effects``, or that they tell little.
    """

    evaluator: str
    metric: str
    basis: str
    trials: NonNegativeInt
    effects: tuple[Effect, ...] = ()
    fit: FiniteFloat | None = None
    note: str = ""


class Recommended(_Model):
    """Where the best ``trials`` lie: the median (or commonest) value, the middle 80 % of numbers, the share of choices.

    ``matters`` is fANOVA's share of the parameter in the first objective, None where it is not known. ``at_edge``: it
    lies at an end of what was searched, so a wider search may find better.
    """

    parameter: str
    recipe: JsonValue
    value: JsonValue
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    share: Share | None = None
    winner: JsonValue = None
    trials: NonNegativeInt
    matters: Share | None = None
    at_edge: Literal["low", "high"] | None = None


class Cap(_Model):
    """One limit of the budget: ``what`` (trials, GPU hours, hours, USD), used so far and expected in the end."""

    what: str
    used: NonNegative
    limit: NonNegative | None = None
    forecast: NonNegative | None = None


class Spent(_Model):
    """Of the cap ``BudgetFacts.unit``, all trials together, so many hours after the start."""

    hours: NonNegative
    total: NonNegative


class BudgetFacts(_Model):
    caps: tuple[Cap, ...] = ()
    unit: str = "GPU hours"
    spent: tuple[Spent, ...] = ()


class Package(_Model):
    """One of the best trials, packaged and judged again: on the held-out test, and on the simulated smoke set."""

    trial: NonNegativeInt
    path: str
    holdout: Scores = {}
    smoke: Scores = {}
    note: str = ""


class Outcome(_Model):
    """How the sweep ended. ``stability`` is what other seeds say of the ranking; the rest names what was made.

    ``notes`` are sentences on who may not win and why, and on what was not done.
    """

    ended: Literal["completed", "budget", "cancelled", "failed", "running"]
    reason: str = ""
    winner: NonNegativeInt | None = None
    stability: str = ""
    packages: tuple[Package, ...] = ()
    registered: str | None = None
    proposal: str | None = None
    data_request: str | None = None
    notes: tuple[str, ...] = ()


class SweepSummary(_Model):
    """One sweep. ``trials`` are ordered by rank; ``front`` are those that no other is better than in all objectives."""

    format: Literal[1] = 1
    sweep: SweepFacts
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    baseline: Baseline | None
    parameters: tuple[Axis, ...]
    trials: tuple[TrialRow, ...]
    front: tuple[NonNegativeInt, ...]
    importance: tuple[Importance, ...]
    defaults: tuple[Recommended, ...]
    budget: BudgetFacts
    outcome: Outcome

    def trial(self, trial_id: int) -> TrialRow:
        return next(row for row in self.trials if row.id == trial_id)


def write_summary(summary: SweepSummary, directory: Path) -> Path:
    path = directory / SUMMARY_FILE
    write_text(path, summary.model_dump_json(indent=1) + "\n")
    return path


def read_summary(directory: Path) -> SweepSummary:
    return SweepSummary.model_validate_json((directory / SUMMARY_FILE).read_bytes())
