"""The whole graph for real: deliveries through Dagster, launched two-rank trainings, to a registered model and back."""

import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import dagster as dg
import pytest

from tests.planted import ENVIRONMENT, found_below, found_in_value
from tests.training_assets.conftest import FakeTrainer, Graph
from trainer.__main__ import main as command_line
from training_assets.demo import put_into_inbox
from training_assets.in_process import refresh_dataset, run_chain, stage_windows
from training_assets.jobs import DATASET_ASSETS
from training_assets.launchers import LocalLauncher
from training_assets.lineage import frames
from training_assets.places import Places
from training_assets.planning import chosen_window
from training_assets.profiles import REPOSITORY, Profile
from training_assets.recipes import load_recipes
from training_assets.refresh import Refresher
from training_assets.stores.inbox import LocalInbox
from training_assets.stores.record_store import RecordStore
from training_assets.stores.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXPORTED = ("model.onnx", "model.pt2", "model.torchscript.pt", "model.int8.onnx", "exports.json")
FORMS = (
    "best.pt",
    *EXPORTED,
    "eval_report.json",
    "charts.json",
    "precision_recall_detection_test.svg",
    "confusion_detection_test.svg",
    "roc_segmentation_test.svg",
    "confusion_segmentation_test.svg",
    "samples_detection_test.jpg",
    "samples_segmentation_test.jpg",
    "dashboard.html",
    "model_card.md",
)


@dataclass(frozen=True)
class Installation:
    """A store, a Dagster home and an inbox of its own; commands run as a person would run them, who has secrets."""

    root: Path
    said: list[str] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.root / "store"

    def run(self, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
        places = {
            "DAGSTER_HOME": str(self.root / "dagster_home"),
            "TRAINING_ASSETS_STORE": str(self.store),
            "TRAINING_ASSETS_INBOX": str(self.root / "inbox"),
        }
        done = subprocess.run(
            [sys.executable, "-m", *map(str, command)],
            env={**os.environ, **ENVIRONMENT, **places, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        self.said.append(done.stdout + done.stderr)
        return done

    def demo(self, data: Path, recipe: str, **environment: str) -> str:
        done = self.run("training_assets", "demo", "--data", data, "--recipe", recipe, **environment)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def versions(self, project: str) -> list[str]:
        return sorted(path.stem for path in (self.store / "registry" / project / "versions").glob("*.json"))

    def frames(self, reference: str) -> list[str]:
        done = self.run("training_assets", "lineage", reference, "--frames")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()


def rows(delivery: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (delivery / f"golden_{split}.manifest").read_text().splitlines()]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(tmp_path_factory.mktemp("installation"))


def settings(recipe: Path) -> dict[str, str]:
    """Enough epochs to tell what the masks of the night say."""
    return {"TRAINING_ASSETS_RECIPES": str(recipe.parent), "TRAIN__TRAINING__EPOCHS": "8"}


@pytest.fixture(scope="module")
def first(installation: Installation, dark_delivery: Path, recipe: Path) -> str:
    """Tracked as by default: W&B's offline files are among what must show no secret."""
    return installation.demo(dark_delivery, "tiny", **settings(recipe), WANDB_MODE="offline")


def test_a_delivery_becomes_a_registered_model_with_all_its_files(installation, first):
    assert installation.versions("tests") == ["1.0.0"]
    released = installation.store / "models" / "tests" / "1.0.0"
    assert {name for name in FORMS if (released / name).is_file()} == set(FORMS)
    assert (released / "dashboard.html").stat().st_size < 1_000_000
    (log,) = (released / "logs").iterdir()
    assert "epoch 8/8" in log.read_text()
    entry = json.loads((installation.store / "registry" / "tests" / "versions" / "1.0.0.json").read_text())
    assert entry["lineage"]["run"]["world_size"] == 2
    assert all(gate["passed"] for gate in entry["gates"] if gate["severity"] == "block")


def test_the_summary_names_metrics_slices_gates_latency_version_and_places(first):
    for said in (
        "segmentation/mIoU",
        "night",
        "targets_met",
        "smallest margin",
        "p95",
        "tests@1.0.0",
        "dashboard.html",
    ):
        assert said in first


EVENT_MESSAGES = """
import dagster as dg
with dg.DagsterInstance.get() as instance:
    for run in instance.get_runs():
        print(*(entry.user_message for entry in instance.all_logs(run.run_id)), sep="\\n")
"""


def test_losses_and_metrics_of_each_epoch_are_in_dagsters_event_log(installation, first, tmp_path):
    script = tmp_path / "messages.py"
    script.write_text(EVENT_MESSAGES)
    home = {**os.environ, "DAGSTER_HOME": str(installation.root / "dagster_home")}
    done = subprocess.run([sys.executable, str(script)], env=home, capture_output=True, text=True, check=True)
    epochs = [line for line in done.stdout.splitlines() if "epoch " in line]
    for number in range(1, 9):
        said = next(line for line in epochs if f"epoch {number}/8" in line)
        assert "loss:" in said
        assert "segmentation/mIoU" in said


def test_lineage_leads_back_to_every_frame(installation, first, dark_delivery):
    found = "\n".join(installation.frames("tests@1.0.0"))
    for split in ("train", "val", "test"):
        missing = [row["sample_id"] for row in rows(dark_delivery, split) if row["sha256"] not in found]
        assert not missing


def test_a_second_run_finds_everything_up_to_date(installation, first, dark_delivery, recipe):
    said = installation.demo(dark_delivery, "tiny", **settings(recipe))
    assert "up to date" in said
    assert "epoch" not in said
    assert installation.versions("tests") == ["1.0.0"]


def test_the_pinned_data_comes_back_byte_for_byte(installation, first, dark_delivery, tmp_path):
    version = next((installation.store / "datasets").iterdir()).name
    done = installation.run("training_assets", "restore", version, tmp_path / "restored")
    assert done.returncode == 0, done.stderr
    names = [str(path.relative_to(dark_delivery)) for path in dark_delivery.rglob("*") if path.is_file()]
    match, mismatch, errors = filecmp.cmpfiles(dark_delivery, tmp_path / "restored", names, shallow=False)
    assert sorted(match) == sorted(names)
    assert mismatch == errors == []


def test_a_missed_gate_is_named_and_leaves_the_registry_as_it_was(installation, first, dark_delivery, recipe):
    environment = settings(recipe) | {"TRAIN__RELEASE__TARGETS": "{segmentation/mIoU: 0.999999}"}
    done = installation.run("training_assets", "demo", "--data", dark_delivery, "--recipe", "tiny", **environment)
    assert done.returncode == 1
    assert "targets_met" in done.stderr
    assert "0.999999" in done.stderr
    assert installation.versions("tests") == ["1.0.0"]


def spoiled(delivery: Path, out: Path) -> Path:
    """``delivery`` with road and car exchanged in the masks of the nights that are trained on, and there alone."""
    shutil.copytree(delivery, out)
    found = rows(delivery, "train")
    for row in found:
        if row["attributes"]["time_of_day"] == "night":
            mask = cv2.imread(str(out / row["semantic-ref"]), cv2.IMREAD_UNCHANGED)
            row["semantic-ref"] = f"masks/wrong-{row['sample_id']}.png"
            cv2.imwrite(str(out / row["semantic-ref"]), 1 - mask)
    (out / "golden_train.manifest").write_text("".join(json.dumps(row) + "\n" for row in found))
    return out


def test_a_slice_made_worse_is_stopped_with_its_gate_and_margin_and_the_registry_stays_as_it_was(
    installation, first, dark_delivery, recipe, tmp_path
):
    promoted = installation.run("training_assets", "promote", "tests@1.0.0")
    assert promoted.returncode == 0, promoted.stderr
    before = released(installation.store)
    told_before = len(events(installation.store))
    worse = spoiled(dark_delivery, tmp_path / "spoiled")
    done = installation.run("training_assets", "demo", "--data", worse, "--recipe", "tiny", **settings(recipe))
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    assert "gate not passed: tiny/eval_report: no_worse_than_production_on_any_slice" in done.stderr
    found = re.findall(r"(\S+): segmentation mIoU \S+, production \S+: worse by (\S+)", done.stderr)
    too_far = {name: float(how_far) for name, how_far in found}
    assert too_far["night"] == max(too_far.values()) > 0.2, "the day suffers a little, from the same backbone"
    page = Path(done.stderr.split("dashboard: ")[1].strip())
    assert "not to be released" in page.read_text()
    assert released(installation.store) == before
    told = [event.get("gate", event["type"]) for event in events(installation.store)[told_before:]]
    assert "no_regression" in told
    assert "model.registered" not in told


def test_nothing_that_was_written_or_said_shows_a_secret(installation, first):
    """What ran before in this file: trainings, exports, reports, gates passed and not, the commands' words."""
    for command in (["status", "--json"], ["lineage", "tests@1.0.0", "--json"], ["--help"]):
        installation.run("training_assets", *command)
    assert len(installation.said) > 4
    assert not [said for said in installation.said if found_in_value(said)]
    places = {path.name for path in installation.root.iterdir()}
    assert {"store", "dagster_home", "inbox"} <= places
    assert list(installation.root.rglob("offline-run-*/*.wandb"))
    assert found_below([installation.root]) == {}


def events(store: Path) -> list[dict]:
    return [json.loads(line) for line in (store / "events.jsonl").read_text().splitlines()]


def released(store: Path) -> dict[Path, bytes]:
    """Every file of the registry and of its models."""
    places = (store / "registry", store / "models")
    return {path: path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()}


def every_sixth(source: Path, out: Path) -> Path:
    """``source`` with every sixth line of its table: as real, and sooner through."""
    shutil.copytree(source, out)
    header, *lines = (source / "manifest.csv").read_text().splitlines(keepends=True)
    (out / "manifest.csv").write_text("".join([header, *lines[::6]]))
    return out


class WithoutExport(FakeTrainer):
    """Stages, trains and evaluates as it should; the exported files are pretended, the other tests make real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.local = LocalLauncher()

    def of(self, spec):
        return super() if spec.what == "export" else self.local

    def launch(self, spec):
        return self.of(spec).launch(spec)

    def poll(self, handle):
        return self.of(handle.spec).poll(handle)

    def logs(self, handle, offset=(), last=False):
        return self.of(handle.spec).logs(handle, offset, last)


def test_real_driving_images_go_through_the_whole_graph(real_data, tmp_path, monkeypatch):
    delivery, some = tmp_path / "imported", every_sixth(real_data / "camvid", tmp_path / "source")
    assert command_line(["import", "camvid", str(some), str(delivery), "--start", "2026-01-05"]) == 0
    assert {row["captured_at_source"] for row in rows(delivery, "train")} == {"assigned"}
    brief = {"TRAINING__EPOCHS": "1", "RELEASE__TARGETS": "{}", "WINDOW__MIN_SAMPLES": "16"}
    small = {"MODEL__WIDTH": "8", "DATA__IMAGE_SIZE": "[96,128]"}
    for name, value in {**brief, **small}.items():
        monkeypatch.setenv(f"TRAIN__{name}", value)
    places = {name: str(tmp_path / name) for name in ("inbox", "store")}
    given = {"name": "test", "recipes": REPOSITORY / "recipes", "launcher": "local", "windows": {"start": "2026-01-05"}}
    profile = Profile.model_validate({**given, **places})
    with dg.DagsterInstance.ephemeral() as instance:
        refresher = Refresher(Graph(profile, instance, launcher=WithoutExport()).defs, instance)
        found = put_into_inbox(delivery, LocalInbox(tmp_path / "inbox"))
        refresh_dataset(refresher, found, [name for name in DATASET_ASSETS if name != "reference_profile"])
        dataset = RecordStore(Places(profile.store)).dataset()
        recipe, window = load_recipes(profile.recipes)[0]["camvid_segmentation"], chosen_window(profile, dataset)
        stage_windows(refresher, profile, [recipe], window)
        run_chain(refresher, recipe, window)
    entry = Registry(profile.store).find("camvid@1.0.0")
    delivered = sum(len(rows(delivery, split)) for split in ("train", "val", "test"))
    assert len(list(frames(entry, profile.store))) == delivered
