"""TuSimple JSON Lines: accuracy, FP and FN as TuSimple has them, and CULane's F1.

Ground truth: a line an image with raw_file, h_samples (heights in pixels) and lanes (of each lane its x at those
heights, negative where there is none). Predictions: the same, h_samples may be left out; run_time is in milliseconds.
A sample of --attributes is an image's raw_file.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, Field, FiniteFloat

from trainer.contract.errors import ContractError, Problem
from trainer.evaluation.score.json_files import read_lines
from trainer.evaluation.score.samples import Samples
from trainer.metrics.culane import FARTHEST, LaneF1Statistics, match_lanes
from trainer.metrics.statistics import Joined
from trainer.metrics.tusimple import TusimpleStatistics, frame_score

SIZE = "1280x720"
Pixels = Annotated[FiniteFloat, Field(strict=True, ge=-FARTHEST, le=FARTHEST)]
Heights = Annotated[list[Pixels], Field(min_length=1)]


class _Frame(BaseModel):
    raw_file: Annotated[str, Field(min_length=1)]
    lanes: list[list[Pixels]]


class _Truth(_Frame):
    h_samples: Heights


class _Prediction(_Frame):
    h_samples: Heights | None = None
    run_time: Annotated[FiniteFloat, Field(strict=True, ge=0)] = 0.0


Kind = TypeVar("Kind", bound=_Frame)
Frames = Mapping[str, tuple[int, Kind]]
"""By ``raw_file``, each with its line."""


@dataclass(frozen=True)
class _Record:
    tusimple: np.ndarray
    culane: np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size",
        type=_size,
        default=SIZE,
        metavar="WxH",
        help=f"the images' width and height, in which lanes 30 pixels wide are drawn for F1 (default {SIZE})",
    )


def _size(text: str) -> tuple[int, int]:
    """Height and width."""
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"'{text}' is not a width and a height in pixels, like {SIZE}")
    return int(sides[1]), int(sides[0])


def score(arguments: argparse.Namespace) -> dict[str, Any]:
    """``images``, ``accuracy``, ``FP``, ``FN``, ``F1``, ``precision`` and ``recall``."""
    return read(arguments).metrics()


def read(arguments: argparse.Namespace) -> Samples:
    truth, predictions = _matched(arguments.ground_truth, arguments.predictions)
    records = [_record(one, predictions[name][1], arguments.size) for name, (_, one) in truth.items()]
    return Samples(
        names=[(name,) for name in truth],
        records=records,
        statistics=_statistics,
        counts={"images": len(truth), "images_without_lanes": sum(not one.lanes for _, one in truth.values())},
    )


def _statistics(records: Sequence[_Record]) -> Joined:
    tusimple = TusimpleStatistics([record.tusimple for record in records])
    return Joined(tusimple, LaneF1Statistics([record.culane for record in records]))


def _record(truth: _Truth, prediction: _Prediction, size: tuple[int, int]) -> _Record:
    heights = np.array(truth.h_samples)
    found, wanted = (np.array(lanes).reshape(-1, len(heights)) for lanes in (prediction.lanes, truth.lanes))
    tusimple = frame_score(found, wanted, heights, prediction.run_time)
    return _Record(tusimple, match_lanes(_points(found, heights), _points(wanted, heights), size))


def _points(lanes: np.ndarray, heights: np.ndarray) -> list[np.ndarray]:
    return [np.stack([x, heights], axis=1)[x >= 0] for x in lanes]


def _matched(truth_path: Path, predictions_path: Path) -> tuple[Frames[_Truth], Frames[_Prediction]]:
    """Every image of the ground truth, and the prediction of each."""
    problems: list[Problem] = []
    truth = _by_file(truth_path, read_lines(truth_path, _Truth, problems), problems)
    predictions = _by_file(predictions_path, read_lines(predictions_path, _Prediction, problems), problems)
    if not problems:
        problems += _misfits(truth_path, truth, predictions_path, predictions)
    if problems:
        raise ContractError("lanes are refused", problems)
    if not truth:
        raise ContractError("nothing to score", [Problem(str(truth_path), "no images", "a line an image")])
    return truth, predictions


def _by_file(path: Path, lines: Sequence[tuple[int, Kind]], problems: list[Problem]) -> Frames[Kind]:
    frames: dict[str, tuple[int, Kind]] = {}
    for line, frame in lines:
        if frame.raw_file in frames:
            found = f"'{frame.raw_file}', also on line {frames[frame.raw_file][0]}"
            problems.append(Problem(str(path), found, "an image given once", line, "raw_file"))
        frames.setdefault(frame.raw_file, (line, frame))
    return frames


def _misfits(
    truth_path: Path, truth: Frames[_Truth], predictions_path: Path, predictions: Frames[_Prediction]
) -> Iterator[Problem]:
    for name, (line, one) in truth.items():
        yield from _lengths(truth_path, line, one, len(one.h_samples))
        if name not in predictions:
            expected = f"a prediction of '{name}' ({truth_path}:{line})"
            yield Problem(str(predictions_path), "nothing", expected, field="raw_file")
    for name, (line, prediction) in predictions.items():
        if name not in truth:
            yield Problem(str(predictions_path), f"'{name}'", "an image of the ground truth", line, "raw_file")
            continue
        heights = truth[name][1].h_samples
        if prediction.h_samples not in (None, heights):
            yield Problem(str(predictions_path), str(prediction.h_samples), "the ground truth's", line, "h_samples")
        yield from _lengths(predictions_path, line, prediction, len(heights))


def _lengths(path: Path, line: int, frame: _Frame, heights: int) -> Iterator[Problem]:
    for number, lane in enumerate(frame.lanes):
        if len(lane) != heights:
            expected = f"{heights}, one for each height of '{frame.raw_file}'"
            yield Problem(str(path), f"{len(lane)} values", expected, line, f"lanes.{number}")
