"""The training of ``make demo`` on two nodes of every backend: it ends in the state of the demo's own.

The whole recipe on the whole synthetic delivery, through Dagster: the asset ``scenes_multitask/checkpoint``, whose
launcher alone differs. The demo's own is one node with two ranks.
"""

import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import ROOT

from training_assets.launchers import LocalLauncher

# The worlds of the launchers' tests.
sys.path.insert(0, str(ROOT))
from tests.training_assets.launchers import ecs_cases, ecs_world, eks_cases, sagemaker_cases, sagemaker_world
from tests.training_assets.launchers.demo_training import RECIPE, TWO_NODES, Demo, Trained, prepared

CASE = "the demo's training on two nodes"
Train = Callable[[Path, Demo], Trained]


def demo_trainings() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The demo's own training, and a case for each backend."""
    load = [round(x, 2) for x in os.getloadavg()]
    with tempfile.TemporaryDirectory() as folder:
        demo = prepared(Path(folder) / "prepared")
        began = time.monotonic()
        own = demo.trained(Path(folder) / "own" / "store")
        facts = {**_facts(own), "seconds": round(time.monotonic() - began, 1)}
        cases = [_case(name, train, Path(folder) / name, demo, own) for name, train in BACKENDS.items()]
    about = {"recipe": RECIPE, "window": demo.window, "train_samples": own.checkpoint.training_set.samples,
             "epochs": len(own.checkpoint.result.epochs)}  # fmt: skip
    return {**about, **facts, "load_before": load}, cases


def _case(backend: str, train: Train, place: Path, demo: Demo, own: Trained) -> dict[str, Any]:
    place.mkdir()
    began, facts, passed = time.monotonic(), {}, False
    try:
        facts = _facts(train(place, demo))
        passed = (facts["nodes"], facts["state_sha256"]) == (2, own.checkpoint.result.state_sha256)
    except Exception:
        traceback.print_exc()
    seconds = round(time.monotonic() - began, 1)
    return {"backend": backend, "case": CASE, "passed": passed, "seconds": seconds, **facts}


def _facts(trained: Trained) -> dict[str, Any]:
    result = trained.checkpoint.result
    return {
        "nodes": trained.nodes,
        "ranks": result.world_size,
        "steps": result.global_step,
        "train_seconds": round(result.train_seconds, 1),
        "state_sha256": result.state_sha256,
    }


def _local(place: Path, demo: Demo) -> Trained:
    return demo.trained(place / "store", LocalLauncher(), TWO_NODES)


def _ecs(place: Path, demo: Demo) -> Trained:
    (place / "emulated").mkdir()
    with ecs_world.emulated(place / "emulated") as parts, parts.world(place / "world") as world:
        return ecs_cases.train_demo(world, demo)


def _eks(place: Path, demo: Demo) -> Trained:
    with eks_cases.open_world(place) as world:
        return eks_cases.train_demo(world, demo)


def _sagemaker(place: Path, demo: Demo) -> Trained:
    with sagemaker_world.world(place) as world:
        return sagemaker_cases.train_demo(world, demo)


BACKENDS: dict[str, Train] = {"local": _local, "ecs": _ecs, "eks": _eks, "sagemaker": _sagemaker}
