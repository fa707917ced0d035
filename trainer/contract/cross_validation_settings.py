"""What is asked of a cross-validation: folds, seeds and score, as a recipe's ``cross_validation`` has them."""

import random
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from trainer.contract.scores import Mean

FIRST_SEEDS = (42, 21, 69)
NON_EMPTY = "non-empty"

FoldMethod = Literal["none", "kfold", "stratified", "shuffle", "region", "region-stratified"]
TestMethod = Literal["none", "random", "region", "sample"]
Parallel = Literal["serial", "cv-parallel"]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Count = Annotated[int, Field(ge=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HeldOut(_Model):
    """What is cut off first, for a test that no fold sees."""

    method: TestMethod = Field(
        default="none",
        description="random: a share of the samples; region: whole groups, those in values or a share; sample: those "
        "whose sample_id is in values.",
    )
    share: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.2
    values: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _values_where_they_count(self) -> "HeldOut":
        if self.method == "sample" and not self.values:
            raise ValueError("test.method sample needs the sample_ids in test.values")
        if self.method in ("none", "random") and self.values:
            raise ValueError(f"test.values has no meaning with test.method {self.method}: region or sample")
        return self


class Score(_Model):
    """How the runs' metrics become one number (``trainer/contract/scores.py``)."""

    metrics: tuple[str, ...] = Field(
        default=(), description="Metrics, with :higher or :lower behind them where needed; none: training.monitor."
    )
    mean: Mean = Field(default="harmonic", description="How several metrics of a run are combined.")


class CrossValidation(_Model):
    """How a recipe is cross-validated. By default one run on the data's own train and val, with the recipe's seed."""

    folds: Count = Field(default=1, description="Parts that the samples are cut into; 1 with method none.")
    run_folds: Count | None = Field(default=None, description="Train only the first so many folds; none: all.")
    method: FoldMethod = Field(
        default="none",
        description="none: train and val as they are; region: whole groups; shuffle: drawn anew for each fold; the "
        "stratified ones keep the stratum's mixture.",
    )
    group: str = Field(default="region", description="Attribute of the manifest rows that names the region.")
    stratum: str = Field(
        default=NON_EMPTY, description="Attribute that is stratified by; non-empty: whether a sample has any label."
    )
    keep_together: str = Field(
        default="dup_group", description="Attribute of near-duplicates, which are never split; rows may lack it."
    )
    pool: tuple[Literal["train", "val"], ...] = Field(
        default=("train",), description="Splits whose samples are pooled and cut into folds."
    )
    test: HeldOut = HeldOut()
    seeds: Annotated[int, Field(ge=1, le=900)] | tuple[Seed, ...] | None = Field(
        default=None, description="How many (42, 21, 69, then drawn), or which ones; none: the recipe's own."
    )
    score: Score = Score()
    parallel: Parallel = Field(default="serial", description="cv-parallel: a run on each of launch.devices at a time.")

    @field_validator("pool")
    @classmethod
    def _begins_with_train(cls, pool: tuple[str, ...]) -> tuple[str, ...]:
        if pool not in (("train",), ("train", "val")):
            raise ValueError(f"pool {list(pool)}: [train] or [train, val]")
        return pool

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
        if isinstance(seeds, tuple) and (not seeds or len(set(seeds)) < len(seeds)):
            raise ValueError(f"seeds {list(seeds)}: at least one, each once")
        return seeds

    @model_validator(mode="after")
    def _folds_fit_the_method(self) -> "CrossValidation":
        if (self.method == "none") != (self.folds == 1):
            raise ValueError(f"folds {self.folds} with method {self.method}: 1 with none, at least 2 with any other")
        if self.run_folds is not None and self.run_folds > self.folds:
            raise ValueError(f"run_folds {self.run_folds} of {self.folds} folds")
        return self

    def seeds_of(self, own: int) -> tuple[int, ...]:
        """The seeds to train with; ``own`` is the recipe's."""
        if self.seeds is None:
            return (own,)
        return seeds(self.seeds) if isinstance(self.seeds, int) else self.seeds


def seeds(count: int) -> tuple[int, ...]:
    """The first ``count`` seeds, always the same: 42, 21, 69, then drawn."""
    drawn = random.Random(42).sample(range(9999), max(0, count - len(FIRST_SEEDS)))  # noqa: S311 - to be the same
    return (*FIRST_SEEDS, *drawn)[:count]
