"""Drafts of models to register, and their files; moto's S3."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.emulators.moto_s3 import S3Server, reach
from training_assets.gates import GateResult, GateRow
from training_assets.stores.entries import (
    DatasetLineage,
    Draft,
    Lineage,
    RunLineage,
    ShardRef,
    TrainingSetLineage,
)
from training_assets.stores.source import CodeVersion


def make_draft(run_id: str = "ab12cd34", project: str = "scenes", passed: bool = True) -> Draft:
    row = GateRow(metric="detection/AP50", value=0.4, limit=0.3, passed=passed, verdict="passed", margin=0.1)
    return Draft(
        project=project,
        recipe="scenes_multitask",
        lineage=Lineage(
            dataset=DatasetLineage(version="3f" * 32, dvc_hash="77.dir", manifests={"golden_train.manifest": "a" * 64}),
            training_set=TrainingSetLineage(
                digest="b" * 64,
                window="2026-02-23",
                windows=("2026-02-16", "2026-02-23"),
                shards={"train": (ShardRef(key="k1", sha256="c" * 64),)},
            ),
            code=CodeVersion(git_sha="d" * 40, dirty=False, lock_sha256="e" * 64, image_digest="sha256:" + "1" * 64),
            run=RunLineage(
                run_id=run_id, config={"optim": {"lr": 1e-3}}, config_digest="f" * 64, seeds=(42,), world_size=2
            ),
        ),
        metrics={"test": {"detection/AP50": 0.4, "detection/APl": None}},
        gates=(GateResult(name="targets_met", passed=passed, severity="block", rows=(row,)),),
    )


@pytest.fixture
def draft() -> Callable[..., Draft]:
    return make_draft


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Two files of a trained model, outside the store."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.pt").write_bytes(b"weights" * 1000)
    (run / "model.onnx").write_bytes(b"graph" * 1000)
    return {"best.pt": run / "best.pt", "model.onnx": run / "model.onnx"}


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    with S3Server().running() as server:
        yield server


@pytest.fixture
def moto(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    moto_server.calm()
    reach(moto_server.url, monkeypatch)
    yield moto_server
    moto_server.calm()
