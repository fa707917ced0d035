"""The plan of a cross-validation's runs, which everything later reads. What is asked of one is beside this.

``cross_validation.json`` in its directory is the :class:`CrossValidationPlan`, ``folds.json`` says which sample is
in which fold, ``folds/f<fold>/`` is the data directory of a fold.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from trainer.contract.cross_validation_settings import CrossValidation
from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.files import write_text
from trainer.contract.manifest import Sha256
from trainer.contract.names import RunIdentity, new_run_id, run_directory, run_name
from trainer.contract.train_config import TrainConfig

PLAN_FILE = "cross_validation.json"
FOLDS_FILE = "folds.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlannedRun(_Model):
    """One training of a cross-validation."""

    run_name: str
    run_id: str
    fold: int
    seed: int

    @property
    def key(self) -> str:
        """What names it within its cross-validation: ``f1s42``."""
        return f"f{self.fold}s{self.seed}"


class CrossValidationPlan(_Model):
    """``cross_validation.json``: the runs in the order in which they are trained, and what they are made of.

    ``metrics`` are those of the score; without ``folds_digest`` the data is trained on as it is.
    """

    format: Literal[1] = 1
    name: str
    tune: str | None
    recipe: str
    config_digest: Sha256
    data_digest: Sha256
    folds_digest: Sha256 | None
    metrics: tuple[str, ...]
    settings: CrossValidation
    runs: tuple[PlannedRun, ...]

    def directory_of(self, run: PlannedRun) -> str:
        """Where ``run`` keeps its artefacts, below the cross-validation's directory."""
        return run_directory(run.run_name, run.run_id, self.name, self.tune).name

    def identity_of(self, run: PlannedRun) -> RunIdentity:
        return RunIdentity(run.run_id, run.run_name, group=self.tune, job_type=self.name)


def plan_of(
    name: str, tune: str | None, config: TrainConfig, data_digest: str, folds_digest: str | None = None
) -> CrossValidationPlan:
    """The runs of ``config``'s cross-validation, with new ids: seed by seed, and of each seed fold by fold."""
    settings = config.cross_validation
    return CrossValidationPlan(
        name=name,
        tune=tune,
        recipe=config.name,
        config_digest=config.digest,
        data_digest=data_digest,
        folds_digest=folds_digest,
        metrics=config.scoring,
        settings=settings,
        runs=tuple(
            PlannedRun(run_name=run_name(name, fold, seed), run_id=new_run_id(), fold=fold, seed=seed)
            for seed in settings.seeds_of(config.seed)
            for fold in range(settings.run_folds or settings.folds)
        ),
    )


def write_plan(directory: Path, plan: CrossValidationPlan) -> None:
    write_text(directory / PLAN_FILE, plan.model_dump_json(indent=2) + "\n")


def read_plan(directory: Path) -> CrossValidationPlan:
    """
    Raises:
        ContractError: ``directory`` is no cross-validation's.
    """
    path = directory / PLAN_FILE
    try:
        return CrossValidationPlan.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        problem = Problem(str(path), "nothing", "the plan of a cross-validation")
        raise ContractError("there is no cross-validation", [problem]) from None
    except ValidationError as error:
        raise ContractError(f"{path} is not a plan", problems_of(error, str(path))) from None
