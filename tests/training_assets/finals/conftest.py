"""Sweeps that are through: real trials of a trainer that pretends, whose scores a test decides on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from tests.training_assets.conftest import WITH_ROWS, FakeDvc, FakeTrainer, Graph
from trainer.contract.files import sha256_of
from trainer.contract.train_config import TrainConfig, read_config
from training_assets.launchers import LaunchSpec
from training_assets.records import SweepResult
from training_assets.starting_sweeps import AskedSweep, start
from training_assets.stores.registry import Registry
from training_assets.sweeps.controller import Actions
from training_assets.sweeps.place import SweepPlace, place_of
from training_assets.sweeps.trials import Suggestion
from training_assets.sweeps.under_way import sweeping

IOU, AP = "segmentation/mIoU", "detection/AP50"
WINDOW = WITH_ROWS[1]
RATES = [{"optim.lr": rate} for rate in (0.01, 0.03, 0.02)]
SPACE = {
    "strategy": "random",
    "parameters": {"optim.lr": {"min": 0.001, "max": 0.1}},
    "budget": {"max_trials": 3},
    "top_k": 2,
}
Worth = Callable[[TrainConfig], dict[str, float]]


def by_rate(config: TrainConfig) -> dict[str, float]:
    """The larger the rate, the better; seeds change nothing."""
    return {IOU: 0.5 + config.optim.lr, AP: 0.6}


class Judging(FakeTrainer):
    """Scores a model by the settings that it was trained with."""

    def __init__(self) -> None:
        super().__init__()
        self.worth: Worth = by_rate
        self.nights: Callable[[TrainConfig], dict[str, float]] = lambda config: {}
        self.trained: dict[str, TrainConfig] = {}

    def train(self, spec: LaunchSpec) -> None:
        config = read_config(Path(spec.arguments[1]), environment={})
        self.metrics = self.worth(config)
        super().train(spec)
        self.trained[sha256_of(spec.run_dir / "best.pt")] = config

    def evaluate(self, spec: LaunchSpec) -> None:
        config = self.trained[sha256_of(Path(spec.arguments[1]))]
        self.metrics, self.night = self.worth(config), self.nights(config)
        super().evaluate(spec)


@dataclass
class Swept:
    """A sweep whose trials have all ended."""

    graph: Graph
    place: SweepPlace

    @property
    def key(self) -> str:
        return "tiny/sweep_report"

    @property
    def trainer(self) -> Judging:
        assert isinstance(self.graph.trainer, Judging)
        return self.graph.trainer

    @property
    def registry(self) -> Registry:
        return Registry(self.graph.profile.store)

    @property
    def check(self) -> Any:
        """As it was last evaluated."""
        key = dg.AssetCheckKey(dg.AssetKey(["tiny", "sweep_report"]), "a_winner_is_registered")
        (record,) = self.graph.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        return record.event.asset_check_evaluation

    def launched(self, what: str) -> int:
        return len(self.trainer.commands(what))

    def report(self) -> dg.ExecuteInProcessResult:
        return self.graph.run(self.key, window=self.place.tune)

    @property
    def record(self) -> SweepResult:
        return self.graph.record(self.key, SweepResult, self.place.tune)

    @property
    def shown(self) -> dict[str, Any]:
        return self.graph.metadata(self.key, self.place.tune)

    def started(self, body: Mapping[str, Any], tune: str = "t") -> "Swept":
        graph, file = self.graph, self.graph.profile.store / "asked.yaml"
        file.write_text(yaml.safe_dump({"recipe": "tiny", "metric": {"name": IOU, "goal": "maximize"}, **body}))
        recipe_file = graph.profile.recipes / "tiny.yaml"
        recipe = read_config(recipe_file, environment={})
        start(AskedSweep(file=file, recipe=recipe, recipe_file=recipe_file, tune=tune, cause="manual", because="a test",
                         window=WINDOW), graph.places, graph.trainer)  # fmt: skip
        self.place = place_of(graph.places, tune)
        graph.instance.add_dynamic_partitions("tiny_sweeps", [tune])
        return self

    def tried(self, every: Sequence[Mapping[str, Any]], *, ended: bool = True) -> "Swept":
        """A trial with each of these settings, to its end, which the journal has with ``ended``."""
        graph, place = self.graph, self.place
        numbers = list(range(len(every)))
        keys = [f"{place.tune}-cv{number}" for number in numbers]
        graph.instance.add_dynamic_partitions("tiny_trials", keys)
        with sweeping(place, graph.places, graph.trainer) as sweep:
            for number, params in zip(numbers, every, strict=True):
                sweep.journal.asked(number, Suggestion(params), float(number))
            sweep.prepare(Actions(run=numbers))
        for key in keys:
            assert graph.run("tiny/trial", window=key).success
        if not ended:
            return self
        with sweeping(place, graph.places, graph.trainer) as sweep:
            for number, params in zip(numbers, every, strict=True):
                sweep.journal.reported(number, sweep.sweep.epochs, {IOU: 0.5 + params["optim.lr"]}, 100.0)
                sweep.journal.became(number, "completed", 100.0)
        return self


@pytest.fixture(scope="module")
def staged_for_sweeps(make_graph: Callable[..., Graph], snapshot: Any) -> Iterator[Any]:
    with dg.DagsterInstance.ephemeral() as instance:
        profile = make_graph(instance).profile
        pins = profile.store.parent / "pins"
        pins.mkdir()
        graph = Graph(profile, instance, launcher=Judging(), dvc=FakeDvc(pins))
        graph.edit(
            "slices.yaml", lambda text: text.replace("min_samples: 2", "min_samples: 2\n  safety_critical: true")
        )
        assert graph.run("dataset_version", "eval_shards").success
        assert graph.run("staged_shards", windows=WITH_ROWS).success
        assert graph.run("tiny/training_set", window=WINDOW).success
        yield snapshot(graph)


@pytest.fixture
def swept(staged_for_sweeps: Any) -> Swept:
    """Start one with ``started``, and let trials be ``tried``."""
    graph = staged_for_sweeps.restored()
    return Swept(graph, place_of(graph.places, "t"))


@pytest.fixture(scope="module")
def tried_once(staged_for_sweeps: Any, snapshot: Any) -> Any:
    graph = staged_for_sweeps.restored()
    Swept(graph, place_of(graph.places, "t")).started(SPACE).tried(RATES)
    return snapshot(graph)


@pytest.fixture
def through(tried_once: Any) -> Swept:
    """``SPACE`` tried with ``RATES``: the second is best, then the third."""
    graph = tried_once.restored()
    return Swept(graph, place_of(graph.places, "t"))
