"""``reference_profile.json``: what the training reference looks like, feature by feature.

Both distances are Evidently's (``evidently.legacy.calculations.stattests``), computed here on numpy alone: Evidently
takes seconds to import, and the drift gate compares while a training runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of

if TYPE_CHECKING:
    import numpy as np

PROFILE_FILE = "reference_profile.json"
KEPT_VALUES = 2000
LEAST_STD = 0.001
EMPTY = 0.0001


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Feature(_Model):
    """One number of each sample. ``values`` are sorted: all of them, or ``KEPT_VALUES`` even quantiles."""

    mean: FiniteFloat
    std: FiniteFloat
    values: tuple[FiniteFloat, ...]


class ReferenceProfile(_Model):
    """``samples`` counts the train split's; ``distances`` has Evidently's Wasserstein distance of val and test."""

    format: int = 1
    samples: int
    features: dict[str, Feature]
    distances: dict[str, dict[str, FiniteFloat]]


def feature_of(values: Sequence[float]) -> Feature:
    """``values`` (at least one) as they are kept in a profile."""
    import numpy as np

    column = np.sort(np.asarray(values, float))
    kept = column
    if len(column) > KEPT_VALUES:
        kept = np.quantile(column, (np.arange(KEPT_VALUES) + 0.5) / KEPT_VALUES)
    rounded = tuple(float(f"{value:.7g}") for value in kept)
    return Feature(mean=float(column.mean()), std=float(column.std()), values=rounded)


def page_of(split: str) -> str:
    """The name of Evidently's page on how ``split`` differs from train, beside the profile."""
    return f"drift_{split}.html"


def read_profile(path: Path) -> ReferenceProfile:
    """
    Raises:
        ContractError: no such file, or not a profile.
    """
    if not path.is_file():
        problem = Problem(str(path), "nothing", f"a {PROFILE_FILE}: python -m trainer profile DELIVERY --out DIR")
        raise ContractError("no reference profile", [problem])
    try:
        return ReferenceProfile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ContractError(f"{path} is not a reference profile", problems_of(error, str(path))) from None


def wasserstein(reference: np.ndarray, current: np.ndarray) -> float:
    """The first Wasserstein distance of two samples in standard deviations of ``reference`` (at least 0.001)."""
    import numpy as np

    reference, current = np.sort(reference), np.sort(current)
    places = np.sort(np.concatenate([reference, current]))
    shares = [np.searchsorted(one, places[:-1], "right") / len(one) for one in (reference, current)]
    distance = float(np.sum(np.abs(shares[0] - shares[1]) * np.diff(places)))
    return distance / max(float(np.std(reference)), LEAST_STD)


def psi(reference: np.ndarray, current: np.ndarray) -> float:
    """The population stability index over Sturges' bins of both samples, or over up to 20 distinct values."""
    import numpy as np

    if len(np.unique(reference)) > 20:
        bins = np.histogram_bin_edges(np.concatenate([reference, current]), bins="sturges")
        counts = [np.histogram(one, bins)[0] for one in (reference, current)]
    else:
        values = np.union1d(reference, current)
        counts = [np.array([np.sum(one == value) for value in values]) for one in (reference, current)]
    p, q = (_filled(count / count.sum()) for count in counts)
    return float(np.sum((p - q) * np.log(p / q)))


def _filled(shares: np.ndarray) -> np.ndarray:
    """Empty bins get a small share, as Evidently's do."""
    import numpy as np

    least = float(shares[shares > 0].min())
    return np.where(shares == 0, least / 10**6 if least <= EMPTY else EMPTY, shares)


DISTANCES: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {"wasserstein": wasserstein, "psi": psi}
