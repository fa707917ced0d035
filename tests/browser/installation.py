"""An installation for a person to look at: Dagster's own processes on a home, a store and an inbox of their own.

One window of the tiny recipe has everything up to a registered model, of a trainer that only pretended. What is started
from the page then trains for real.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml

from tests.training_assets.conftest import FakeDvc, FakeTrainer, Graph, complete
from tests.training_assets.daemons import ROOT, Daemon, WebServer, prepare_home, until
from training_assets.jobs import CHAIN
from training_assets.profiles import Profile, load_profile

WINDOW, BEFORE, EMPTY = "2026-01-12", "2026-01-05", "2025-12-29"
"""Windows: the one that has everything, the one before it, which has a training set, and one without rows."""


@dataclass(frozen=True)
class Installation:
    root: Path
    address: str
    """Where the web server is: ``http://host:port``."""
    graph: Graph

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def logs(self) -> Path:
        """What the processes printed."""
        return self.root / "logs"


@contextmanager
def installed(
    root: Path, delivery: Path, recipe: Path, environment: Mapping[str, str], settings: Mapping[str, object]
) -> Iterator[Installation]:
    """``environment`` is what the processes see besides, ``settings`` belong into ``dagster.yaml``."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("inbox", "store", "recipes", "pins", "logs"):
            (root / name).mkdir(parents=True)
            patch.setenv(f"TRAINING_ASSETS_{name.upper()}", str(root / name))
        for name, value in {**environment, **_places(root)}.items():
            patch.setenv(name, value)
        _write(root, delivery, recipe, settings)
        with dg.DagsterInstance.from_config(str(root / "home")) as instance:
            graph = _made(root, instance)
            workspace = ROOT / "workspace.yaml"
            web, daemon = (
                WebServer(workspace, root / "logs" / "web.log"),
                Daemon(workspace, backfill_seconds=1, sensor_seconds=2, log=root / "logs" / "daemon.log"),
            )
            try:
                until(lambda: web.ask("{ version }"), 120)
                yield Installation(root, f"http://127.0.0.1:{web.port}", graph)
            finally:
                daemon.kill()
                web.kill()


def _places(root: Path) -> dict[str, str]:
    # Dagster's commands do not look where they are started: the storage that settings name is among the tests.
    return {"DAGSTER_HOME": str(root / "home"), "PYTHONPATH": str(ROOT)}


def _write(root: Path, delivery: Path, recipe: Path, settings: Mapping[str, object]) -> None:
    shutil.copytree(delivery, root / "inbox" / "delivery")
    complete(root / "inbox" / "delivery")
    short = yaml.safe_load(recipe.read_text())
    short["training"]["epochs"] = short["launch"]["devices"] = 1
    (root / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(short))
    prepare_home(root / "home", max_concurrent_runs=2)
    file = root / "home" / "dagster.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **settings}))


def _made(root: Path, instance: dg.DagsterInstance) -> Graph:
    profile: Profile = load_profile()
    graph = Graph(profile, instance, launcher=FakeTrainer(), dvc=FakeDvc(root / "pins"))
    assert graph.run("dataset_version", "eval_shards").success
    assert graph.run("staged_shards", windows=(BEFORE, WINDOW)).success
    assert graph.run("tiny/training_set", window=BEFORE).success
    assert graph.run(*(f"tiny/{name}" for name in CHAIN), window=WINDOW).success
    return graph
