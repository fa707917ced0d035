import json
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from trainer.evaluation.score import trajectory

TRUTH = [[float(step), 0.0] for step in range(3)]


def moved(metres: float) -> list[list[float]]:
    return [[x, y + metres] for x, y in TRUTH]


GOOD = {"pred": [moved(1), moved(3)], "mode_probs": [0.25, 0.75]}
"""Its most probable mode is 3 m away."""


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_the_nuscenes_file_scores_as_its_devkit_says_given_as_both(score, real_data: Path) -> None:
    path = real_data / "metric_vectors" / "forecasting" / "nuscenes.json"
    vectors = json.loads(path.read_text())
    code, found, _ = score("trajectory", path, path, "--top-k", 1, 2, 3, "--miss-threshold", 10)
    assert (code, found["samples"]) == (0, 1)
    assert [found[f"minADE{k}"] for k in (1, 2, 3)] == pytest.approx(vectors["min_ade_top1_2_3"], abs=1e-4)
    assert [found[f"minFDE{k}"] for k in (1, 2, 3)] == pytest.approx(vectors["min_fde_top1_2_3"], abs=1e-4)
    assert [found[f"miss_rate{k}"] for k in (1, 2, 3)] == vectors["miss_rate_top1_2_3_at_10m"]
    assert (found["ADE"], found["FDE"]) == (found["minADE1"], found["minFDE1"])


SHAPES = {
    "a list": ([{"gt": TRUTH}, {"gt": TRUTH}], [GOOD, GOOD]),
    "a list with ids": ([{"sample_id": n, "gt": TRUTH} for n in "ab"], [{"sample_id": n, **GOOD} for n in "ba"]),
    "ids": ({"a": {"gt": TRUTH}, "b": {"gt": TRUTH}}, {"b": GOOD, "a": GOOD}),
    "ids in one, a list in the other": (
        {"a": {"gt": TRUTH}, "b": {"gt": TRUTH}}, [{"sample_id": n, **GOOD} for n in "ab"]
    ),
    "all in both": ([{"gt": TRUTH, **GOOD}] * 2, [{"gt": TRUTH, **GOOD}] * 2),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_file_says_the_same(score, tmp_path: Path, shape: str) -> None:
    files = [write(tmp_path / f"{name}.json", value) for name, value in zip(("gt", "dt"), SHAPES[shape], strict=True)]
    code, found, report = score("trajectory", *files)
    assert code == 0, report
    assert found == pytest.approx(
        {
            "samples": 2, "ADE": 3, "FDE": 3, "minADE1": 3, "minFDE1": 3, "miss_rate1": 1,
            "minADE5": 1, "minFDE5": 1, "miss_rate5": 0, "minADE10": 1, "minFDE10": 1, "miss_rate10": 0,
        }
    )  # fmt: skip


def test_probabilities_may_be_left_out_with_a_single_mode(score, tmp_path: Path) -> None:
    path = write(tmp_path / "both.json", {"gt": TRUTH, "pred": [moved(2)]})
    assert score("trajectory", path, path)[1]["ADE"] == pytest.approx(2)


def test_the_miss_distance_may_be_that_of_the_end(score, tmp_path: Path) -> None:
    strays = {"gt": TRUTH, "pred": [[[0, 0], [1, 9], [2, 0]]]}
    path = write(tmp_path / "both.json", strays)
    assert score("trajectory", path, path)[1]["miss_rate1"] == 1
    assert score("trajectory", path, path, "--miss-distance", "final")[1]["miss_rate1"] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pred": [moved(1), [[0, 0], [1, float("nan")], [2, 0]]]}, ["b.pred.1.1.1", "finite"]),
        ({"pred": [moved(1), [[0, 0], [1, float("inf")], [2, 0]]]}, ["b.pred.1.1.1", "finite"]),
        ({"pred": [moved(1), moved(3)[:2]]}, ["b.pred.1", "2 steps", "3"]),
        ({"pred": [moved(1)]}, ["b.mode_probs", "2 values", "1, one a mode"]),
        ({"mode_probs": None}, ["b.mode_probs", "nothing", "2, one a mode"]),
        ({"mode_probs": [-0.5, 1.5]}, ["b.mode_probs.0"]),
        ({"mode_probs": [0.5, 0.6]}, ["b.mode_probs", "1.1"]),
        ({"mode_probs": [float("nan"), 0.5]}, ["b.mode_probs.0"]),
        ({"pred": [[[0, 0, 0]] * 3] * 2}, ["b.pred.0.0"]),
        ({"pred": [["0"] * 3] * 2}, ["b.pred.0.0"]),
        ({"pred": []}, ["b.pred"]),
        ({"pred": None}, ["b.pred"]),
    ],
)
def test_a_bad_prediction_is_named_and_nothing_is_scored(score, tmp_path: Path, change, said) -> None:
    truth = write(tmp_path / "gt.json", {"a": {"gt": TRUTH}, "b": {"gt": TRUTH}})
    code, found, report = score("trajectory", truth, write(tmp_path / "dt.json", {"a": GOOD, "b": GOOD | change}))
    assert (code, found) == (2, {})
    assert all(part in report for part in ["dt.json", *said]), report
    assert "'a" not in report


@pytest.mark.parametrize(
    ("truth", "predictions", "said"),
    [
        ({"a": {"gt": TRUTH}, "b": {"gt": TRUTH}}, {"a": GOOD}, ["dt.json field 'b'", "a prediction"]),
        ({"a": {"gt": TRUTH}}, {"a": GOOD, "c": GOOD}, ["dt.json field 'c'", "a sample of"]),
        ([{"sample_id": "a", "gt": TRUTH}] * 2, {"a": GOOD}, ["gt.json field 'a'", "twice"]),
        ({"a": {"gt": [[0, float("nan")]]}}, {"a": GOOD}, ["gt.json field 'a.gt.0.1'", "finite"]),
        ({"a": {"gt": []}}, {"a": GOOD}, ["gt.json field 'a.gt'"]),
        ({"a": {"gt": TRUTH}}, {"a": [1]}, ["dt.json field 'a'"]),
        ({"a": {}}, {"a": GOOD}, ["gt.json field 'a.gt'", "nothing"]),
        ({}, {}, ["gt.json", "no samples"]),
        ([], [], ["gt.json", "no samples"]),
        (3, [], ["gt.json", "a list of samples"]),
    ],
)
def test_files_that_do_not_fit_together_are_refused(score, tmp_path: Path, truth, predictions, said) -> None:
    files = write(tmp_path / "gt.json", truth), write(tmp_path / "dt.json", predictions)
    code, found, report = score("trajectory", *files)
    assert (code, found) == (2, {})
    assert all(part in report for part in said), report


def test_an_id_given_twice_is_not_read_as_once(score, tmp_path: Path) -> None:
    (tmp_path / "both.json").write_text('{"a": {"gt": [[0, 0]], "pred": [[[0, 0]]]}, "a": {"gt": [[0, 0]]}}')
    code, _, report = score("trajectory", tmp_path / "both.json", tmp_path / "both.json")
    assert code == 2
    assert "['a']" in report


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["gt", "pred", "mode_probs", "sample_id", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_any_json_is_scored_or_refused(tmp_path: Path, value: Any) -> None:
    path = write(tmp_path / "any.json", value)
    files = Namespace(ground_truth=path, predictions=path, top_k=(1,), miss_threshold=2.0, miss_distance="max")
    with suppress(ContractError):
        found = trajectory.score(files)
        samples = json.loads(path.read_text())
        assert np.isfinite(found["ADE"])
        assert found["samples"] == (1 if "gt" in samples else len(samples))


@pytest.mark.parametrize("option", [("--top-k", "0"), ("--miss-threshold", "0"), ("--miss-threshold", "nan")])
def test_options_without_a_meaning_are_refused(score, tmp_path: Path, capsys, option) -> None:
    with pytest.raises(SystemExit):
        score("trajectory", tmp_path, tmp_path, *option)
    assert option[0] in capsys.readouterr().err
