"""The assets and the fast storage: where the pictures come from, what the run hears, what is tried again."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import boto3
import dagster as dg
import pytest

from tests.emulators.fsx import Lustre
from tests.training_assets.conftest import FakeDvc, FakeTrainer, Graph, failure_of
from training_assets.profiles import Profile
from training_assets.profiles.staging import FsxStaging
from training_assets.records import DatasetVersion
from training_assets.stores.fast_storage import InPlace, Progress, StorageUnavailable, silent
from training_assets.stores.fast_storage.base import Amount, StagingError
from training_assets.stores.fast_storage.fsx import Fsx
from training_assets.stores.fast_storage.pulled import PulledWithDvc


@pytest.fixture
def made(profile: Profile, instance: dg.DagsterInstance, trainer: FakeTrainer, tmp_path: Path) -> Callable[..., Graph]:
    """Makes the graph with another storage, its own pins and another profile."""
    (tmp_path / "pins").mkdir()
    dvc = FakeDvc(tmp_path / "pins")

    def make(storage: object, **changes: object) -> Graph:
        changed = profile.model_copy(update=changes)
        return Graph(changed, instance, launcher=trainer, dvc=dvc, storage=storage)

    return make


@pytest.mark.slow
def test_a_delivery_in_s3_is_checked_where_fsx_brought_it(
    made: Callable[..., Graph], delivery: Path, s3: str, lustre: Lustre, storage: Fsx, settings: FsxStaging, mount: Path
) -> None:
    client = boto3.client("s3")
    for path in (path for path in delivery.rglob("*") if path.is_file()):
        client.upload_file(str(path), s3.removeprefix("s3://"), f"inbox/d/{path.relative_to(delivery)}")
    client.put_object(Bucket=s3.removeprefix("s3://"), Key="inbox/d/_SUCCESS", Body=b"")
    graph = made(storage, inbox=f"{s3}/inbox", staging=settings)
    assert graph.run("dataset_version").success
    assert graph.record("dataset_version", DatasetVersion).delivery == str(mount / "inbox" / "d")
    assert not graph.places.fetched.exists(), "nothing was downloaded beside FSx"
    found = graph.metadata("dataset_version")
    files = [path for path in (mount / "inbox" / "d").rglob("*") if path.is_file()]
    assert found["staging/loaded/files"] == len(files)
    assert found["staging/loaded/bytes"] == sum(path.stat().st_size for path in files)
    assert found["staging/seconds"] > 0
    assert graph.run("eval_shards").success
    lustre.failing = {"slices.yaml": "S3AccessDenied"}
    failed = graph.run("dataset_version")
    assert "slices.yaml,failed,S3AccessDenied" in failure_of(failed)


class CountingDvc(FakeDvc):
    """Counts what is pulled."""

    pulled = 0

    def restore(self, version: str, out: Path) -> None:
        self.pulled += 1
        super().restore(version, out)


@pytest.mark.slow
def test_a_version_is_read_where_dvc_pulled_it_and_pulled_once_for_all_steps(
    made: Callable[..., Graph], tmp_path: Path
) -> None:
    dvc = CountingDvc(tmp_path / "pins")
    graph = made(PulledWithDvc(dvc, tmp_path / "staged"))
    assert graph.run("dataset_version").success
    shutil.rmtree(graph.delivery)
    assert graph.run("eval_shards").success
    assert graph.run("staged_shards", window="2026-01-05").success
    version = graph.record("dataset_version", DatasetVersion).version
    assert {spec.arguments[1] for spec in graph.trainer.commands("shard")} == {str(tmp_path / "staged" / version)}
    assert dvc.pulled == 1


class Scripted(InPlace):
    """Fails as it is told to."""

    def __init__(self, *ends: Exception | None) -> None:
        self.ends, self.released = list(ends), []

    def export(self, place: Path, progress: Progress = silent) -> str | None:
        progress(Amount("exported", 3, 3))
        if self.ends and (error := self.ends.pop(0)):
            raise error
        return f"s3://runs/{place.name}"

    def release(self, unused_days: int, progress: Progress = silent) -> None:
        self.released.append(unused_days)


@pytest.fixture
def trained(staged: Graph) -> Callable[[Scripted], Graph]:
    def make(storage: Scripted) -> Graph:
        return Graph(staged.profile, staged.instance, launcher=staged.trainer, storage=storage)

    return make


def test_a_run_is_exported_and_shows_where(trained: Callable[[Scripted], Graph]) -> None:
    graph = trained(Scripted())
    assert graph.run("tiny/training_set", "tiny/checkpoint", window="2026-01-12").success
    found = graph.metadata("tiny/checkpoint", "2026-01-12")
    assert str(found["exported_to"]).startswith("s3://runs/")
    assert found["staging/exported/files"] == 3


@pytest.mark.slow
def test_a_storage_that_is_busy_is_asked_again_and_one_that_fails_is_not(
    trained: Callable[[Scripted], Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training_assets.policies.UNREACHABLE_RETRY_SECONDS", 0)
    graph = trained(busy := Scripted(StorageUnavailable("Rate exceeded")))
    assert graph.run("tiny/training_set", "tiny/checkpoint", window="2026-01-12").success
    assert not busy.ends
    broken = trained(failing := Scripted(StagingError("AWS refused"), None))
    result = broken.run("tiny/training_set", "tiny/checkpoint", window="2026-01-12")
    assert failure_of(result) == "AWS refused"
    assert len(failing.ends) == 1


@pytest.mark.parametrize(("dry_run", "released"), [(True, []), (False, [30])])
def test_clearing_the_store_has_the_storage_free_what_is_unused(
    made: Callable[..., Graph], dry_run: bool, released: list[int]
) -> None:
    graph = made(storage := Scripted())
    job = graph.defs.resolve_job_def("retention_job")
    config = {"ops": {"clear_store": {"config": {"dry_run": dry_run}}}}
    assert job.execute_in_process(instance=graph.instance, run_config=config).success
    assert storage.released == released


def test_the_run_hears_how_far_it_is(made: Callable[..., Graph], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_assets.staging.LOGGED_SECONDS", 0.0)
    monkeypatch.setattr("training_assets.staging.OBSERVED_SECONDS", 0.0)

    class Telling(InPlace):
        def brings(self, source: str) -> bool:
            return not source.startswith("dvc:")

        def bring(self, source: str, progress: Progress = silent) -> Path:
            for files in (1, 2):  # as the readers do, which are threads
                thread = threading.Thread(target=progress, args=[Amount("loaded", files, 2, files * 500, 1000)])
                thread.start()
                thread.join()
            return Path(source)

    graph = made(Telling())
    result = graph.run("dataset_version")
    assert result.success
    said = [event.user_message for event in graph.instance.all_logs(result.run_id) if event.dagster_event is None]
    assert [line for line in said if line.startswith("loaded")] == [
        "loaded: 1 of 2 files, 500 of 1,000 bytes",
        "loaded: 2 of 2 files, 1,000 of 1,000 bytes",
    ]
    key = dg.AssetKey("dataset_version")
    observed = graph.instance.fetch_observations(key, limit=10).records
    assert [record.asset_observation.metadata["staging/loaded/bytes"].value for record in observed] == [1000, 500]
    assert graph.metadata("dataset_version")["staging/loaded/files"] == 2
