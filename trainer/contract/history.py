"""``history.json``: how earlier runs of a recipe went, epoch by epoch; what the median rule compares with."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat, TypeAdapter, ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of


class EpochMetrics(BaseModel):
    """The metrics after one epoch (0 is the first); an epoch without evaluation has none."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    epoch: int
    metrics: dict[str, FiniteFloat | None]


class PastRun(BaseModel):
    """One earlier run; a ``result.json`` is one too."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    run_id: str
    epochs: tuple[EpochMetrics, ...]

    def values(self, metric: str) -> dict[int, float]:
        """``metric`` after each epoch that has it."""
        found = {one.epoch: one.metrics.get(metric) for one in self.epochs}
        return {epoch: value for epoch, value in found.items() if value is not None}


_RUNS = TypeAdapter(tuple[PastRun, ...])


def read_history(path: Path) -> tuple[PastRun, ...]:
    """
    Raises:
        ContractError: no such file, or not a list of runs.
    """
    if not path.is_file():
        raise ContractError("no history of earlier runs", [Problem(str(path), "nothing", "a JSON list of runs")])
    try:
        return _RUNS.validate_json(path.read_bytes())
    except ValidationError as error:
        raise ContractError(f"{path} is not a history of runs", problems_of(error, str(path))) from None
