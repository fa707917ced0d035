"""ETH/UCY, leave one scene out, one deterministic path: ADE and FDE over 12 steps (4.8 s) beside constant velocity.

For each of the five scenes ``recipes/eth_ucy.yaml`` is trained on the others' train parts, its best epoch chosen on
their val parts, and scored on the scene. Counting rule: every pedestrian that is there in all 20 frames of a window
counts once, in windows with at least ``--min-people`` of them (1 by default). Fails where the mean is not better than
constant velocity's and the published linear model's, in both. Writes ``benchmarks/results/eth_ucy.json``.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import trainings
from common import ROOT, write_result

from trainer.contract.delivery import manifest_name
from trainer.contract.manifest import Row
from trainer.metrics.forecasting import ForecastStatistics, constant_velocity, forecast_errors
from trainer.metrics.statistics import point

DATA = ROOT.parent / "shared" / "data" / "eth_ucy"
SCENES = ("eth", "hotel", "univ", "zara1", "zara2")
LINEAR = {
    "eth": (1.33, 2.94),
    "hotel": (0.39, 0.72),
    "univ": (0.82, 1.59),
    "zara1": (0.62, 1.21),
    "zara2": (0.77, 1.48),
}
"""ADE and FDE of the linear model in "Result Analysis.ipynb" of StanfordASL/Trajectron-plus-plus."""
AIM = (0.45, 0.95)


def main() -> int:
    parser = trainings.parser(__doc__, DATA, "as `trainer import eth_ucy` takes it")
    parser.add_argument("--scene", action="append", choices=SCENES, help="only this one, and no result file")
    parser.add_argument("--min-people", type=int, default=1)
    arguments = parser.parse_args()
    load = os.getloadavg()
    scenes = {scene: measure(scene, arguments) for scene in arguments.scene or SCENES}
    means = {name: fmean(one[name] for one in scenes.values()) for name in ("ade", "fde", "cv_ade", "cv_fde")}
    better = [one["ade"] < min(one["cv_ade"], LINEAR[s][0]) and one["fde"] < min(one["cv_fde"], LINEAR[s][1])
              for s, one in scenes.items()]  # fmt: skip
    report: dict[str, Any] = {
        "what": "ADE and FDE in metres of one deterministic path, 8 observed and 12 predicted steps at 2.5 Hz",
        "counting_rule": f"each pedestrian present in all 20 frames, windows with at least {arguments.min_people}",
        "mean_ade": means["ade"],
        "mean_fde": means["fde"],
        "mean_cv_ade": means["cv_ade"],
        "mean_cv_fde": means["cv_fde"],
        "aim": {"mean_ade": AIM[0], "mean_fde": AIM[1]},
        "aim_reached": means["ade"] < AIM[0] and means["fde"] < AIM[1],
        "better_than_both_in_every_scene": all(better),
        "published_linear": LINEAR,
        "per_scene": scenes,
    }
    if not arguments.scene:
        write_result("eth_ucy", trainings.rounded(report), ("torch",), load)
    walking_on = f"constant velocity {means['cv_ade']:.3f}, {means['cv_fde']:.3f}"
    print(f"mean ADE {means['ade']:.3f}, FDE {means['fde']:.3f}; {walking_on}")
    return 0 if all(better) else 1


def measure(scene: str, arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "delivery", Path(folder) / "run"
        people = ("--min-people", str(arguments.min_people))
        trainings.trainer("import", "eth_ucy", str(arguments.source), str(data), "--scene", scene, *people)
        recipe = trainings.RECIPES / "eth_ucy.yaml"
        result, seconds = trainings.train(recipe, data, run, overrides=arguments.set)
        report = trainings.evaluate(run / "best.pt", data, Path(folder) / "evaluation", ("test",))
        walking_on = constant_velocity_errors(data / manifest_name("test"))
    test = report.splits["test"]
    found = {name: test.metrics[f"trajectory/{name.upper()}"] or float("inf") for name in ("ade", "fde")}
    intervals = {f"{name}_interval": test.intervals[f"trajectory/{name.upper()}"] for name in ("ade", "fde")}
    print(f"{scene}: ADE {found['ade']:.3f}, FDE {found['fde']:.3f}; constant velocity {walking_on}", flush=True)
    return {
        **found, **intervals, "cv_ade": walking_on["ADE"], "cv_fde": walking_on["FDE"], "windows": test.samples,
        "epochs": len(result.epochs), "best_step": result.best_step, "train_seconds": seconds,
    }  # fmt: skip


def constant_velocity_errors(manifest: Path) -> dict[str, Any]:
    rows = [Row.model_validate_json(line) for line in manifest.read_text().splitlines()]
    samples = []
    for row in rows:
        paths = [np.array(track.points) for track in row.tracks or ()]
        samples.append([forecast_errors(constant_velocity(p[:8], 12)[None], p[8:], np.ones(1)) for p in paths])
    values = point(ForecastStatistics(samples, (1,)))
    return {name: values[name] for name in ("ADE", "FDE")}


if __name__ == "__main__":
    sys.exit(main())
