"""What people type: train, deliver, status. Without a daemon; the queue is in ``test_daemon.py``."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from trainer.contract.files import sha256_of
from training_assets import standing
from training_assets.__main__ import main
from training_assets.commands.status import Standing, described
from training_assets.control import Plan, run_tags, training_request
from training_assets.launchers import LAUNCHERS
from training_assets.stores.inbox import inbox_of
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
    monkeypatch.setitem(LAUNCHERS, "local", lambda profile: trainer)
    for name in ("store", "inbox", "recipes"):
        monkeypatch.setenv(f"TRAINING_ASSETS_{name.upper()}", str(getattr(graph.profile, name)))
    place = type(graph)(graph.profile, home, launcher=trainer)
    assert place.run("dataset_version", "eval_shards").success
    return place


@pytest.mark.slow
def test_train_stages_and_trains_the_newest_window_in_this_process_where_no_daemon_is(
    place: Any, trainer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = place.places.root.parent / "best.pt"
    weights.write_bytes(b"weights")
    assert main(["train", "tiny", "--set", "optim.lr=0.5", "--from", str(weights)]) == 0
    said = capsys.readouterr().out
    assert "no daemon is at work on the queue: training in this process" in said
    assert "staging 2 windows, 2026-01-05 to 2026-01-12" in said
    assert "tiny, window 2026-01-12: tests@1.0.0" in said
    run = place.instance.get_runs(dg.RunsFilter(job_name="tiny_job"))[0]
    assert run.tags["training_assets/cause"] == "manual"
    assert run.tags["training_assets/because"].endswith("on the command line")
    settings = Registry(place.places.root).find("tests@1.0.0").lineage.run
    assert settings.config["optim"]["lr"] == 0.5
    assert settings.warm_started_from == sha256_of(weights)
    assert len(trainer.commands("train")) == 1


REFUSED = [
    (["nope"], "found nope, expected one of tiny"),
    (["tiny", "--window", "2026-01-06"], "no such window"),
    (["tiny", "--set", "optim.lr=fast"], "optim.lr"),
    (["tiny", "--set", "window.count=3"], "one run of tiny cannot change this"),
    (["tiny", "--set", "tasks={lanes: {}}", "--set", "training.monitor=lanes/F1"], "needs 'lanes' labels"),
    (["tiny", "--from", "production"], "found 'production', expected a version or an alias of project tests"),
    (["tiny", "--profile", "nope"], "no such profile"),
    (["tiny", "--dataset", "ffff"], "ffff"),
]


def test_train_refuses_what_cannot_be_trained_before_anything_is_run(
    place: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(place.instance.get_runs())
    for arguments, message in REFUSED:
        assert main(["train", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert len(place.instance.get_runs()) == before
    shutil.rmtree(place.places.records)
    assert main(["train", "tiny"]) == 2
    assert "Deliver data first" in capsys.readouterr().err


@pytest.mark.slow
def test_train_names_the_gate_that_stopped_it_and_does_not_wait_for_a_queue_that_nobody_works_on(
    place: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "tiny", "--detach"]) == 1
    assert "no daemon is at work on the queue: start one" in capsys.readouterr().err
    assert main(["train", "tiny", "--set", "release.targets={segmentation/mIoU: 0.9}"]) == 1
    assert "gate not passed: tiny/eval_report: targets_met_on_every_slice" in capsys.readouterr().err


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


@pytest.mark.slow
def test_status_of_a_place_where_nothing_was_done_yet(
    home: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("store", "inbox"):
        monkeypatch.setenv(f"TRAINING_ASSETS_{name.upper()}", str(tmp_path / name))
    assert main(["status"]) == 0
    assert "daemon: none is at work" in capsys.readouterr().out
    assert main(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["daemon"], found["runs"], found["windows"], found["deliveries"]) == (False, [], [], [])
    on = {one["name"]: one["on"] for one in found["switches"]}
    assert (on["nightly"], on["follow_up"]) == (False, True)


def status(graph: Any) -> tuple[str, Standing]:
    """Without sensors and schedules, which an instance in memory does not keep."""
    dataset = standing.current_dataset(graph.places)
    found = Standing(
        daemon=False,
        runs=standing.runs(graph.instance),
        switches=[],
        deliveries=standing.deliveries(inbox_of(graph.profile.inbox), dataset),
        dataset=None,
        windows=standing.windows(dataset, ["tiny"], graph.places, Registry(graph.places.root)) if dataset else [],
        slices=[],
    )
    json.dumps(asdict(found), default=str)
    return described(found, datetime.now(UTC)), found


def train(place: Any, window: str, **config: object) -> bool:
    run_config = {"ops": {"tiny__checkpoint": {"config": config}}}
    job = place.defs.resolve_job_def("tiny_job")
    done = job.execute_in_process(
        instance=place.instance, partition_key=window, run_config=run_config, raise_on_error=False
    )
    return bool(done.success)


@pytest.mark.slow
def test_status_tells_of_each_window_what_it_has(staged: Any) -> None:
    assert train(staged, WINDOW)
    assert not train(staged, "2026-01-05", overrides=["release.targets={segmentation/mIoU: 0.9}"])
    text, found = status(staged)
    newest, oldest = found.windows
    assert (newest.window, newest.rows, newest.staged, newest.recipes["tiny"].version) == (WINDOW, 21, 21, "1.0.0")
    assert oldest.recipes["tiny"].version is None
    assert f"2026-01-05  27    27      trained ({oldest.recipes['tiny'].run_id})" in text
    (failed,) = found.runs
    assert (failed.state, failed.job, failed.what) == ("failed", "tiny_job", "2026-01-05")
    assert "gate not passed: tiny/eval_report: targets_met_on_every_slice" in failed.why
    assert failed.why.splitlines()[0] in text
    assert train(staged, "2026-01-05")
    assert status(staged)[1].runs == [], "what was mended since is not told"


def test_status_tells_what_waits_and_for_what_the_most_urgent_first(graph: Any) -> None:
    job = graph.defs.resolve_job_def("tiny_job")
    plan = Plan(recipe="tiny", window=WINDOW, cause="nightly", because="shards changed")
    for tags in (training_request(plan).tags, run_tags("manual", "ann on the command line")):
        graph.instance.create_run_for_job(job, tags={**tags, "dagster/partition": WINDOW})
    text, found = status(graph)
    assert [one.cause for one in found.runs] == ["manual", "nightly"]
    assert all("no daemon is at work" in one.why for one in found.runs)
    assert "tiny_job 2026-01-12, " in text
    assert "nightly: shards changed" in text


def test_status_tells_why_a_delivery_is_not_complete(graph: Any, delivery: Path) -> None:
    assert graph.run("dataset_version").success
    half = graph.inbox / "half"
    half.mkdir()
    shutil.copy(delivery / "golden_train.manifest", half)
    text, found = status(graph)
    by_name = {one.name: one for one in found.deliveries}
    assert by_name["delivery"].state == "current"
    assert by_name["half"].state == "incomplete"
    assert "golden_val.manifest" in by_name["half"].why
    assert "incomplete: golden_val.manifest" in text
