"""FSx: what lies in S3 comes, once, whatever happens meanwhile; what failed is said in FSx's own words."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from tests.emulators.fsx import Lfs, Lustre, Refused
from tests.training_assets.stores.fast_storage.conftest import FILE_SYSTEM, FILES, Heard
from training_assets.profiles.staging import FsxStaging
from training_assets.stores.fast_storage.base import Amount, StagingError, StorageUnavailable, silent
from training_assets.stores.fast_storage.fsx import Fsx
from training_assets.stores.fast_storage.preload import preload

Content = Callable[[Path], dict[str, bytes]]
CREATE, CANCEL = "create_data_repository_task", "cancel_data_repository_task"


def throttled(times: int) -> list[Refused]:
    return [Refused("ThrottlingException", "Rate exceeded") for _ in range(times)]


def types(lustre: Lustre) -> list[str]:
    return [task.described["Type"] for task in lustre.tasks.values()]


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.01)


def test_a_prefix_comes_whole_and_nothing_beside_it(
    storage: Fsx, lustre: Lustre, delivered: str, mount: Path, heard: Heard, content: Content
) -> None:
    assert storage.brings(delivered)
    place = storage.bring(delivered, heard)
    assert place == mount / "inbox" / "d1"
    assert content(place) == FILES
    assert not (mount / "inbox" / "d10").exists()
    size = sum(map(len, FILES.values()))
    assert heard.last("loaded") == Amount("loaded", 3, 3, size, size)
    assert heard.last("metadata imported").of_files == 4  # the folder's own object is one for FSx
    (association,) = lustre.associations.values()
    assert (association["FileSystemPath"], association["DataRepositoryPath"]) == ("/inbox", delivered[: -len("/d1")])


def test_a_second_one_finds_the_association_and_brings_what_is_new(
    storage: Fsx, lustre: Lustre, delivered: str, mount: Path, s3: str, content: Content
) -> None:
    storage.bring(delivered)
    boto3.client("s3").put_object(Bucket=s3.removeprefix("s3://"), Key="inbox/d1/late", Body=b"late")
    assert content(storage.bring(delivered)) == {**FILES, "late": b"late"}
    assert lustre.calls.count("create_data_repository_association") == 1
    assert types(lustre) == ["IMPORT_METADATA_FROM_REPOSITORY"] * 2


def test_it_brings_only_what_a_link_holds(storage: Fsx, s3: str) -> None:
    assert not storage.brings("s3://elsewhere/inbox/d1")
    assert not storage.brings(f"{s3}/inbox")
    assert not storage.brings(f"{s3}/inbox2/d1")
    assert not storage.brings("dvc:3f3f")
    assert storage.brings(f"{s3}/inbox/d1/")


def test_an_empty_prefix_is_refused(storage: Fsx, s3: str) -> None:
    with pytest.raises(StagingError, match="nothing to bring"):
        storage.bring(f"{s3}/inbox/nowhere")


@pytest.mark.parametrize("key", ["../out", "a/../../out", "a//b", "./a"])
def test_a_key_that_is_no_path_inside_the_prefix_is_refused(storage: Fsx, delivered: str, s3: str, key: str) -> None:
    boto3.client("s3").put_object(Bucket=s3.removeprefix("s3://"), Key=f"inbox/d1/{key}", Body=b"x")
    with pytest.raises(StagingError, match="a path inside the prefix"):
        storage.bring(delivered)


@pytest.mark.slow
def test_a_killed_step_is_followed_by_one_that_waits_for_the_same_task(
    lustre: Lustre, storage: Fsx, delivered: str, settings: FsxStaging, content: Content
) -> None:
    lustre.file_seconds = 0.5
    code = (
        "import sys\nfrom training_assets.profiles.staging import FsxStaging\n"
        "from training_assets.stores.fast_storage.fsx import Fsx\n"
        "Fsx(FsxStaging.model_validate_json(sys.argv[1]), 0.02).bring(sys.argv[2])"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, settings.model_dump_json(), delivered])
    until(lambda: any(task.described["Lifecycle"] == "EXECUTING" for task in lustre.tasks.values()))
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert content(storage.bring(delivered)) == FILES
    assert len(lustre.tasks) == 1
    assert CANCEL not in lustre.calls


def test_two_that_ask_at_once_have_one_task(
    lustre: Lustre, storage: Fsx, delivered: str, settings: FsxStaging, content: Content
) -> None:
    lustre.file_seconds = 0.1
    other = Fsx(settings, poll_seconds=0.02)
    threads = [threading.Thread(target=one.bring, args=[delivered]) for one in (storage, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lustre.tasks) == 1
    assert len(lustre.associations) == 1


def test_an_interrupted_step_stops_its_task_and_the_next_one_begins_anew(
    lustre: Lustre, storage: Fsx, delivered: str, content: Content
) -> None:
    lustre.file_seconds = 0.5

    def interrupt(amount: Amount) -> None:
        if amount.of_files:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.bring(delivered, interrupt)
    (task,) = lustre.tasks.values()
    until(lambda: task.described["Lifecycle"] == "CANCELED")
    lustre.file_seconds = 0.0
    assert content(storage.bring(delivered)) == FILES
    assert len(lustre.tasks) == 2


def test_what_somebody_else_cancelled_may_be_tried_again(lustre: Lustre, storage: Fsx, delivered: str) -> None:
    lustre.file_seconds = 0.5

    def cancel(amount: Amount) -> None:
        if amount.of_files and CANCEL not in lustre.calls:
            (name,) = lustre.tasks
            boto3.client("fsx").cancel_data_repository_task(TaskId=name)

    with pytest.raises(StorageUnavailable, match="cancelled by somebody else"):
        storage.bring(delivered, cancel)


@pytest.mark.slow
def test_another_task_on_the_file_system_is_waited_for(
    lustre: Lustre, storage: Fsx, delivered: str, mount: Path, heard: Heard, content: Content
) -> None:
    lustre.refuse_second, lustre.pending = True, 1.0
    (mount / "store" / "runs" / "r1").mkdir(parents=True)
    (mount / "store" / "runs" / "r1" / "best.pt").write_bytes(b"weights")
    exporting = threading.Thread(target=storage.export, args=[mount / "store" / "runs" / "r1"])
    exporting.start()
    until(lambda: bool(lustre.tasks))
    assert content(storage.bring(delivered, heard)) == FILES
    exporting.join()
    assert any("waiting for another task" in amount.work for amount in heard)
    assert sorted(types(lustre)) == ["EXPORT_TO_REPOSITORY", "IMPORT_METADATA_FROM_REPOSITORY"]


@pytest.mark.slow
@pytest.mark.parametrize("operation", [CREATE, "describe_data_repository_tasks", "create_data_repository_association"])
def test_throttling_and_server_errors_are_tried_again(
    lustre: Lustre, storage: Fsx, delivered: str, content: Content, operation: str
) -> None:
    lustre.errors[operation] = [*throttled(2), Refused("InternalServerError", "oops", 500)]
    assert content(storage.bring(delivered)) == FILES
    assert len(lustre.tasks) == 1


@pytest.mark.slow
def test_tries_are_bounded_and_what_stays_busy_may_be_tried_again_later(
    lustre: Lustre, storage: Fsx, delivered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training_assets.stores.fast_storage.aws.ATTEMPTS", 3)
    monkeypatch.setattr("training_assets.stores.fast_storage.aws.client.__defaults__", (3,))
    lustre.errors[CREATE] = throttled(100)
    with pytest.raises(StorageUnavailable, match="Rate exceeded"):
        storage.bring(delivered)
    assert lustre.calls.count(CREATE) == 3


def test_a_failed_task_is_told_with_its_report(lustre: Lustre, storage: Fsx, delivered: str) -> None:
    lustre.failing = {"0002.png": "S3AccessDenied"}
    with pytest.raises(StagingError) as told:
        storage.bring(delivered)
    said = str(told.value)
    assert "FAILED: 1 files failed; 1 of 4 files failed" in said
    assert "report.csv line 1: found inbox/d1/images/deep/0002.png,failed,S3AccessDenied" in said
    assert "Let FSx read and write the bucket" in said
    lustre.failing = {}
    assert storage.bring(delivered).is_dir()


def test_a_misconfigured_association_is_told_with_what_fsx_says(lustre: Lustre, storage: Fsx, delivered: str) -> None:
    lustre.broken_link = "FSx lacks s3:PutBucketNotification on the bucket"
    with pytest.raises(StagingError, match=r"MISCONFIGURED: FSx lacks s3:PutBucketNotification.*\n.*15 minutes"):
        storage.bring(delivered)
    assert not lustre.tasks


def test_a_directory_linked_to_another_place_is_refused(lustre: Lustre, storage: Fsx, delivered: str, s3: str) -> None:
    asked = {"FileSystemPath": "/inbox", "DataRepositoryPath": f"{s3}/other", "FileSystemId": FILE_SYSTEM}
    boto3.client("fsx").create_data_repository_association(**asked)
    with pytest.raises(StagingError, match="linked to another place"):
        storage.bring(delivered)


def test_a_quota_is_called_a_quota(lustre: Lustre, storage: Fsx, delivered: str, s3: str) -> None:
    for number in range(8):
        boto3.client("fsx").create_data_repository_association(
            FileSystemId=FILE_SYSTEM, FileSystemPath=f"/other{number}", DataRepositoryPath=f"{s3}/other{number}"
        )
    with pytest.raises(StagingError, match=r"ServiceLimitExceeded.*\n.*quota"):
        storage.bring(delivered)


def test_a_file_system_that_is_not_there_and_one_that_is_not_mounted_are_told_apart(
    lustre: Lustre, settings: FsxStaging, delivered: str, mount: Path
) -> None:
    lustre.directories.clear()
    with pytest.raises(StagingError, match=r"Correct staging\.file_system_id"):
        Fsx(settings, 0.02).bring(delivered)
    lustre.directories[FILE_SYSTEM], lustre.lifecycle = mount, "MISCONFIGURED_UNAVAILABLE"
    with pytest.raises(StagingError, match=r"'Lifecycle': found MISCONFIGURED_UNAVAILABLE, expected AVAILABLE"):
        Fsx(settings, 0.02).bring(delivered)
    lustre.lifecycle = "AVAILABLE"
    with pytest.raises(StagingError, match=r"'MountName': found fsx, expected abcdbev"):
        Fsx(settings.model_copy(update={"mount_name": "abcdbev"}), 0.02).bring(delivered)
    mount.rmdir()
    with pytest.raises(StagingError, match="not mounted here"):
        Fsx(settings, 0.02).bring(delivered)


def test_a_service_out_of_reach_may_be_tried_again(
    lustre: Lustre, storage: Fsx, delivered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training_assets.stores.fast_storage.aws.client.__defaults__", (1,))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:9"):
        storage.bring(delivered)


def test_a_run_is_exported_and_its_uri_is_known(
    lustre: Lustre, storage: Fsx, mount: Path, s3: str, heard: Heard
) -> None:
    run = mount / "store" / "runs" / "r1"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "best.pt").write_bytes(b"weights")
    (run / "result.json").write_text("{}")
    assert storage.export(run, heard) == f"{s3}/runs/r1"
    found = boto3.client("s3").list_objects_v2(Bucket=s3.removeprefix("s3://"), Prefix="runs/")["Contents"]
    assert [one["Key"] for one in found] == ["runs/r1/checkpoints/best.pt", "runs/r1/result.json"]
    assert heard[-1] == Amount("exported", 2, 2)
    assert storage.export(mount / "store" / "shards") is None


def test_a_release_empties_what_the_repository_has_and_nobody_used(
    lustre: Lustre, storage: Fsx, delivered: str, mount: Path
) -> None:
    place = storage.bring(delivered)
    (place / "only here").write_bytes(b"not in the repository")
    (mount / "store" / "runs").mkdir(parents=True)
    old = time.time() - 10 * 86_400
    for name in ("images/0001.png", "only here"):
        os.utime(place / name, (old, old))
    storage.release(unused_days=7)
    released = {path.name for path in place.rglob("*") if path.is_file() and not path.stat().st_blocks}
    assert released == {"0001.png"}
    assert (place / "images" / "0001.png").stat().st_size == 900


def test_hollow_files_are_filled_by_lfs(
    lustre: Lustre, storage: Fsx, delivered: str, tmp_path: Path, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    lustre.hollow = True
    (tmp_path / "bin").mkdir()
    lfs = Lfs(lustre, tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    place = storage.bring(delivered)
    assert content(place) == FILES
    asked = set(lfs.asked.read_text().splitlines())
    assert asked == {str(place / name) for name in FILES}
    storage.bring(delivered)
    assert set(lfs.asked.read_text().splitlines()) == asked, "what is there is not fetched again"


def test_where_lfs_is_refused_files_are_read(
    lustre: Lustre, storage: Fsx, delivered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    lustre.hollow = True
    (tmp_path / "bin").mkdir()
    Lfs(lustre, tmp_path / "bin", exit_code=1)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    storage.bring(delivered, heard)
    assert heard.last("loaded").files == 3


def test_a_restore_that_brings_nothing_is_given_up(
    lustre: Lustre, storage: Fsx, delivered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lustre.hollow = True
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(Lfs, "_restore", lambda self: None)
    monkeypatch.setattr("training_assets.stores.fast_storage.preload.STALLED_SECONDS", 0.2)
    Lfs(lustre, tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(StagingError, match="a restore is stuck"):
        storage.bring(delivered)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training_assets.stores.fast_storage.preload._hollow", lambda place, names: names)
    with pytest.raises(StagingError, match=r"gone\.png: found No such file.*\n.*could not fetch it from S3"):
        preload(tmp_path, {"gone.png": 3}, silent, 0.01)
