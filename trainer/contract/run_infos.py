"""How the runs of a cross-validation went: ``run_infos.parquet`` and ``score.json`` in its directory.

``run_infos.parquet`` has a row for each run: run_name, run_id, fold, seed, duration (seconds), checkpoint (relative
to the directory), every metric at the best checkpoint by its name, is_unstable, score and score_is_unstable (the
cross-validation's, the same in each row). ``score.json`` is the :class:`CrossValidationResult`.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat

from trainer.contract.cross_validation import CrossValidationPlan, PlannedRun, read_plan
from trainer.contract.files import atomic_open, write_text
from trainer.contract.results import FAILURE_FILE, RESULT_FILE, Failure, TrainResult
from trainer.contract.scores import cross_validation_score, is_unstable

RUN_INFOS_FILE = "run_infos.parquet"
SCORE_FILE = "score.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RunInfo(_Model):
    """One run that has ended. Without a result it has no metrics, and ``failure`` says why."""

    run_name: str
    run_id: str
    fold: int
    seed: int
    duration: FiniteFloat | None
    checkpoint: str | None
    metrics: dict[str, FiniteFloat | None]
    is_unstable: bool
    failure: Failure | None = None


class CrossValidationResult(_Model):
    """``score.json``: the score over all runs, larger is better; it is unstable where any run is."""

    format: Literal[1] = 1
    name: str
    tune: str | None
    score: FiniteFloat
    score_is_unstable: bool
    runs: tuple[RunInfo, ...]

    @property
    def failed(self) -> tuple[RunInfo, ...]:
        return tuple(run for run in self.runs if run.failure is not None)


def result_of(plan: CrossValidationPlan, runs: tuple[RunInfo, ...]) -> CrossValidationResult:
    values = [None if run.failure is not None else run.metrics for run in runs]
    return CrossValidationResult(
        name=plan.name,
        tune=plan.tune,
        score=cross_validation_score(values, plan.metrics, plan.settings.score.mean),
        score_is_unstable=any(run.is_unstable for run in runs),
        runs=runs,
    )


def summarise(directory: Path) -> CrossValidationResult | None:
    """Write both files of the cross-validation in ``directory``; None while any of its runs has not ended.

    Raises:
        ContractError: there is no cross-validation.
    """
    plan = read_plan(directory)
    found = [run_info(directory, plan, run) for run in plan.runs]
    ended = tuple(info for info in found if info is not None)
    if len(ended) < len(found):
        return None
    result = result_of(plan, ended)
    write_run_infos(directory / RUN_INFOS_FILE, result)
    write_text(directory / SCORE_FILE, result.model_dump_json(indent=2) + "\n")
    return result


def read_score(directory: Path) -> CrossValidationResult | None:
    """The result of the cross-validation in ``directory``; None where there is none yet."""
    path = directory / SCORE_FILE
    return CrossValidationResult.model_validate_json(path.read_bytes()) if path.is_file() else None


def run_info(directory: Path, plan: CrossValidationPlan, run: PlannedRun) -> RunInfo | None:
    """How ``run`` of the cross-validation in ``directory`` ended; None while it has not."""
    place = directory / plan.directory_of(run)
    if (place / RESULT_FILE).is_file():
        return _ended_well(TrainResult.model_validate_json((place / RESULT_FILE).read_bytes()), place.name, plan, run)
    if (place / FAILURE_FILE).is_file():
        failure = Failure.model_validate_json((place / FAILURE_FILE).read_bytes())
        return RunInfo(
            **run.model_dump(), duration=None, checkpoint=None, metrics={}, is_unstable=True, failure=failure
        )
    return None


def note_failure(directory: Path, plan: CrossValidationPlan, run: PlannedRun, failure: Failure) -> None:
    """``run`` has ended without a result, whoever launched it; when it is trained again its result will count."""
    path = directory / plan.directory_of(run) / FAILURE_FILE
    write_text(path, failure.model_dump_json(indent=2) + "\n")


def _ended_well(result: TrainResult, place: str, plan: CrossValidationPlan, run: PlannedRun) -> RunInfo:
    return RunInfo(
        **run.model_dump(),
        duration=result.train_seconds if result.run_seconds is None else result.run_seconds,
        checkpoint=f"{place}/{result.best_checkpoint}",
        metrics=result.best_metrics,
        is_unstable=is_unstable(result.best_metrics, plan.metrics),
    )


def write_run_infos(path: Path, result: CrossValidationResult) -> None:
    """``result`` as a table; what a run lacks is NaN."""
    import pandas as pd

    metrics = dict.fromkeys(name for run in result.runs for name in run.metrics)
    columns = {
        **{name: [getattr(run, name) for run in result.runs] for name in ("run_name", "run_id", "fold", "seed")},
        "duration": pd.Series([run.duration for run in result.runs], dtype="float64"),
        "checkpoint": [run.checkpoint for run in result.runs],
        **{name: pd.Series([run.metrics.get(name) for run in result.runs], dtype="float64") for name in metrics},
        "is_unstable": [run.is_unstable for run in result.runs],
        "score": result.score,
        "score_is_unstable": result.score_is_unstable,
    }
    with atomic_open(path) as stream:
        pd.DataFrame(columns).to_parquet(stream, index=False)
