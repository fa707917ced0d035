"""What people type: train, deliver, status. Without a daemon; the queue is in ``test_daemon.py``."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from training_assets.__main__ import main
from training_assets.launchers import LAUNCHERS
from training_assets.stores.registry import Registry

WINDOW = "2026-01-12"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The instance that the commands find."""
    directory = tmp_path / "home"
    directory.mkdir()
    (directory / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(directory))
    with dg.DagsterInstance.from_config(str(directory)) as instance:
        yield instance


@pytest.fixture
def place(graph: Any, home: dg.DagsterInstance, trainer: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A place with a checked delivery, and a trainer that only pretends."""
    monkeypatch.setitem(LAUNCHERS, "local", lambda network_interface=None: trainer)
    for name in ("store", "inbox", "recipes"):
        monkeypatch.setenv(f"TRAINING_ASSETS_{name.upper()}", str(getattr(graph.profile, name)))
    place = type(graph)(graph.profile, home, launcher=trainer)
    assert place.run("dataset_version", "eval_shards").success
    return place


def test_train_stages_and_trains_the_newest_window_in_this_process_where_no_daemon_is(
    place: Any, trainer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "tiny"]) == 0
    said = capsys.readouterr().out
    assert "no daemon is at work on the queue: training in this process" in said
    assert "tiny, window 2026-01-12: tests@1.0.0" in said
    run = place.instance.get_runs(dg.RunsFilter(job_name="tiny_job"))[0]
    assert run.tags["training_assets/cause"] == "manual"
    assert run.tags["training_assets/because"].endswith("on the command line")

    assert main(["train", "tiny", "--set", "optim.lr=0.5", "--from", "1.0.0", "--window", "2026-01-05"]) == 0
    entry = Registry(place.places.root).find("tests@1.1.0")
    assert entry.lineage.run.config["optim"]["lr"] == 0.5
    assert entry.lineage.run.warm_started_from == "tests@1.0.0"
    assert entry.lineage.training_set.window == "2026-01-05"
    assert len(trainer.commands("train")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "found nope, expected one of tiny"),
        (["tiny", "--window", "2026-01-06"], "no such window"),
        (["tiny", "--set", "optim.lr=fast"], "optim.lr"),
        (["tiny", "--set", "window.count=3"], "one run of tiny cannot change this"),
        (["tiny", "--set", "tasks={lanes: {}}", "--set", "training.monitor=lanes/F1"], "needs 'lanes' labels"),
        (["tiny", "--from", "production"], "found 'production', expected a version or an alias of project tests"),
        (["tiny", "--profile", "nope"], "no such profile"),
        (["tiny", "--dataset", "ffff"], "ffff"),
    ],
)
def test_train_refuses_what_cannot_be_trained_before_anything_is_run(
    place: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = len(place.instance.get_runs())
    assert main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert len(place.instance.get_runs()) == before


def test_train_names_the_gate_that_stopped_it_and_does_not_wait_for_a_queue_that_nobody_works_on(
    place: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "tiny", "--detach"]) == 1
    assert "no daemon is at work on the queue: start one" in capsys.readouterr().err
    assert main(["train", "tiny", "--set", "release.targets={segmentation/mIoU: 0.9}"]) == 1
    assert "gate not passed: tiny/eval_report: targets_met" in capsys.readouterr().err


def test_train_says_that_there_is_no_data_yet(graph: Any, place: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(place.places.records)
    assert main(["train", "tiny"]) == 2
    assert "Deliver data first" in capsys.readouterr().err


def test_a_delivery_is_checked_wholly_before_it_is_put_into_the_inbox(
    place: Any, delivery: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "drop"
    shutil.copytree(delivery, mine)
    manifest = mine / "golden_val.manifest"
    good = manifest.read_text()
    manifest.write_text(good.replace("val001", "val000", 1))
    assert main(["deliver", str(mine)]) == 2
    assert "a sample_id used once" in capsys.readouterr().err
    assert not (place.inbox / "drop").exists()

    manifest.write_text(good)
    for _ in range(2):
        assert main(["deliver", str(mine), "--name", "week-3"]) == 0
    assert "it is sound: train 48, val 8, test 8" in capsys.readouterr().out
    assert (place.inbox / "week-3" / "SHA256SUMS").is_file()
    assert (place.inbox / "week-3" / "golden_val.manifest").read_text() == good

    (mine / "slices.yaml").write_text((mine / "slices.yaml").read_text().replace("min_samples: 2", "min_samples: 3"))
    assert main(["deliver", str(mine), "--name", "week-3"]) == 2
    assert "a name that is not taken" in capsys.readouterr().err


def status(capsys: pytest.CaptureFixture[str]) -> tuple[str, Any]:
    assert main(["status"]) == 0
    text = capsys.readouterr().out
    assert main(["status", "--json"]) == 0
    return text, json.loads(capsys.readouterr().out)


def test_status_of_a_place_where_nothing_was_done_yet(
    home: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("store", "inbox"):
        monkeypatch.setenv(f"TRAINING_ASSETS_{name.upper()}", str(tmp_path / name))
    text, found = status(capsys)
    assert "daemon: none is at work" in text
    assert (found["daemon"], found["runs"], found["windows"], found["deliveries"]) == (False, [], [], [])
    assert {one["name"] for one in found["switches"]} >= {"nightly", "weekly"}


def test_status_tells_of_each_window_what_it_has(place: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny"]) == 0
    assert main(["train", "tiny", "--window", "2026-01-05", "--set", "release.targets={segmentation/mIoU: 0.9}"]) == 1
    capsys.readouterr()
    text, found = status(capsys)
    newest, oldest = found["windows"]
    assert (newest["window"], newest["rows"], newest["staged"]) == (WINDOW, 21, 21)
    assert newest["recipes"]["tiny"]["version"] == "1.0.0"
    assert oldest["recipes"]["tiny"]["version"] is None
    assert f"2026-01-05  27    27      trained ({oldest['recipes']['tiny']['run_id']})" in text
    (failed,) = found["runs"]
    assert (failed["state"], failed["job"], failed["what"]) == ("failed", "tiny_job", "2026-01-05")
    assert "gate not passed: tiny/eval_report: targets_met" in failed["why"]
    assert "gate not passed" in text
    assert main(["train", "tiny", "--window", "2026-01-05"]) == 0
    capsys.readouterr()
    assert status(capsys)[1]["runs"] == [], "what was mended since is not told"


def test_status_tells_what_waits_and_for_what_the_most_urgent_first(
    place: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from training_assets.control import Plan, run_tags, training_request

    job = place.defs.resolve_job_def("tiny_job")
    plan = Plan(recipe="tiny", window=WINDOW, cause="nightly", because="shards changed")
    for tags in (training_request(plan).tags, run_tags("manual", "ann on the command line")):
        tags = {**tags, "dagster/partition": WINDOW}
        place.instance.create_run_for_job(job, tags=tags)
    text, found = status(capsys)
    assert [one["cause"] for one in found["runs"]] == ["manual", "nightly"]
    assert all("no daemon is at work" in one["why"] for one in found["runs"])
    assert "tiny_job 2026-01-12, " in text
    assert "nightly: shards changed" in text


def test_status_tells_why_a_delivery_is_not_complete(
    place: Any, delivery: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = place.inbox / "half"
    half.mkdir()
    shutil.copy(delivery / "golden_train.manifest", half)
    text, found = status(capsys)
    by_name = {one["name"]: one for one in found["deliveries"]}
    assert by_name["delivery"]["state"] == "current"
    assert by_name["half"]["state"] == "incomplete"
    assert "golden_val.manifest" in by_name["half"]["why"]
    assert "incomplete: golden_val.manifest" in text
