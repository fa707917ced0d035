"""It starts by itself, with Dagster's real processes: nothing is lost and nothing done twice, whatever is killed."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
import pytest
import yaml

from tests.training_assets.daemons import Daemon, WebServer, prepare_home, pretending_workspace, until
from trainer.contract.delivery import FILES
from training_assets.stores.inbox import LocalInbox
from training_assets.stores.registry import Registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WINDOW = "2026-01-12"
PATIENCE, QUIET = 240.0, 8.0
AUTOMATION = {"on_delivery": True, "on_weak_slice": "train", "slice_targets": {"segmentation/mIoU": 0.9}}
SEEN = """
{
  runsOrError { ... on Runs { results { jobName status tags { key value } } } }
  assetNodeOrError(assetKey: {path: ["mined_slice"]}) { ... on AssetNode { partitionKeys } }
  instance { daemonHealth { allDaemonStatuses { daemonType healthy } } }
}
"""


@dataclass(frozen=True)
class Place:
    """An inbox, a store and a Dagster home, and what a person sees of them."""

    root: Path
    delivery: Path
    instance: dg.DagsterInstance

    @property
    def inbox(self) -> Path:
        return self.root / "inbox"

    @property
    def registry(self) -> Registry:
        return Registry(self.root / "store")

    def deliver(self, name: str) -> str:
        """Upload a delivery file by file, the marker last; its digest. No two are the same."""
        target = self.inbox / name
        shutil.copytree(self.delivery, target, ignore=shutil.ignore_patterns(*FILES))
        for file in FILES:
            shutil.copyfile(self.delivery / file, target / file)
        with open(target / "slices.yaml", "a") as slices:
            slices.write(f"# {name}\n")
        (target / "_SUCCESS").touch()
        return LocalInbox(self.inbox).find(name).digest

    def mine(self, name: str) -> None:
        row = json.loads((self.delivery / "golden_train.manifest").read_text().splitlines()[0])
        slices = self.inbox / "slices"
        slices.mkdir(exist_ok=True)
        shutil.copyfile(self.delivery / row["source-ref"], slices / f"{name}.png")
        row = {key: value for key, value in row.items() if not key.startswith("semantic")}
        row |= {"sample_id": name, "source-ref": f"{name}.png"}
        (slices / f"{name}.manifest").write_text(json.dumps(row) + "\n")

    def runs(self, job: str, **tags: str) -> list[dg.DagsterRun]:
        """Oldest first."""
        return list(reversed(self.instance.get_runs(dg.RunsFilter(job_name=job, tags=tags))))

    def succeeded(self, job: str, count: int) -> bool:
        return sum(run.is_success for run in self.runs(job)) >= count

    def at_rest(self) -> bool:
        """All that was started has ended, for good."""
        runs = self.instance.get_runs()
        return all(run.is_finished and not run.is_complete_and_waiting_to_retry for run in runs)

    def hold(self, what: str) -> None:
        (self.root / f"hold-{what}").touch()

    def held(self, what: str) -> bool:
        return (self.root / f"held-{what}").exists()

    def release(self, what: str) -> None:
        for state in ("hold", "held"):
            (self.root / f"{state}-{what}").unlink(missing_ok=True)


@pytest.fixture
def place(tmp_path: Path, delivery: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    prepare_home(tmp_path / "home", max_concurrent_runs=2)
    (tmp_path / "recipes").mkdir()
    value = {**yaml.safe_load(recipe.read_text()), "automation": AUTOMATION}
    (tmp_path / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(value))
    environment = {"DAGSTER_HOME": tmp_path / "home", "PRETENDING": tmp_path, "TRAINING_ASSETS_SENSOR_SECONDS": 1}
    environment |= {f"TRAINING_ASSETS_{name.upper()}": tmp_path / name for name in ("inbox", "store", "recipes")}
    for name, setting in environment.items():
        monkeypatch.setenv(name, str(setting))
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        yield Place(tmp_path, delivery, instance)


def test_deliveries_and_slices_become_models_each_once_whatever_is_killed(place: Place, tmp_path: Path) -> None:
    workspace = pretending_workspace(tmp_path / "workspace.yaml")
    web, daemon = WebServer(workspace), Daemon(workspace, sensor_seconds=1)
    try:
        place.hold("train")
        digests = [place.deliver("one")]
        until(lambda: place.held("train"), PATIENCE)
        kill_worker(place)
        place.release("train")
        until(lambda: place.succeeded("tiny_job", 1), PATIENCE)
        assert place.registry.versions("tests") == ["1.0.0"]
        place.registry.promote("tests", "1.0.0", by="test")

        place.hold("look")
        digests.append(place.deliver("two"))
        until(lambda: place.held("look"), PATIENCE)
        daemon.kill()  # in the middle of a tick of the delivery sensor
        place.release("look")
        daemon = Daemon(workspace, sensor_seconds=1)
        until(lambda: place.succeeded("dataset_job", 2), PATIENCE)
        settled(place)  # a slice that was there by now would be a reason to train delivery two as well
        place.hold("train")
        place.mine("fog")
        until(lambda: place.held("train"), PATIENCE)
        daemon.kill()  # in the middle of a run, and its worker with it
        place.release("train")
        daemon = Daemon(workspace, sensor_seconds=1)
        until(lambda: place.succeeded("dataset_job", 2) and place.succeeded("slice_job", 1), PATIENCE)
        settled(place)
        seen = until(lambda: web.ask(SEEN), PATIENCE)
    finally:
        daemon.close()
        web.close()
    assert observed(place) == digests_of_train(place)
    assert roots(place, "dataset_job") == digests
    assert [run.tags["dagster/partition"] for run in original(place, "slice_job")] == ["fog"]
    trainings = original(place, "tiny_job")
    assert len({run.tags["dagster/run_key"] for run in trainings}) == len(trainings)
    causes = [run.tags["training_assets/cause"] for run in trainings]
    assert (causes.count("slice"), causes.count("delivery")) == (1, 1), "delivery two has the same windows as one"
    for job in ("dataset_job", "staging_job", "slice_job", "tiny_job"):
        assert all(last_of(place, run).is_success for run in original(place, job)), job
    assert len(place.registry.versions("tests")) == 2
    assert seen["assetNodeOrError"]["partitionKeys"] == ["fog"]
    assert {run["status"] for run in seen["runsOrError"]["results"]} <= {"SUCCESS", "FAILURE"}
    assert all(one["healthy"] for one in seen["instance"]["daemonHealth"]["allDaemonStatuses"] if is_ours(one))


def kill_worker(place: Place) -> None:
    """The process of the run that trains now, by the id that it said itself."""
    (run,) = [run for run in place.runs("tiny_job") if run.status == dg.DagsterRunStatus.STARTED]
    said = [entry.dagster_event for entry in place.instance.all_logs(run.run_id)]
    events = [event for event in said if event and event.event_type == dg.DagsterEventType.ENGINE_EVENT]
    (pid,) = {
        int(str(e.engine_event_data.metadata["pid"].value)) for e in events if "pid" in e.engine_event_data.metadata
    }
    psutil.Process(pid).kill()


def settled(place: Place) -> None:
    """Nothing is started for a while: longer than all sensors take to look once."""
    quiet_since = time.monotonic()
    deadline = quiet_since + PATIENCE
    while time.monotonic() - quiet_since < QUIET:
        if not place.at_rest():
            quiet_since = time.monotonic()
        assert time.monotonic() < deadline, [(run.job_name, run.status, run.tags) for run in place.instance.get_runs()]
        time.sleep(0.5)


def original(place: Place, job: str) -> list[dg.DagsterRun]:
    """The runs that were asked for, without those that Dagster put in their place."""
    return [run for run in place.runs(job) if run.parent_run_id is None]


def roots(place: Place, job: str) -> list[str]:
    return [run.tags["dagster/run_key"] for run in original(place, job)]


def last_of(place: Place, root: dg.DagsterRun) -> dg.DagsterRun:
    """The run that ended the story of ``root``."""
    again = [run for run in place.runs(root.job_name) if run.root_run_id == root.run_id]
    return again[-1] if again else root


def observed(place: Place) -> list[str]:
    """What ``golden/slices`` was observed as, the oldest first."""
    records = place.instance.fetch_observations(dg.AssetKey(["golden", "slices"]), limit=50, ascending=True).records
    return [str((record.asset_observation.tags or {})["dagster/data_version"]) for record in records]


def digests_of_train(place: Place) -> list[str]:
    inbox = LocalInbox(place.inbox)
    return [inbox.find(name).digests["slices.yaml"] for name in ("one", "two")]


def is_ours(status: dict) -> bool:
    return status["daemonType"] in ("SENSOR", "QUEUED_RUN_COORDINATOR", "MONITORING", "EVENT_LOG_CONSUMER")
