"""The gates in the graph, and what the registry keeps: nothing is registered behind a red gate, by no road."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import pytest

from tests.emulators.moto_s3 import S3Server
from training_assets.check_names import CHECKS
from training_assets.lineage import describe, frames
from training_assets.profiles import Events
from training_assets.records import Evaluation, Registered
from training_assets.stores.inventory import inventory, named
from training_assets.stores.registry import Registry

WINDOWS = ("2026-01-05", "2026-01-12")
JUDGED = ("tiny/training_set", "tiny/checkpoint", "tiny/exported_model", "tiny/eval_report")
CHAIN = (*JUDGED, "tiny/model_card", "tiny/registry_entry")


def events(profile: Any) -> list[dict[str, Any]]:
    path = profile.store / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def files_of(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def registry_of(profile: Any) -> dict[Path, bytes]:
    """Every file of the registry and of its models."""
    return {path: path.read_bytes() for place in ("registry", "models") for path in files_of(profile.store / place)}


def set_target(profile: Any, value: float) -> None:
    with open(profile.recipes / "tiny.yaml", "a") as recipe:
        recipe.write(f"release: {{targets: {{segmentation/mIoU: {value}}}}}\n")


def checks_of(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {one.check_name: one.passed for one in result.get_asset_check_evaluations()}


@dataclass(frozen=True)
class Release:
    """A chain that was run once; its profile names an event bus that is out of reach."""

    graph: Any
    result: dg.ExecuteInProcessResult

    @property
    def registry(self) -> Registry:
        return self.graph.defs.resources["registry"]


@pytest.fixture(scope="module")
def green(make_graph: Any) -> Iterator[Release]:
    with dg.DagsterInstance.ephemeral() as instance, pytest.MonkeyPatch.context() as patch:
        environment = {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in {**environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}.items():
            patch.setenv(name, value)
        graph = make_graph(instance, events=Events(event_bus="models"))
        assert graph.run("dataset_version", "eval_shards").success
        assert graph.run("staged_shards", windows=WINDOWS).success
        yield Release(graph, graph.run(*CHAIN, window=WINDOWS[1]))


def test_a_green_chain_is_registered_with_its_lineage_down_to_the_frames(green: Release) -> None:
    graph, registry = green.graph, green.registry
    assert green.result.success
    not_of_a_training = set(CHECKS) - {"slice_targets_met"}
    assert checks_of(green.result) == {CHECKS[gate]: True for gate in not_of_a_training}
    record = graph.record("tiny/registry_entry", Registered, WINDOWS[1])
    entry = registry.find(f"tests@{record.version}")
    assert entry.version == "1.0.0"
    assert not registry.verify(entry)
    manifests = [graph.delivery / f"golden_{split}.manifest" for split in ("train", "val", "test")]
    delivered = {json.loads(line)["sha256"] for path in manifests for line in path.read_text().splitlines()}
    assert {frame.sha256 for frame in frames(entry, graph.profile.store)} == delivered
    assert entry.lineage.run.dagster_run_id == green.result.run_id


def test_the_first_version_is_a_candidate_and_not_in_production(green: Release) -> None:
    assert {alias.rpartition("/")[0] for alias in green.registry.aliases("tests")} == {
        "candidate/detection", "candidate/segmentation",
    }  # fmt: skip


EXPORTED = (
    "exports.json", "model.onnx", "model.pt2", "model.torchscript.pt", "model.int8.onnx", "tensorrt_command.txt"
)  # fmt: skip
DRAWN = ("precision_recall_detection_{}.svg", "confusion_detection_{}.svg", "samples_segmentation_{}.jpg")


def test_a_release_holds_all_that_the_model_was_made_and_judged_by(green: Release) -> None:
    released = green.graph.profile.store / "models" / "tests" / "1.0.0"
    (log,) = (f"logs/{spec.attempt}.log" for spec in green.graph.defs.resources["launcher"].commands("train"))
    assert {path.relative_to(released).as_posix() for path in files_of(released)} == {
        "best.pt", "train.yaml", "result.json", "eval_report.json", "charts.json", "dashboard.html", "slices.yaml",
        "model_card.md", log, *EXPORTED, *(name.format(split) for name in DRAWN for split in ("val", "test")),
    }  # fmt: skip
    assert (released / log).read_text() == "pretending to train\n"


def test_dagster_shows_intervals_and_pictures_and_the_way_to_the_page(green: Release) -> None:
    shown = green.graph.metadata("tiny/eval_report", WINDOWS[1])
    assert "0.7 (0.65…0.75)" in shown["test/slices"]
    assert "data:image/svg+xml;base64," in shown["precision_recall_detection_test"]
    assert "data:image/jpeg;base64," in shown["samples_segmentation_test"]
    for page in (shown["dashboard"], green.graph.metadata("tiny/registry_entry", WINDOWS[1])["dashboard"]):
        assert "tiny, run" in Path(page).read_text()


def test_where_no_price_is_known_that_is_said_and_no_cost_is_plotted(green: Release) -> None:
    shown = green.graph.metadata("tiny/checkpoint", WINDOWS[1])
    assert "no price" in str(shown["cost"])
    assert "cost_usd" not in shown


def test_a_registration_is_told_and_a_bus_out_of_reach_does_not_hold_it_up(green: Release) -> None:
    (event,) = events(green.graph.profile)
    assert (event["type"], event["version"], event["window"]) == ("model.registered", "1.0.0", WINDOWS[1])
    assert event["aliases"] == sorted(green.registry.aliases("tests"))
    assert event["metrics"]["test"]["segmentation/mIoU"] == 0.7
    (waiting,) = green.graph.defs.resources["outbox"].waiting("eventbridge")
    assert waiting.id == event["id"]


@pytest.mark.slow
def test_a_missed_target_blocks_registration_and_is_named(staged: Any) -> None:
    profile = staged.profile
    set_target(profile, 0.9)
    graph = staged.edited()
    result = graph.run(*CHAIN, window=WINDOWS[1])
    assert not result.success
    assert checks_of(result)[CHECKS["targets_met"]] is False
    assert not graph.run("tiny/eval_report", window=WINDOWS[1]).success
    (event,) = events(profile)  # asked twice, told once
    assert (event["type"], event["gate"], event["window"]) == ("gate.failed", "targets_met", WINDOWS[1])
    assert event["rows"][0]["limit"] == 0.9
    assert Registry(profile.store).versions("tests") == []
    assert "tiny__registry_entry" not in {event.step_key for event in result.all_events if event.is_step_start}


@pytest.mark.slow
def test_registration_asks_the_gates_itself_when_it_is_run_alone(staged: Any, failure: Any) -> None:
    assert staged.run(*CHAIN[:-1], window=WINDOWS[1]).success
    set_target(staged.profile, 0.9)
    result = staged.edited().run("tiny/registry_entry", window=WINDOWS[1])
    assert "gate targets_met" in failure(result)
    assert Registry(staged.profile.store).versions("tests") == []


@pytest.mark.slow
def test_registration_reads_the_report_on_disk_not_the_record(staged: Any, failure: Any) -> None:
    assert staged.run(*CHAIN[:-1], window=WINDOWS[1]).success
    record = staged.record("tiny/eval_report", Evaluation, WINDOWS[1])
    path = staged.places.absolute(record.directory) / "eval_report.json"
    report = json.loads(path.read_text())
    report["splits"]["test"]["metrics"]["segmentation/mIoU"] = 0.0
    path.write_text(json.dumps(report))
    set_target(staged.profile, 0.1)
    assert "segmentation/mIoU on all: 0.0" in failure(staged.edited().run("tiny/registry_entry", window=WINDOWS[1]))


@pytest.mark.slow
@pytest.mark.parametrize(("what", "gate"), [("error", "exports_match_eager"), ("p95", "latency_within_budget")])
def test_a_bad_export_blocks_registration(staged: Any, what: str, gate: str) -> None:
    setattr(staged.trainer, what, 1e6)
    result = staged.run(*CHAIN, window=WINDOWS[1])
    assert not result.success
    assert checks_of(result)[CHECKS[gate]] is False
    assert Registry(staged.profile.store).versions("tests") == []


@pytest.mark.slow
def test_one_slice_made_worse_stops_the_release_says_where_and_by_how_much_and_changes_nothing(staged: Any) -> None:
    profile = staged.profile
    assert staged.run(*CHAIN, window=WINDOWS[1]).success
    Registry(profile.store).promote("tests", "1.0.0", by="test")
    before = registry_of(profile)
    staged.trainer.night = {"segmentation/mIoU": 0.45}
    result = staged.run(*CHAIN, window=WINDOWS[1])
    assert not result.success
    assert [name for name, passed in checks_of(result).items() if not passed] == [CHECKS["no_regression"]]
    (check,) = (one for one in result.get_asset_check_evaluations() if one.check_name == CHECKS["no_regression"])
    assert check.description == "night: segmentation mIoU 0.45, production 0.7: worse by 0.25 (allowed 0.02)"
    page = Path(str(check.metadata["dashboard"].value)).read_text()
    assert "not to be released" in page
    assert "no_regression failed" in page
    assert registry_of(profile) == before
    (event,) = (one for one in events(profile) if one["type"] == "gate.failed")
    (row,) = event["rows"]
    assert (event["gate"], row["slice"], round(row["margin"], 6)) == ("no_regression", "night", -0.23)


@pytest.mark.slow
def test_another_models_report_is_not_taken_for_this_ones(staged: Any, failure: Any) -> None:
    assert staged.run(*CHAIN[:-1], window=WINDOWS[1]).success
    assert staged.run("tiny/checkpoint", window=WINDOWS[1]).success
    assert "not one model" in failure(staged.run("tiny/registry_entry", window=WINDOWS[1]))


@pytest.mark.slow
def test_a_mined_slice_is_staged_judged_with_production_and_then_trained_on(staged: Any, delivery: Path) -> None:
    rows = [json.loads(line) for line in (delivery / "golden_train.manifest").read_text().splitlines()]
    slices = staged.inbox / "slices"
    (slices / "images").mkdir(parents=True)
    content = b"\x89PNG" + (delivery / rows[0]["source-ref"]).read_bytes()[4:]
    (slices / "images" / "mined.png").write_bytes(content)
    row = {key: value for key, value in rows[0].items() if not key.startswith("semantic")}
    row |= {"sample_id": "mined0", "source-ref": "images/mined.png"}
    (slices / "wet-nights.manifest").write_text(json.dumps(row) + "\n")
    staged.instance.add_dynamic_partitions("slices", ["wet-nights", "../escape"])
    assert staged.run("mined_slice", window="wet-nights").success

    assert staged.run(*CHAIN, window=WINDOWS[1]).success
    assert "mined_slices" in staged.metadata("tiny/training_set", WINDOWS[1])
    assert staged.metadata("tiny/training_set", WINDOWS[1])["mined_slices"] == "wet-nights"
    assert not staged.run("tiny/slice_eval", window="wet-nights").success  # nothing is in production
    Registry(staged.profile.store).promote("tests", "1.0.0", by="test")
    assert staged.run("tiny/slice_eval", window="wet-nights").success
    assert staged.metadata("tiny/slice_eval", "wet-nights")["production"] == "1.0.0"


def test_a_slices_name_that_leaves_the_inbox_is_refused(staged: Any, failure: Any) -> None:
    staged.instance.add_dynamic_partitions("slices", ["../delivery/golden_val", "nothing"])
    assert "found the character '/'" in failure(staged.run("mined_slice", window="../delivery/golden_val"))
    assert "a manifest that mining delivered" in failure(staged.run("mined_slice", window="nothing"))


@pytest.fixture(scope="module")
def archived(make_graph: Any) -> Iterator[Release]:
    """A chain that was run once; its models are registered in S3."""
    environment = {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_DEFAULT_REGION": "us-east-1"}
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.MonkeyPatch.context() as patch,
        S3Server().running() as server,
    ):
        for name, value in {**environment, "AWS_ENDPOINT_URL": server.url}.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="models")
        graph = make_graph(instance, archive="s3://models/archive")
        assert graph.run("dataset_version", "eval_shards").success
        assert graph.run("staged_shards", windows=WINDOWS).success
        yield Release(graph, graph.run(*CHAIN, window=WINDOWS[1]))


@pytest.mark.slow
def test_an_archive_in_s3_holds_the_registry_and_the_models_and_the_store_neither(archived: Release) -> None:
    assert archived.result.success
    store, registry = archived.graph.profile.store, archived.registry
    assert registry_of(archived.graph.profile) == {}
    entry = registry.find("tests@1.0.0")
    assert registry.verify(entry) == []
    assert archived.graph.metadata("tiny/registry_entry", WINDOWS[1])["directory"] == registry.where(entry)
    text = describe(entry, registry)
    assert "bytes in s3://models/archive/models/tests/1.0.0; files are as they were registered" in text
    assert len(list(frames(entry, store))) == 64


@pytest.mark.slow
def test_a_production_model_in_s3_is_what_the_next_one_is_compared_with_and_begins_from(archived: Release) -> None:
    graph, registry = archived.graph, archived.registry
    registry.promote("tests", "1.0.0", by="test")
    with open(graph.profile.recipes / "tiny.yaml", "a") as recipe:
        recipe.write("seed: 7\n")
    edited = graph.edited()
    config = {"tiny/checkpoint": {"warm_start": "production"}}
    assert edited.run(*CHAIN, window=WINDOWS[1], config=config).success
    evaluated = edited.trainer.commands("evaluate")[-1]
    assert "--against" in evaluated.arguments
    assert registry.find("tests@1.1.0").lineage.run.warm_started_from == "tests@1.0.0"


def test_clearing_the_store_asks_the_registry_in_s3_what_stays(archived: Release) -> None:
    graph, registry = archived.graph, archived.registry
    things = inventory(graph.places)
    lineage = registry.find("tests@1.0.0").lineage
    shards = {f"shards/{ref.key}" for refs in lineage.training_set.shards.values() for ref in refs}
    shutil.rmtree(graph.places.records)
    kept = named(graph.places, registry, things)
    assert shards <= kept
