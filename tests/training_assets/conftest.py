"""A code location of its own for each test: the small delivery, one tiny recipe, a store, a fake trainer."""

import copy
import functools
import shutil
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import dagster as dg
import numpy as np
import pytest
import yaml

from trainer.__main__ import main as command_line
from trainer.contract.charts import Charts, Confusion, Curves, Drawing, Line, Sheet, Shown, SplitCharts
from trainer.contract.delivery import read_delivery
from trainer.contract.epochs import EPOCHS_FILE
from trainer.contract.errors import Problem
from trainer.contract.eval_report import Change, Comparison, EvalReport, SliceScore, SplitScore
from trainer.contract.files import digest_of, sha256_of
from trainer.contract.results import (
    EXPORTS_FILE,
    Epoch,
    ExportedFile,
    Exports,
    Measured,
    MetricLoss,
    Quantization,
    TensorRT,
    Timing,
    TrainResult,
)
from trainer.contract.shard_index import read_data_spec
from trainer.contract.slices import parse_slices
from trainer.contract.train_config import TrainConfig, read_config
from training_assets.definitions import build_defs
from training_assets.facts import Facts
from training_assets.gates import GateResult
from training_assets.launchers import Handle, LaunchSpec, Status
from training_assets.launchers.base import Estimate, Offset
from training_assets.lineage import Counts
from training_assets.places import Places
from training_assets.profiles import Profile
from training_assets.records import DatasetVersion, TrainingSet
from training_assets.stores.dvc import DvcStore, Pin
from training_assets.stores.record_store import RecordStore, T
from training_assets.stores.source import CodeVersion

WITH_ROWS = ("2026-01-05", "2026-01-12")
"""Windows of the delivery."""


@pytest.fixture(scope="session")
def pinned(delivery: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds nothing but ``delivery``, pinned: DVC takes seconds, and only where it was not before."""
    store = tmp_path_factory.mktemp("pinned") / "store"
    DvcStore(store).pin(delivery, read_delivery(delivery).digest)
    return store


@pytest.fixture
def profile(tmp_path: Path, delivery: Path, recipe: Path, pinned: Path) -> Profile:
    return profile_below(tmp_path, delivery, recipe, pinned)


def profile_below(tmp_path: Path, delivery: Path, recipe: Path, pinned: Path) -> Profile:
    """Paths below ``tmp_path``; the delivery in the inbox is a copy that the test may change."""
    shutil.copytree(delivery, tmp_path / "inbox" / "delivery")
    complete(tmp_path / "inbox" / "delivery")
    shutil.copytree(pinned, tmp_path / "store")
    (tmp_path / "recipes").mkdir()
    shutil.copy(recipe, tmp_path / "recipes")
    return Profile.model_validate(
        {
            "name": "test",
            "inbox": str(tmp_path / "inbox"),
            "store": tmp_path / "store",
            "recipes": tmp_path / "recipes",
            "launcher": "local",
            "windows": {"start": "2025-12-29"},
        }
    )


def complete(delivery: Path) -> None:
    """Say that ``delivery`` is complete; to be said again after each change of it."""
    (delivery / "_SUCCESS").unlink(missing_ok=True)
    (delivery / "_SUCCESS").touch()


class FakeTrainer:
    """A launcher that stages shards in this process, and writes what train, evaluate and export would leave behind."""

    name = "local"
    poll_seconds = 0.01

    def __init__(self) -> None:
        self.launched: list[LaunchSpec] = []
        self.metrics = {"segmentation/mIoU": 0.7, "detection/AP50": 0.6}
        self.night: dict[str, float] = {}
        """What differs at night."""
        self.scored: dict[str, dict[str, dict[str, float]]] = {}
        self.error = 1e-6
        self.p95 = 5.0
        self.int8_loss = 0.01
        self.revision: str | None = None
        """The commit of the image that it runs in."""

    def commands(self, what: str) -> list[LaunchSpec]:
        return [spec for spec in self.launched if spec.what == what]

    def launch(self, spec: LaunchSpec) -> Handle:
        self.launched.append(spec)
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        spec.log.write_text(f"pretending to {spec.what}\n")
        getattr(self, spec.what)(spec)
        return Handle(spec.attempt, spec, time.time())

    def poll(self, handle: Handle) -> Status:
        return Status("succeeded", 0)

    def logs(self, handle: Handle, offset: Offset = (), last: bool = False) -> tuple[str, Offset]:
        return "", offset

    def attach(self, handle: Handle) -> Handle | None:
        return None

    def there(self, text: str) -> str:
        return text

    def check(self) -> Sequence[Problem]:
        return ()

    def estimate(self, spec: LaunchSpec) -> Estimate:
        return Estimate("nothing", 1, 0, None)

    def seconds_billed(self, handle: Handle) -> float | None:
        return None

    def stop(self, handle: Handle) -> None:
        pass

    def shard(self, spec: LaunchSpec) -> None:
        assert command_line(list(spec.arguments)) == 0

    def scenes(self, spec: LaunchSpec) -> None:
        """Few of them: painting takes its time."""
        arguments = list(spec.arguments)
        assert command_line([*arguments[: arguments.index("--rare") + 1], "6"]) == 0

    def train(self, spec: LaunchSpec) -> None:
        options = _options(spec)
        config = read_config(Path(spec.arguments[1]), environment={})
        data = read_data_spec(Path(options["--data"]))
        (spec.run_dir / "best.pt").write_text(f"weights of {options['--run-id']}")
        epoch = Epoch(epoch=1, global_step=4, losses={"total": 1.0}, metrics=dict(self.metrics), seconds=1.0)
        epochs = tuple(epoch.model_copy(update={"epoch": number}) for number in range(config.training.epochs))
        (spec.run_dir / EPOCHS_FILE).write_text("".join(f"{one.model_dump_json()}\n" for one in epochs))
        result = TrainResult(
            run_id=options["--run-id"],
            recipe=config.name,
            config_digest=config.digest,
            data_digest=data.digest,
            seed=config.seed,
            world_size=(spec.launch.processes if spec.launch else None) or 1,
            global_step=4,
            epochs=(epoch,),
            monitor=config.training.monitor,
            best_metric=0.7,
            best_step=4,
            samples_per_second=10.0,
            train_seconds=1.0,
            resumed_from_step=None,
            state_sha256=digest_of(data.digest),
            stop_reason="max_epochs",
            gates=(),
            parameters=10,
            best_checkpoint="best.pt",
            last_checkpoint="checkpoints/step-4",
            revision=self.revision,
        )
        (spec.run_dir / "result.json").write_text(result.model_dump_json())
        (spec.run_dir / "train.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))

    def evaluate(self, spec: LaunchSpec) -> None:
        options = _options(spec)
        checkpoint, out = sha256_of(Path(spec.arguments[1])), Path(options["--out"])
        parts = self.scored[checkpoint] = {"all": dict(self.metrics), "night": {**self.metrics, **self.night}}
        night = SliceScore(samples=4, metrics=parts["night"], intervals={"segmentation/mIoU": (0.65, 0.75)})
        scores = SplitScore(samples=8, metrics=parts["all"], slices={"night": night})
        data = read_data_spec(Path(options["--data"]))
        report = EvalReport(
            run_id=Path(spec.arguments[1]).parent.name[-8:],
            recipe="tiny",
            checkpoint_sha256=checkpoint,
            data_digest=data.digest,
            splits=dict.fromkeys(data.splits, scores),
            against=self._compared(parts, Path(options["--against"]), data.splits) if "--against" in options else None,
        )
        charts = Charts(checkpoint_sha256=checkpoint, splits={split: draw_charts(out, split) for split in data.splits})
        (out / "charts.json").write_text(charts.model_dump_json())
        (out / "eval_report.json").write_text(report.model_dump_json())

    def _compared(self, parts: dict[str, dict[str, float]], reference: Path, splits: Iterable[str]) -> Comparison:
        """Beside what the same weights scored when they were evaluated, without any noise."""
        before = self.scored[sha256_of(reference)]
        changes = {
            part: {
                name: Change(value=value, reference=before[part][name], interval=(value - before[part][name],) * 2)
                for name, value in metrics.items()
            }
            for part, metrics in parts.items()
        }
        return Comparison(run_id="p", checkpoint_sha256=sha256_of(reference), splits=dict.fromkeys(splits, changes))

    def export(self, spec: LaunchSpec) -> None:
        out = Path(_options(spec)["--out"])
        names = {
            "model.onnx": "onnx",
            "model.pt2": "exported_program",
            "model.torchscript.pt": "torchscript",
            "model.int8.onnx": "onnx_int8",
        }
        for name in (*names, "tensorrt_command.txt"):
            (out / name).write_text(f"{name} of {spec.arguments[1]}")
        measured = {"latency": self._timing(1), "throughput": self._timing(8)}
        loss = MetricLoss(eager=0.7, quantized=0.7 - self.int8_loss, loss=self.int8_loss)
        exports = Exports(
            checkpoint_sha256=sha256_of(Path(spec.arguments[1])),
            inputs={"image": (1, 3, 64, 64)},
            outputs=("out",),
            parameters=10,
            flops=1e6,
            eager=Measured(**measured),
            files=tuple(
                ExportedFile(
                    name=name,
                    format=kind,
                    bytes=(out / name).stat().st_size,
                    sha256=sha256_of(out / name),
                    max_relative_error=self.error,
                    **measured,
                )
                for name, kind in names.items()
            ),
            quantization=Quantization(
                file="model.int8.onnx",
                calibration_samples=24,
                judged_samples=8,
                losses={"segmentation/mIoU": loss},
            ),
            tensorrt=TensorRT(command="trtexec", command_file="tensorrt_command.txt", plan=None, note="no trtexec"),
        )
        (out / EXPORTS_FILE).write_text(exports.model_dump_json())

    def _timing(self, batch: int) -> Timing:
        return Timing(
            batch=batch,
            p50_ms=self.p95 / 2,
            p95_ms=self.p95,
            p99_ms=2 * self.p95,
            samples_per_second=2000 * batch / self.p95,
            peak_memory_bytes=batch * 10**6,
            repeats=40,
            pinned=True,
        )


def draw_charts(out: Path, split: str) -> SplitCharts:
    """One chart of each sort, and pictures that can be shown."""
    lines = (Line(name="car", x=(0.0, 1.0), y=(1.0, 0.25), summary=0.6),)
    drawings = [
        Drawing(task="detection", file=f"{kind}_detection_{split}.svg", chart=chart)
        for kind, chart in {
            "precision_recall": Curves(kind="precision_recall", lines=lines),
            "confusion": Confusion(classes=("car", "background"), counts=((3, 1), (2, 0))),
        }.items()
    ]
    for drawing in drawings:
        (out / drawing.file).write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    name = f"samples_segmentation_{split}.jpg"
    cv2.imwrite(str(out / name), np.zeros((20, 40, 3), np.uint8))
    best, worst = (Shown(sample_id=one, value=value) for one, value in (("test001", 0.9), ("test004", 0.2)))
    sheet = Sheet(task="segmentation", metric="segmentation/mIoU", file=name, best=(best,), worst=(worst,))
    return SplitCharts(drawings=tuple(drawings), sheets=(sheet,))


def _options(spec: LaunchSpec) -> dict[str, str]:
    given = spec.arguments
    return {name: given[place + 1] for place, name in enumerate(given) if name.startswith("--")}


class Graph:
    """Materialises assets of one code location and reads back their records."""

    def __init__(self, profile: Profile, instance: dg.DagsterInstance, **overrides: object) -> None:
        self.profile, self.instance = profile, instance
        self.inbox = Path(profile.inbox)
        self.delivery = self.inbox / "delivery"
        self.places = Places(profile.store)
        self.records = RecordStore(self.places)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.defs = build_defs(profile=profile, resource_overrides=overrides)
            self.job = self.defs.resolve_implicit_global_asset_job_def()

    @property
    def trainer(self) -> FakeTrainer:
        return self.defs.resources["launcher"]

    def edited(self) -> "Graph":
        """The graph anew, after its recipes were edited."""
        return Graph(self.profile, self.instance, launcher=self.trainer)

    def edit(self, file: str, change: Callable[[str], str]) -> None:
        """Change a file of the delivery, which then is complete again."""
        path = self.delivery / file
        path.write_text(change(path.read_text()))
        complete(self.delivery)

    def run(
        self,
        *keys: str,
        window: str | None = None,
        windows: tuple[str, str] | None = None,
        config: Mapping[str, Mapping[str, object]] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialise ``keys``; ``config`` has the configuration of some of them."""
        ends = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
        ops = {key.replace("/", "__"): {"config": dict(value)} for key, value in (config or {}).items()}
        return self.job.execute_in_process(
            instance=self.instance,
            run_config={"ops": ops},
            asset_selection=[key_of(key) for key in keys],
            partition_key=window,
            tags=dict(zip(ends, windows, strict=True)) if windows else None,
            raise_on_error=False,
        )

    def record(self, key: str, kind: type[T], partition: str = "whole") -> T:
        return self.records.read(key_of(key), partition, kind)

    def metadata(self, key: str, partition: str | None = None) -> dict[str, object]:
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(key_of(key), asset_partitions=[partition] if partition else None), limit=1
        ).records
        materialization = records[0].asset_materialization
        assert materialization is not None
        return {name: value.value for name, value in materialization.metadata.items()}


class Snapshot:
    """A graph as it stands now, for every test that begins there: a chain takes seconds, going back to it none.

    Kept are its files, what Dagster has stored, and what the fake trainer remembers.
    """

    def __init__(self, graph: Graph, kept: Path) -> None:
        self.graph, self.files = graph, kept / "files"
        shutil.copytree(self._root, self.files, symlinks=True)
        self.trainer = copy.deepcopy(vars(graph.trainer))
        self.events = graph.instance.event_log_storage._storage_id
        self.databases = [sqlite3.connect(":memory:") for _ in self._stored()]
        for stored, saved in zip(self._stored(), self.databases, strict=True):
            stored.backup(saved)

    def restored(self) -> Graph:
        shutil.rmtree(self._root)
        shutil.copytree(self.files, self._root, symlinks=True)
        vars(self.graph.trainer).clear()
        vars(self.graph.trainer).update(copy.deepcopy(self.trainer))
        self.graph.instance.event_log_storage._storage_id = self.events
        for stored, saved in zip(self._stored(), self.databases, strict=True):
            saved.backup(stored)
        return self.graph

    @property
    def _root(self) -> Path:
        return self.graph.inbox.parent

    def _stored(self) -> list[sqlite3.Connection]:
        storages = (self.graph.instance.run_storage, self.graph.instance.event_log_storage)
        return [storage._held_conn.connection.driver_connection for storage in storages]


class FakeDvc:
    """Pins nothing, gives back what it was given: DVC takes seconds for a version, and has tests of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def pin(self, delivery: Path, version: str) -> Pin:
        shutil.copytree(delivery, self.root / version, dirs_exist_ok=True)
        return self.pinned(version)

    def pinned(self, version: str) -> Pin:
        (path,) = (path for path in self.root.iterdir() if path.name.startswith(version))
        return Pin(path.name, "0.dir", 1, 1, path)

    def restore(self, version: str, out: Path) -> None:
        shutil.copytree(self.root / version, out)


def key_of(key: str) -> dg.AssetKey:
    return dg.AssetKey(key.split("/"))


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """What the failed step said."""
    event = next(event for event in result.all_events if event.is_step_failure)
    failure = event.step_failure_data.user_failure_data
    return str(failure.description) if failure else str(event.step_failure_data.error)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def trainer() -> FakeTrainer:
    return FakeTrainer()


@pytest.fixture
def graph(profile: Profile, instance: dg.DagsterInstance, trainer: FakeTrainer) -> Graph:
    """The graph with the fake trainer."""
    return Graph(profile, instance, launcher=trainer)


@pytest.fixture
def graph_without_dvc(profile: Profile, instance: dg.DagsterInstance, trainer: FakeTrainer, tmp_path: Path) -> Graph:
    """``graph`` for tests that deliver again and again."""
    (tmp_path / "pins").mkdir()
    return Graph(profile, instance, launcher=trainer, dvc=FakeDvc(tmp_path / "pins"))


@pytest.fixture(scope="session")
def make_graph(
    delivery: Path, recipe: Path, pinned: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Graph]:
    """Another graph with a fake trainer of its own, for tests that only look at what one run left."""

    def make(instance: dg.DagsterInstance, **changes: object) -> Graph:
        profile = profile_below(tmp_path_factory.mktemp("graph"), delivery, recipe, pinned)
        return Graph(profile.model_copy(update=changes), instance, launcher=FakeTrainer())

    return make


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Graph], Snapshot]:
    return lambda graph: Snapshot(graph, tmp_path_factory.mktemp("snapshot"))


@pytest.fixture(scope="session")
def staged_once(make_graph: Callable[..., Graph], snapshot: Callable[[Graph], Snapshot]) -> Iterator[Snapshot]:
    with dg.DagsterInstance.ephemeral() as instance:
        graph = make_graph(instance)
        assert graph.run("dataset_version", "eval_shards").success
        assert graph.run("staged_shards", windows=WITH_ROWS).success
        yield snapshot(graph)


@pytest.fixture
def staged(staged_once: Snapshot) -> Graph:
    """A graph whose delivery is pinned and staged: val, test and the windows with rows."""
    return staged_once.restored()


@pytest.fixture
def failure() -> object:
    return failure_of


@pytest.fixture
def facts(tmp_path: Path) -> Callable[..., Facts]:
    """Makes what is known of a model without anything to warn of; what it is given replaces that."""
    iou = "segmentation/mIoU"
    timed = {
        "batch": 1, "p50_ms": 1.25, "p95_ms": 2.5, "p99_ms": 3.0, "samples_per_second": 700.0,
        "peak_memory_bytes": None, "repeats": 40, "pinned": True,
    }  # fmt: skip
    measured = {
        "latency": timed,
        "throughput": {
            **timed,
            **{"batch": 8, "p50_ms": 8.0, "samples_per_second": 1000.0, "peak_memory_bytes": 64_000_000},
        },
    }
    config = TrainConfig.model_validate(
        {
            "name": "tiny",
            "project": "tests",
            "description": "Finds the road.",
            "data": {"image_size": [64, 96]},
            "tasks": {"segmentation": {"classes": ["road", "car"]}},
            "training": {"monitor": iou},
        }
    )
    metrics = {iou: 0.6, "segmentation/IoU/road": 0.8, "segmentation/IoU/car": 0.4}
    night = SliceScore(samples=12, metrics={iou: 0.6})
    report = EvalReport(
        run_id="ab12cd34",
        recipe="tiny",
        checkpoint_sha256="c" * 64,
        data_digest="a" * 64,
        splits={"test": SplitScore(samples=30, metrics=metrics, slices={"night": night})},
    )
    dataset = DatasetVersion(
        version="5" * 64,
        directory="datasets/5",
        delivery="/inbox/five",
        files={},
        dvc_hash="77.dir",
        cadence="weekly",
        rows={"train": 40},
        labels={},
        windows={"2026-01-05": 15, "2026-01-12": 25, "2026-01-19": 99},
        licences={"CC0-1.0": 40},
    )
    known = Facts(
        config=config,
        slices=parse_slices({"slices": [{"name": "night", "safety_critical": True, "min_samples": 10}]}),
        dataset=dataset,
        training_set=TrainingSet(
            recipe="tiny",
            window="2026-01-12",
            directory="training_sets/tiny",
            digest="6" * 64,
            windows_found=("2026-01-05", "2026-01-12"),
            windows_missing=(),
            slices=(),
            samples=40,
            dataset=dataset,
        ),
        provenance=Counts(
            splits={"train": 40, "val": 8, "test": 30},
            origins={"fleet": 78},
            licences={"CC0-1.0": 78},
            captured_at_sources={"recorded": 78},
            first=datetime(2026, 1, 5, tzinfo=UTC),
            last=datetime(2026, 1, 18, tzinfo=UTC),
        ),
        result=TrainResult(
            run_id="ab12cd34",
            recipe="tiny",
            config_digest=config.digest,
            data_digest="6" * 64,
            seed=42,
            world_size=2,
            global_step=100,
            epochs=(Epoch(epoch=1, global_step=100, losses={"total": 1.0}, metrics={iou: 0.61}, seconds=1.0),),
            monitor=iou,
            best_metric=0.61,
            best_step=100,
            samples_per_second=10.0,
            train_seconds=1.0,
            resumed_from_step=None,
            state_sha256="9" * 64,
            stop_reason="max_epochs",
            gates=(),
            parameters=12345,
            best_checkpoint="best.pt",
            last_checkpoint="checkpoints/100",
        ),
        report=report,
        charts=Charts(checkpoint_sha256="c" * 64, splits={"test": draw_charts(tmp_path, "test")}),
        pictures=tmp_path,
        exports=Exports.model_validate(
            {
                "checkpoint_sha256": "c" * 64,
                "inputs": {"image": (1, 3, 64, 96)},
                "outputs": ("logits",),
                "parameters": 12345,
                "flops": 1e6,
                "eager": measured,
                "files": [
                    {
                        "name": "model.onnx",
                        "format": "onnx",
                        "bytes": 9,
                        "sha256": "0" * 64,
                        "max_relative_error": 1e-6,
                        **measured,
                    }
                ],
                "quantization": {
                    "file": "model.int8.onnx",
                    "calibration_samples": 24,
                    "judged_samples": 8,
                    "losses": {iou: {"eager": 0.61, "quantized": 0.585, "loss": 0.025}},
                },
                "tensorrt": {"command": "trtexec", "command_file": "command.txt", "plan": None, "note": ""},
            }
        ),
        gates=(GateResult(name="targets_met", passed=True, severity="block", rows=()),),
        code=CodeVersion(git_sha="d" * 40, dirty=False, lock_sha256="e" * 64),
    )
    return functools.partial(replace, known)
