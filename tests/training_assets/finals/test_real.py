"""The end of a sweep with a real model: judged by the real trainer, also on scenes of rare conditions."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
import yaml

from tests.training_assets.conftest import WITH_ROWS, FakeDvc, FakeTrainer, Graph, profile_below
from tests.training_assets.finals.conftest import IOU, SPACE, WINDOW, Swept
from trainer.data.scene_painting import CLASSES
from trainer.data.scenes import make_scenes
from training_assets.launchers import Handle, Launcher, LaunchSpec, Status, launcher_for
from training_assets.launchers.base import Offset
from training_assets.profiles import Profile
from training_assets.stores.inventory import inventory, named
from training_assets.sweeps.place import place_of
from training_assets.sweeps.report import read_summary

REAL = ("train", "evaluate", "export")
RECIPE = {
    "name": "tiny",
    "project": "tests",
    "window": {"count": 2, "min_samples": 4},
    "data": {"image_size": [64, 80], "batch_size": 8, "workers": 0},
    "model": {"width": 8, "blocks": [1, 1, 1, 1], "neck_channels": 8},
    "tasks": {"segmentation": {"classes": list(CLASSES)}},
    "optim": {"lr": 0.01, "warmup_steps": 2},
    "training": {"epochs": 1, "monitor": IOU},
    "launch": {"accelerator": "cpu", "devices": 1},
    "release": {"latency_p95_ms": 10_000, "max_quantization_loss": 1.0, "parity_tolerance": 0.1},
}


class HalfReal(FakeTrainer):
    """Trains, judges and exports by the local launcher; what is staged and painted is so in this process."""

    def __init__(self, real: Launcher) -> None:
        super().__init__()
        self.real, self.poll_seconds = real, 0.2

    def launch(self, spec: LaunchSpec) -> Handle:
        if spec.what not in REAL:
            return super().launch(spec)
        self.launched.append(spec)
        return self.real.launch(spec)

    def poll(self, handle: Handle) -> Status:
        return self.real.poll(handle) if handle.spec.what in REAL else super().poll(handle)

    def logs(self, handle: Handle, offset: Offset = (), last: bool = False) -> tuple[str, Offset]:
        return self.real.logs(handle, offset, last) if handle.spec.what in REAL else ("", offset)

    def stop(self, handle: Handle) -> None:
        if handle.spec.what in REAL:
            self.real.stop(handle)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    """One trial, trained for an epoch on a few scenes, and the end of its sweep."""
    root = tmp_path_factory.mktemp("real")
    make_scenes(root / "scenes", windows=2, frames_per_window=16)
    (root / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    (root / "empty").mkdir()
    profile: Profile = profile_below(root / "below", root / "scenes", root / "tiny.yaml", root / "empty")
    (root / "pins").mkdir()
    with dg.DagsterInstance.ephemeral() as instance:
        graph = Graph(profile, instance, launcher=HalfReal(launcher_for(profile)), dvc=FakeDvc(root / "pins"))
        assert graph.run("dataset_version", "eval_shards").success
        assert graph.run("staged_shards", windows=WITH_ROWS).success
        assert graph.run("tiny/training_set", window=WINDOW).success
        swept = Swept(graph, place_of(graph.places, "t")).started({**SPACE, "budget": {"max_trials": 1}})
        swept.tried([{"optim.lr": 0.02}])
        assert swept.report().success
        yield swept


@pytest.mark.slow
def test_a_real_model_is_judged_on_test_and_on_rare_conditions_and_registered(real: Any) -> None:
    (package,) = read_summary(real.place.report).outcome.packages
    assert 0 < package.holdout[IOU] < 1
    assert 0 < package.smoke[IOU] < 1
    assert package.holdout[IOU] != package.smoke[IOU]
    (smoke,) = (real.place.root / "finals" / "t-cv0").glob("smoke-*/eval_report.json")
    for name in ("fog_night", "rain_night", "fog_dusk", "rain_dusk"):
        assert f'"{name}"' in smoke.read_text()
    assert real.registry.find("tests@1.0.0").lineage.sweep.trial == "t-cv0"


@pytest.mark.slow
def test_the_smoke_set_is_made_once_and_kept_by_retention(real: Any) -> None:
    assert real.report().success
    assert len(real.graph.trainer.commands("scenes")) == 1
    key = real.record.smoke.shards[0].key
    things = inventory(real.graph.places)
    assert f"shards/{key}" in named(real.graph.places, real.registry, things)
