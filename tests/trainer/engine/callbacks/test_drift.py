"""The drift gate in real trainings on images as they should be, and on darkened ones."""

import json
import shutil
from pathlib import Path

import cv2
import pytest

from trainer.contract.files import sha256_of, write_text
from trainer.contract.reference_profile import ReferenceProfile, feature_of
from trainer.contract.train_config import Drift as DriftConfig
from trainer.data.features import column, sample_features
from trainer.data.loader import open_data, read_image, read_mask
from trainer.data.staging import data_directory
from trainer.engine.callbacks.checkpoints import SaveCheckpoints
from trainer.engine.callbacks.drift import Drift
from trainer.engine.loop import Callback, GateFailed, Trainer

OFTEN = {"every": 2, "samples": 8, "min_samples": 32}


@pytest.fixture(scope="module")
def profile(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    opened = open_data(data, ("train",))
    reader = opened.readers["train"]
    rows = [
        sample_features(read_image(reader, index), read_mask(reader, index), reader.row(index), opened.slices)
        for index in range(len(reader))
    ]
    features = {name: feature_of(column(rows, name)) for name in rows[0]}
    path = tmp_path_factory.mktemp("profile") / "reference_profile.json"
    write_text(path, ReferenceProfile(samples=len(rows), features=features, distances={}).model_dump_json())
    return path


@pytest.fixture(scope="module")
def dark(delivery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same delivery, its train images at half their brightness."""
    root = tmp_path_factory.mktemp("dark") / "delivery"
    shutil.copytree(delivery, root)
    manifest = root / "golden_train.manifest"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        path = root / row["source-ref"]
        cv2.imwrite(str(path), cv2.imread(str(path)) // 2)
        row["sha256"] = sha256_of(path)
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data_directory(root, tmp_path_factory.mktemp("dark-staged"), lambda text: None)


@pytest.mark.slow
def test_the_reference_itself_does_not_drift(build, profile):
    verdict = build([Drift(DriftConfig(**OFTEN), profile)], "training.epochs=2").fit().gates[0]
    assert verdict.passed
    assert max(verdict.figures[name] for name in ("brightness", "contrast", "red", "sharpness", "semantic.car")) < 0.4
    assert verdict.figures["samples"] == 32 + 5 * 8


def test_darkened_images_end_the_run_and_are_named(build, profile, dark):
    trainer = build([Drift(DriftConfig(abort=1.0, **OFTEN), profile)], data=dark)
    with pytest.raises(GateFailed, match="brightness") as failed:
        trainer.fit()
    assert trainer.progress.global_step == 2
    assert "guards.drift.abort (1)" in str(failed.value)
    assert failed.value.verdict.figures["brightness"] > 1
    assert failed.value.verdict.figures["boxes"] == 0


def test_below_the_abort_threshold_drift_only_warns(build, profile, dark):
    config = DriftConfig(warn=0.5, abort=None, **OFTEN)
    verdict = build([Drift(config, profile)], "training.epochs=1", data=dark).fit().gates[0]
    assert (verdict.passed, verdict.severity) == (False, "warn")
    assert "brightness" in verdict.message


def test_psi_can_be_asked_instead(build, profile, dark):
    trainer = build([Drift(DriftConfig(statistic="psi", warn=0.1, abort=3.0, **OFTEN), profile)], data=dark)
    with pytest.raises(GateFailed, match=r"\(psi\).*brightness"):
        trainer.fit()


def test_without_a_profile_nothing_is_compared_and_the_verdict_says_so(build):
    verdict = build([Drift(DriftConfig(), None)], "training.epochs=1").fit().gates[0]
    assert (verdict.passed, verdict.severity) == (True, "warn")
    assert verdict.message.startswith("no reference profile")


@pytest.mark.slow
def test_a_resumed_run_has_seen_the_same_samples_and_gives_the_same_verdict(build, profile):
    def run(run_dir: str, *more: Callback) -> Drift:
        gate = Drift(DriftConfig(**OFTEN), profile)
        build([gate, SaveCheckpoints(3), *more], "training.epochs=2", run_dir=run_dir).fit()
        return gate

    whole = run("whole")
    with pytest.raises(InterruptedError):
        run("resumed", Interrupt())
    assert run("resumed").state_dict() == whole.state_dict()


class Interrupt(Callback):
    def after_step(self, trainer: Trainer) -> None:
        if trainer.progress.global_step == 8:
            trainer.checkpointer.wait()  # its thread would end with a process, and lives on in this one
            raise InterruptedError
