"""DataSync: one execution copies a delivery, whoever asks for it and however often."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
from moto.core.exceptions import JsonRESTError

from tests.emulators.datasync import Transfers, install
from tests.training_assets.stores.fast_storage.conftest import FILES, Heard
from training_assets.profiles.staging import DataSyncStaging
from training_assets.stores.fast_storage.base import Amount, StagingError, StorageUnavailable
from training_assets.stores.fast_storage.datasync import DataSync

ROLE = "arn:aws:iam::123456789012:role/datasync"
FILE_SYSTEM_ARN = "arn:aws:fsx:us-east-1:123456789012:file-system/fs-0123456789abcdef0"
Content = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def transfers(s3: str, monkeypatch: pytest.MonkeyPatch) -> Transfers:
    emulated = Transfers()
    install(emulated, lambda owner, name, value: monkeypatch.setattr(owner, name, value, raising=False))
    return emulated


@pytest.fixture
def settings(s3: str, transfers: Transfers, mount: Path) -> DataSyncStaging:
    client, bucket = boto3.client("datasync"), s3.removeprefix("s3://")

    def bucket_at(folder: str) -> str:
        config = {"BucketAccessRoleArn": ROLE}
        arn = client.create_location_s3(S3BucketArn=f"arn:aws:s3:::{bucket}", Subdirectory=folder, S3Config=config)
        return str(arn["LocationArn"])

    def directory_at(folder: str) -> str:
        groups = ["arn:aws:ec2:us-east-1:123456789012:security-group/sg-0"]
        arn = client.create_location_fsx_lustre(
            FsxFilesystemArn=FILE_SYSTEM_ARN, SecurityGroupArns=groups, Subdirectory=f"/{folder}"
        )["LocationArn"]
        transfers.directories[arn] = mount / folder
        (mount / folder).mkdir(parents=True)
        return str(arn)

    def task(source: str, target: str) -> str:
        made = client.create_task(SourceLocationArn=source, DestinationLocationArn=target, Name="task")
        return str(made["TaskArn"])

    inbound = task(bucket_at("inbox"), directory_at("inbox"))
    outbound = task(directory_at("runs"), bucket_at("runs"))
    return DataSyncStaging.model_validate(
        {
            "kind": "datasync",
            "inbound": {"task_arn": inbound, "uri": f"{s3}/inbox", "directory": mount / "inbox"},
            "outbound": {"task_arn": outbound, "uri": f"{s3}/runs", "directory": mount / "runs"},
        }
    )


@pytest.fixture
def storage(settings: DataSyncStaging) -> DataSync:
    return DataSync(settings, poll_seconds=0.01)


def test_a_delivery_comes_whole_and_nothing_beside_it(
    storage: DataSync, transfers: Transfers, delivered: str, mount: Path, heard: Heard, content: Content
) -> None:
    assert storage.brings(delivered)
    place = storage.bring(delivered, heard)
    assert content(place) == FILES
    assert not (mount / "inbox" / "d10").exists()
    size = sum(map(len, FILES.values()))
    assert heard[-1] == Amount("DataSync success", 3, 3, size, size)
    assert list(transfers.includes.values()) == ["/d1/*"]


def test_an_execution_under_way_is_waited_for_and_no_second_one_is_started(
    storage: DataSync, transfers: Transfers, delivered: str, settings: DataSyncStaging, content: Content
) -> None:
    transfers.still = True
    boto3.client("datasync").start_task_execution(
        TaskArn=settings.inbound.task_arn,
        Includes=[{"FilterType": "SIMPLE_PATTERN", "Value": "/d1/*"}],
        OverrideOptions={"TaskQueueing": "DISABLED"},
    )
    threading.Timer(0.2, setattr, [transfers, "still", False]).start()
    assert content(storage.bring(delivered)) == FILES
    assert len(transfers.started) == 1


@pytest.mark.slow
def test_an_execution_for_another_delivery_is_waited_for_and_then_ours_is_started(
    storage: DataSync, transfers: Transfers, delivered: str, settings: DataSyncStaging, s3: str, heard: Heard
) -> None:
    other = threading.Thread(target=storage.bring, args=[f"{s3}/inbox/d10"])
    transfers.still = True
    other.start()
    while not transfers.started:
        time.sleep(0.01)
    threading.Timer(0.2, setattr, [transfers, "still", False]).start()
    second = DataSync(settings, poll_seconds=0.01)
    assert second.bring(delivered, heard).is_dir()
    other.join()
    assert [transfers.includes[arn] for arn in transfers.started] == ["/d10/*", "/d1/*"]
    assert any("waiting for another execution" in amount.work for amount in heard)


def test_an_interrupted_step_cancels_its_execution(storage: DataSync, transfers: Transfers, delivered: str) -> None:
    transfers.still = True

    def interrupt(amount: Amount) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.bring(delivered, interrupt)
    assert transfers.cancelled == transfers.started
    transfers.still = False
    assert storage.bring(delivered).is_dir()
    assert len(transfers.started) == 2


def test_a_failed_execution_is_told_with_its_code(storage: DataSync, transfers: Transfers, delivered: str) -> None:
    transfers.fails_with = "InsufficientSpace"
    with pytest.raises(StagingError, match=r"ERROR, InsufficientSpace: the destination is full"):
        storage.bring(delivered)
    transfers.fails_with = ""
    assert storage.bring(delivered).is_dir()


def test_a_start_whose_answer_got_lost_is_found_again(
    storage: DataSync, transfers: Transfers, delivered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = storage._client.start_task_execution

    def lost(**asked: object) -> None:
        start(**asked)
        start(**asked)  # what botocore does when no answer came: refused, for the first one runs

    monkeypatch.setattr(storage._client, "start_task_execution", lost)
    transfers.still = True
    threading.Timer(0.2, setattr, [transfers, "still", False]).start()
    assert storage.bring(delivered).is_dir()
    assert len(transfers.started) == 1


@pytest.mark.slow
def test_throttling_is_tried_again(storage: DataSync, transfers: Transfers, delivered: str) -> None:
    for operation in ("start_task_execution", "describe_task_execution"):
        transfers.errors[operation] = [JsonRESTError("ThrottlingException", "Rate exceeded") for _ in range(2)]
    assert storage.bring(delivered).is_dir()
    assert len(transfers.started) == 1


def test_another_task_that_does_not_end_is_not_waited_for_for_ever(
    storage: DataSync, transfers: Transfers, delivered: str, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training_assets.stores.fast_storage.datasync.PATIENCE", 0.1)
    transfers.still = True
    client = boto3.client("datasync")
    client.start_task_execution(
        TaskArn=storage.settings.inbound.task_arn,
        Includes=[{"FilterType": "SIMPLE_PATTERN", "Value": "/d10/*"}],
        OverrideOptions={"TaskQueueing": "DISABLED"},
    )
    with pytest.raises(StorageUnavailable, match="another execution kept ours"):
        storage.bring(delivered)


def test_a_name_with_a_meaning_in_patterns_is_refused(storage: DataSync, s3: str) -> None:
    boto3.client("s3").put_object(Bucket=s3.removeprefix("s3://"), Key="inbox/a|b/x", Body=b"x")
    with pytest.raises(StagingError, match="another name"):
        storage.bring(f"{s3}/inbox/a|b")


def test_a_run_is_exported_where_there_is_a_task_for_it(
    storage: DataSync, settings: DataSyncStaging, mount: Path, s3: str
) -> None:
    run = mount / "runs" / "r1"
    run.mkdir()
    (run / "best.pt").write_bytes(b"weights")
    assert storage.export(run) == f"{s3}/runs/r1"
    found = boto3.client("s3").list_objects_v2(Bucket=s3.removeprefix("s3://"), Prefix="runs/")["Contents"]
    assert [one["Key"] for one in found] == ["runs/r1/best.pt"]
    assert storage.export(mount / "inbox") is None
    assert DataSync(settings.model_copy(update={"outbound": None})).export(run) is None


def test_a_release_takes_away_what_it_brought_and_nobody_asked_for(
    storage: DataSync, delivered: str, mount: Path
) -> None:
    place = storage.bring(delivered)
    (mount / "inbox" / "by hand").mkdir()
    storage.release(unused_days=1)
    assert place.is_dir()
    storage.release(unused_days=0)
    assert not place.exists()
    assert (mount / "inbox" / "by hand").is_dir()
