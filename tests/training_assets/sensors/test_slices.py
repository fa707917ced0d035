"""The slice sensor: a partition and a run for each good slice, a report and an event for each bad one."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from training_assets import mined_slices
from training_assets.partitions import slices as slices_partitions
from training_assets.sensors import slices as module
from training_assets.sensors.slices import slice_sensor
from training_assets.stores.events import Outbox
from training_assets.stores.inbox import LocalInbox
from training_assets.stores.registry import Registry
from training_assets.stores.sinks import JsonLines

SENSOR = "slice_sensor"


@pytest.fixture
def daemon(instance: dg.DagsterInstance, tmp_path: Path, daemon_of: Callable) -> Any:
    @dg.job
    def slice_job() -> None: ...

    defs = dg.Definitions(sensors=[slice_sensor({}, 30)], jobs=[slice_job])
    outbox = Outbox(tmp_path / "store", [JsonLines(tmp_path / "events.jsonl")])
    return daemon_of(
        defs, instance, inbox=LocalInbox(tmp_path / "inbox"), registry=Registry(tmp_path / "store"), outbox=outbox
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox" / "slices"
    folder.mkdir(parents=True)
    return folder


def row(name: str = "fog", **changes: object) -> dict[str, object]:
    return {
        "sample_id": f"{name}-0",
        "source-ref": f"{name}.png",
        "sha256": "0" * 64,
        "captured_at": "2026-01-12T12:00:00Z",
        "boxes": [],
        "licence": "CC0-1.0",
        "origin": "mined",
        **changes,
    }


def mine(folder: Path, name: str = "fog", *rows: dict[str, object], image: bool = True) -> Path:
    """Put a slice there as mining does: the manifest last, and never over the one that is there."""
    if image:
        (folder / "fog.png").write_bytes(b"image")
    path = folder / f"{name}.manifest"
    temporary = folder / ".incoming"
    temporary.write_text("".join(json.dumps(one) + "\n" for one in rows or (row(),)))
    temporary.rename(path)
    return path


def partitions(daemon: Any) -> list[str]:
    return list(daemon.instance.get_dynamic_partitions(slices_partitions.name))


def events(tmp_path: Path) -> list[dict]:
    path = tmp_path / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def refused(folder: Path) -> dict[str, str]:
    """Each report by the name of its file."""
    found = {path.name: path.read_text() for path in (folder / "_refused").glob("*.report.txt")}
    for name in found:
        assert (folder / "_refused" / name.replace(".report.txt", ".manifest")).is_file(), "the slice lies beside it"
    return found


def test_a_new_slice_becomes_a_partition_and_a_run(daemon: Any, folder: Path) -> None:
    mine(folder)
    (request,) = daemon.tick(SENSOR).run_requests
    assert request.tags["dagster/partition"] == "fog"
    assert request.tags["training_assets/cause"] == "slice"
    assert list(request.asset_selection) == [dg.AssetKey("mined_slice")], "no recipe has a model in production"
    assert partitions(daemon) == ["fog"]
    assert daemon.tick(SENSOR).skip_message == "nothing new"


def test_a_touched_slice_starts_nothing_and_a_changed_one_a_run_of_its_own(daemon: Any, folder: Path) -> None:
    path = mine(folder)
    daemon.tick(SENSOR)
    path.touch()
    found = daemon.tick(SENSOR)
    assert (found.run_requests, found.skip_message) == ([], "fog: the same content was taken up before")
    mine(folder)
    assert daemon.tick(SENSOR).run_requests == []
    mine(folder, "fog", row(origin="mined again"))
    assert len(daemon.tick(SENSOR).run_requests) == 1
    assert partitions(daemon) == ["fog"]


TOMORROW = (datetime.now(UTC) + timedelta(days=2)).isoformat()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(sample_id="a.b")], "slices/fog.manifest:1 field 'sample_id': found 'a.b'"),
        ([row(), row()], "slices/fog.manifest:2 field 'sample_id': found 'fog-0', also on line 1"),
        ([row(**{"source-ref": "lost.png"})], "field 'source-ref': found 'lost.png', expected a file that is there"),
        ([row(**{"source-ref": "../fog.png"})], "field 'source-ref': found '../fog.png', expected a file that is"),
        ([row(**{"source-ref": "s3://other/fog.png"})], "found 's3://other/fog.png'"),
        ([row(**{"semantic-ref": "mask.png"})], "field 'semantic-ref': found 'mask.png'"),
        ([row(captured_at=TOMORROW)], "field 'captured_at': found"),
    ],
)
def test_a_bad_slice_is_put_aside_with_its_report_and_told(
    daemon: Any, folder: Path, tmp_path: Path, rows: list[dict], said: str
) -> None:
    mine(folder, "fog", *rows)
    mine(folder, "good")
    (request,) = daemon.tick(SENSOR).run_requests
    assert request.tags["dagster/partition"] == "good", "the sensor goes on with the next"
    assert partitions(daemon) == ["good"]
    ((name, report),) = refused(folder).items()
    assert name.startswith("fog-")
    assert said in report
    assert "Mend it and deliver it again" in report
    (event,) = events(tmp_path)
    assert (event["type"], event["slice"]) == ("slice.refused", "fog")
    assert event["report"] == str(folder / "_refused" / name)
    assert said in event["problems"][0]
    assert daemon.tick(SENSOR).skip_message == "nothing new"


def test_frames_from_the_future_are_refused_by_the_clock(daemon: Any, folder: Path) -> None:
    mine(folder, "fog", row(captured_at=TOMORROW))
    daemon.tick(SENSOR)
    (report,) = refused(folder).values()
    assert "(now, and a day of clock skew): see to the recorder's clock" in report


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_a_slice_without_rows_is_refused(daemon: Any, folder: Path, text: str) -> None:
    (folder / "fog.manifest").write_text(text)
    daemon.tick(SENSOR)
    assert "found no rows, expected at least one sample" in next(iter(refused(folder).values()))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("two\nlines", r"the character '\n' in 'two\nlines'"),
        ("a|b", "the character '|' in 'a|b'"),
        ("a..b", "'..' in 'a..b'"),
        ("x" * 200, "200 characters: 'xxxx"),
        ("Nacht-Dörfer", "the character 'ö'"),
        ("_hidden", "'_' at the beginning"),
    ],
)
def test_a_name_that_cannot_be_a_partition_is_refused_and_says_which_can(
    daemon: Any, folder: Path, name: str, found: str
) -> None:
    mine(folder, name)
    assert daemon.tick(SENSOR).run_requests == []
    assert partitions(daemon) == []
    (report,) = refused(folder).values()
    assert f"name of the slice: found {found}" in report
    assert "expected 1 to 100 of the characters A-Z, a-z, 0-9, '_', '-' and '.'" in report


def test_a_name_of_300_characters_is_refused_on_s3(daemon: Any, s3: str) -> None:
    """No local file can have one."""
    import boto3

    from training_assets.stores.inbox import S3Inbox

    bucket, name = s3.removeprefix("s3://"), "n" * 300
    boto3.client("s3").put_object(Bucket=bucket, Key=f"slices/{name}.manifest", Body=b"")
    daemon.resources["inbox"] = inbox = S3Inbox(bucket)
    inbox.settle = -60.0
    assert "is refused: s3://" in daemon.tick(SENSOR).skip_message
    assert "found 300 characters" in inbox._read(f"slices/_refused/{'n' * 100}-e3b0c442.report.txt").decode()


def test_a_mended_slice_is_taken_also_when_only_its_images_were_mended(daemon: Any, folder: Path) -> None:
    mine(folder, image=False)
    assert daemon.tick(SENSOR).run_requests == []
    mine(folder, image=False)
    assert daemon.tick(SENSOR).run_requests == []
    assert len(refused(folder)) == 2
    mine(folder)
    (request,) = daemon.tick(SENSOR).run_requests
    assert request.run_key.endswith("#3")
    assert partitions(daemon) == ["fog"]


class Growing(LocalInbox):
    """Somebody writes on while a manifest is being read."""

    grows = True

    def lacking(self, references: Any) -> set[str]:
        if self.grows:
            with open(self.root / "slices" / "fog.manifest", "a") as manifest:
                manifest.write('{"sample_id": "half a r')
        return super().lacking(references)


def test_a_manifest_that_grows_while_it_is_read_is_left_for_the_next_tick(
    daemon: Any, folder: Path, tmp_path: Path
) -> None:
    daemon.resources["inbox"] = inbox = Growing(tmp_path / "inbox")
    mine(folder)
    found = daemon.tick(SENSOR)
    assert found.skip_message == "fog changed while it was read: left for the next tick"
    assert refused(folder) == {}
    inbox.grows = False
    mine(folder)
    assert len(daemon.tick(SENSOR).run_requests) == 1


class Unreadable(LocalInbox):
    """One of the files may not be read."""

    def slice_manifest(self, name: str, into: Path) -> Path:
        if name == "fog":
            raise PermissionError(13, "Permission denied")
        return super().slice_manifest(name, into)


def test_what_cannot_be_read_is_refused_and_the_next_one_taken(daemon: Any, folder: Path, tmp_path: Path) -> None:
    daemon.resources["inbox"] = Unreadable(tmp_path / "inbox")
    mine(folder)
    mine(folder, "good")
    (folder / "a_directory.manifest").mkdir()
    (folder / "loop.manifest").symlink_to("loop.manifest")
    assert [request.tags["dagster/partition"] for request in daemon.tick(SENSOR).run_requests] == ["good"]
    assert "slices/fog.manifest: found Permission denied" in next(iter(refused(folder).values()))


def test_a_tick_takes_no_longer_than_it_may_and_the_next_goes_on(
    daemon: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        mine(folder, f"s{number}")
    monkeypatch.setattr(module, "TICK_SECONDS", -1.0)
    taken = [request.tags["dagster/partition"] for _ in range(5) for request in daemon.tick(SENSOR).run_requests]
    assert taken == [f"s{number}" for number in range(5)], "one a tick, none lost"
    assert daemon.tick(SENSOR).skip_message == "nothing new"
    monkeypatch.setattr(module, "TICK_SECONDS", 10.0)
    monkeypatch.setattr(module, "MOST_RUNS", 2)
    for number in range(5):
        mine(folder, f"t{number}")
    assert [len(daemon.tick(SENSOR).run_requests) for _ in range(4)] == [2, 2, 1, 0]


def test_the_cursor_is_a_mark_however_many_slices_are_known(daemon: Any, folder: Path) -> None:
    for number in range(30):
        mine(folder, f"s{number}")
    daemon.tick(SENSOR)
    assert len(daemon.cursors[SENSOR]) < 40


def test_a_tick_that_was_killed_is_made_again_and_starts_each_slice_once(daemon: Any, folder: Path) -> None:
    mine(folder, "bad", row(sample_id="a.b"))
    mine(folder, "good")
    for request in daemon.evaluate(SENSOR).run_requests:
        daemon.start(request)
    daemon.tick(SENSOR)
    assert [run.tags["dagster/partition"] for run in daemon.runs()] == ["good"]
    assert len(refused(folder)) == 1


def test_a_refusal_that_was_killed_halfway_is_told_once(
    daemon: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine(folder, "fog", row(sample_id="a.b"))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(LocalInbox, "_move", killed)
        with pytest.raises(KeyboardInterrupt):
            daemon.evaluate(SENSOR)
    daemon.tick(SENSOR)
    assert len(refused(folder)) == 1
    assert len(events(tmp_path)) == 1


def test_what_arrived_a_moment_ago_is_left_to_settle(
    daemon: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalInbox, "settle", 3600.0)
    mine(folder)
    assert "'fog' arrived at" in daemon.tick(SENSOR).skip_message
    monkeypatch.setattr(LocalInbox, "settle", -1.0)
    assert len(daemon.tick(SENSOR).run_requests) == 1


def test_run_keys_of_two_slices_with_the_same_rows_differ(folder: Path, tmp_path: Path) -> None:
    inbox = LocalInbox(tmp_path / "inbox")
    for name in ("a", "b"):
        mine(folder, name)
    keys = {mined_slices.run_key(inbox, mined_slices.take(inbox, name, tmp_path)) for name in ("a", "b")}
    assert len(keys) == 2
