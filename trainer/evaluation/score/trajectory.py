"""Forecast paths (JSON) against true ones: ADE, FDE, minADE, minFDE and miss rate over the most probable modes.

A file holds one sample, a list of samples or an object of sample id to sample. In the ground truth a sample has gt
(steps x 2), in the predictions pred or pred_modes (modes x steps x 2) and mode_probs (modes; may be left out with a
single mode), in metres. One file with all of them may be given as both. The samples of a list go by their
sample_id, or by their place, from 0. A sample of --attributes is a sample's id.
"""

import argparse
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import AliasChoices, BaseModel, Field, FiniteFloat, ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of, shorten
from trainer.data.readers.common import positive
from trainer.evaluation.score.json_files import read_distinct
from trainer.evaluation.score.samples import Samples
from trainer.metrics.forecasting import MISS_THRESHOLD, TOP_K, ForecastStatistics, forecast_errors

SUM_TOLERANCE = 0.01
"""How far from 1 the probabilities of a sample may sum: they are often written with two digits."""
FARTHEST = 1e9
"""Metres from the origin; errors of much larger coordinates would not be finite."""
Metres = Annotated[FiniteFloat, Field(strict=True, ge=-FARTHEST, le=FARTHEST)]
Path2D = Annotated[list[tuple[Metres, Metres]], Field(min_length=1)]


class _Truth(BaseModel):
    gt: Path2D


class _Prediction(BaseModel):
    pred: Annotated[list[Path2D], Field(min_length=1, validation_alias=AliasChoices("pred", "pred_modes"))]
    mode_probs: list[Annotated[FiniteFloat, Field(strict=True, ge=0)]] | None = None

    @property
    def probabilities(self) -> list[float]:
        return [1.0] if self.mode_probs is None else self.mode_probs


Kind = TypeVar("Kind", bound=BaseModel)
OF_ONE_SAMPLE = {"gt", "pred", "pred_modes", "mode_probs"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--top-k", type=positive, nargs="+", default=TOP_K, metavar="K",
                        help="how many of the most probable modes count (default 1 5 10)")  # fmt: skip
    parser.add_argument("--miss-threshold", type=metres, default=MISS_THRESHOLD, metavar="METRES",
                        help=f"distance from which a mode has missed (default {MISS_THRESHOLD})")  # fmt: skip
    parser.add_argument("--miss-distance", choices=("max", "final"), default="max",
                        help="the largest along the path, as nuScenes, or at its end, as Argoverse")  # fmt: skip


def metres(text: str) -> float:
    """A distance above zero."""
    number = float(text)
    if not 0 < number < inf:
        raise ValueError(f"{number} is no distance")
    return number


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """``samples``, ``ADE``, ``FDE`` and for each k ``minADE<k>``, ``minFDE<k>`` and ``miss_rate<k>``."""
    return read(arguments).metrics()


def read(arguments: argparse.Namespace) -> Samples:
    truth, predictions = _matched(arguments.ground_truth, arguments.predictions)
    top_k = sorted(set(arguments.top_k))
    return Samples(
        names=[(name,) for name in truth],
        records=[[_errors(one, predictions[name])] for name, one in truth.items()],
        statistics=lambda chosen: ForecastStatistics(chosen, top_k, arguments.miss_threshold, arguments.miss_distance),
        counts={"samples": len(truth)},
    )


def _errors(truth: _Truth, prediction: _Prediction) -> np.ndarray:
    return forecast_errors(np.array(prediction.pred), np.array(truth.gt), np.array(prediction.probabilities))


def _matched(truth_path: Path, predictions_path: Path) -> tuple[Mapping[str, _Truth], Mapping[str, _Prediction]]:
    """Every sample of the ground truth, and the prediction of each."""
    problems: list[Problem] = []
    truth = _validated(truth_path, _Truth, problems)
    predictions = _validated(predictions_path, _Prediction, problems)
    if not problems:
        problems += _misfits(truth, predictions, truth_path, predictions_path)
    if problems:
        raise ContractError("trajectories are refused", problems)
    if not truth:
        raise ContractError("nothing to score", [Problem(str(truth_path), "no samples", "at least one")])
    return truth, predictions


def _validated(path: Path, kind: type[Kind], problems: list[Problem]) -> dict[str, Kind]:
    """The good samples of the file; what is wrong with the others goes into ``problems``."""
    samples: dict[str, Kind] = {}
    for name, value in _samples(path, read_distinct(path)):
        if name in samples:
            problems.append(Problem(str(path), f"'{name}' twice", "a sample given once", field=name))
        try:
            samples[name] = kind.model_validate(value)
        except ValidationError as error:
            problems += [
                Problem(str(path), one.found, one.expected, field=".".join(filter(None, (name, one.field))))
                for one in problems_of(error, str(path))
            ]
    return samples


def _samples(path: Path, value: Any) -> Iterator[tuple[str, Any]]:
    """Id and value of each sample of the file."""
    if isinstance(value, dict) and not OF_ONE_SAMPLE & set(value):
        yield from value.items()
    elif isinstance(value, list):
        for place, one in enumerate(value):
            yield str(one.get("sample_id", place) if isinstance(one, dict) else place), one
    elif isinstance(value, dict):
        yield str(value.get("sample_id", 0)), value
    else:
        expected = "a sample, a list of samples or an object of sample id to sample"
        raise ContractError("trajectories are refused", [Problem(str(path), shorten(value), expected)])


def _misfits(
    truth: Mapping[str, _Truth], predictions: Mapping[str, _Prediction], truth_path: Path, path: Path
) -> Iterator[Problem]:
    for name in truth:
        if name not in predictions:
            yield Problem(str(path), "nothing", f"a prediction of the sample in {truth_path}", field=name)
    for name, prediction in predictions.items():
        if name not in truth:
            yield Problem(str(path), f"'{name}'", f"a sample of {truth_path}", field=name)
            continue
        steps = len(truth[name].gt)
        for number, mode in enumerate(prediction.pred):
            if len(mode) != steps:
                yield Problem(str(path), f"{len(mode)} steps", f"{steps}, as gt has", field=f"{name}.pred.{number}")
        yield from _probability_problems(path, name, prediction)


def _probability_problems(path: Path, name: str, prediction: _Prediction) -> Iterator[Problem]:
    field, modes, given = f"{name}.mode_probs", len(prediction.pred), prediction.probabilities
    if len(given) != modes:
        found = "nothing" if prediction.mode_probs is None else f"{len(given)} values"
        yield Problem(str(path), found, f"{modes}, one a mode", field=field)
    elif abs(sum(given) - 1) > SUM_TOLERANCE:
        yield Problem(str(path), f"a sum of {sum(given):.4g}", f"1 (to {SUM_TOLERANCE})", field=field)
