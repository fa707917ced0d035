"""A run at W&B: what each record of a spool becomes there. The one place of the trainer that knows W&B."""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.contract.charts import CHARTS_FILE, Confusion, Curves, Line, read_charts
from trainer.contract.eval_report import OVERALL, EvalReport, SliceScore
from trainer.contract.files import sha256_of
from trainer.contract.names import read_identity
from trainer.contract.results import EXPORTS_FILE, REVISION, Exports, TrainResult, Verdict
from trainer.contract.tracking import (
    FOLDER,
    PROVENANCE_FILE,
    Begin,
    End,
    Gates,
    Made,
    Provenance,
    Record,
    Result,
)
from trainer.contract.train_config import TrackingMode, TrainConfig
from trainer.contract.yaml_io import read_yaml

INIT_S = 30.0
REPORT_FILE = "eval_report.json"


class WandbRun:
    """The run of ``run_dir`` at W&B, opened, or gone on with under its id.

    Online without a key or without the network it is kept offline, which is said.
    """

    def __init__(self, run_dir: Path, mode: TrackingMode, begin: Begin | None, known: "Known") -> None:
        self.begin, self.run_dir, self.identity = begin, run_dir, read_identity(run_dir)
        self.config = TrainConfig.model_validate(read_yaml(run_dir / "train.yaml"))
        self.provenance = read_provenance(run_dir)
        self.mode = mode
        self._run = self._opened()
        self.last_step = self._run.step - 1
        # To the server a session's summary is the run's: what earlier ones knew must be in it.
        self._summarise(known.summary)

    def tell(self, record: Record) -> dict[str, Any]:
        """Bring ``record`` to W&B; what it has to be logged as a step of its own."""
        if isinstance(record, Begin):
            self._run.config.update(facts_of(record), allow_val_change=True)
            self._use_data(record)
        elif isinstance(record, Gates):
            self._summarise(figures_of_gates(record.verdicts))
        elif isinstance(record, Result):
            self._summarise(figures_of_result(record.result))
            self._log_checkpoint(record.result)
        elif isinstance(record, End):
            self._summarise({"state": record.state, **({"message": record.message} if record.message else {})})
        elif isinstance(record, Made):
            return self._made(record)
        return {}

    def log(self, values: Mapping[str, Any], step: int) -> None:
        self._run.log(dict(values), step=step)

    def finish(self, state: str) -> None:
        self._run.finish(exit_code=1 if state == "failed" else 0)

    def _opened(self) -> Any:
        import wandb

        if self.mode == "online" and not os.environ.get("WANDB_API_KEY"):
            print("no WANDB_API_KEY in the environment: kept offline", flush=True)
            self.mode = "offline"
        if self.mode == "online":
            try:
                return self._init("online", resume="allow")
            except wandb.Error as error:
                print(f"W&B cannot be reached, kept offline: {error}", flush=True)
                self.mode = "offline"
                wandb.teardown()  # its service holds the run's id
        return self._init("offline")

    def _init(self, mode: TrackingMode, **more: Any) -> Any:
        import wandb

        tracking = self.config.tracking
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            init_timeout=INIT_S,
            save_code=False,
            # The host's name, the person's, the command line and where the code is: nobody asked for them.
            x_disable_meta=True,
            x_save_requirements=False,
            x_disable_stats=not tracking.system,
            x_stats_pid=os.getppid(),
            x_stats_sampling_interval=tracking.system_seconds,
            x_stats_track_process_tree=True,
        )
        return wandb.init(
            project=self.config.project,
            entity=tracking.entity,
            id=self.identity.id,
            name=self.identity.name or f"{self.config.name}-{self.identity.id}",
            group=self.identity.group,
            job_type=self.identity.job_type or "train",
            dir=self.run_dir / FOLDER,
            mode=mode,
            config={**self.config.model_dump(mode="json"), "lineage": self._lineage(), **facts_of(self.begin)},
            settings=settings,
            **more,
        )

    def _lineage(self) -> dict[str, Any]:
        kept = read_yaml(self.run_dir / "run.yaml")
        known = {} if self.provenance is None else self.provenance.model_dump(mode="json", exclude={"directory"})
        if revision := os.environ.get(REVISION):
            known["git_sha"] = revision
        return {"data_digest": kept["data_digest"], "config_digest": kept["config_digest"], **known}

    def _use_data(self, record: Begin) -> None:
        """The dataset version and the training set, as what the run was made of."""
        lineage, data = self._lineage(), Path(record.data)
        if self.provenance is not None:
            at = Path(self.provenance.directory)
            facts = {"version": self.provenance.dataset, "dvc": self.provenance.dataset_dvc}
            files = {path.name: path for path in at.glob("*") if path.is_file()}
            facts |= {f"sha256/{name}": digest for name, digest in self.provenance.manifests.items()}
            self._use(self._artifact("dataset", "dataset", facts, files), [plain(self.provenance.dataset)])
        facts = {name: value for name, value in lineage.items() if name in TRAINING_SET_FACTS}
        artifact = self._artifact("training-set", "dataset", facts, {"data": data / "data.json"})
        self._use(artifact, [lineage["data_digest"][:12]])

    def _log_checkpoint(self, result: TrainResult) -> None:
        best = self.run_dir / result.best_checkpoint
        facts = {
            "run_id": result.run_id,
            "sha256": sha256_of(best),
            "state_sha256": result.state_sha256,
            "step": result.best_step,
            result.monitor: result.best_metric,
            **self._lineage(),
        }
        self._add(self._artifact(f"checkpoint-{result.run_id}", "model", facts, {best.name: best}), ["best"])

    def _made(self, record: Made) -> dict[str, Any]:
        path = self.run_dir / record.path
        if record.what == "evaluation":
            return self._evaluation(path)
        if record.what == "export":
            self._export(path)
        else:
            artifact = self._artifact(f"model-card-{self.identity.id}", "model-card", {}, {})
            artifact.add_file(str(path), name=path.name)
            self._add(artifact, ["latest"])
        return {}

    def _evaluation(self, directory: Path) -> dict[str, Any]:
        import wandb

        report = EvalReport.model_validate_json((directory / REPORT_FILE).read_bytes())
        charts = read_charts(directory)
        for split, scores in report.splits.items():
            self._summarise({f"{split}/{name}": value for name, value in scores.metrics.items()})
        facts = {"checkpoint_sha256": report.checkpoint_sha256, "data_digest": report.data_digest}
        pictures = {name: directory / name for name in charts.files()}
        artifact = self._artifact(f"evaluation-{self.identity.id}", "evaluation", facts, pictures)
        for name in (REPORT_FILE, CHARTS_FILE):
            artifact.add_file(str(directory / name), name=name)
        self._add(artifact, [])
        shown: dict[str, Any] = {"slices": wandb.Table(columns=list(SLICE_COLUMNS), data=list(slice_rows(report)))}
        if self.config.tracking.media:
            for split, drawn in charts.splits.items():
                for one in drawn.drawings:
                    shown[f"{split}/{one.task}/{one.chart.kind}"] = plot_of(f"{one.task} on {split}", one.chart)
                for sheet in drawn.sheets:
                    caption = f"{sheet.metric} on {split}: best above, worst below"
                    shown[f"{split}/{sheet.task}/samples"] = wandb.Image(str(directory / sheet.file), caption=caption)
        return shown

    def _export(self, directory: Path) -> None:
        exports = Exports.model_validate_json((directory / EXPORTS_FILE).read_bytes())
        for file in exports.files:
            figures = {"p95_ms": file.latency.p95_ms, "max_relative_error": file.max_relative_error}
            self._summarise({f"export/{file.format}/{name}": value for name, value in figures.items()})
        facts = {"checkpoint_sha256": exports.checkpoint_sha256, **{f.name: f.sha256 for f in exports.files}}
        files = {name: directory / name for name in (*exports.package, EXPORTS_FILE)}
        self._add(self._artifact(f"export-{self.identity.id}", "model", {**facts, **self._lineage()}, files), [])

    def _artifact(self, name: str, kind: str, facts: Mapping[str, Any], files: Mapping[str, Path]) -> Any:
        """With references to ``files``; ``facts`` are its metadata and a file of it, so that other facts are another
        version."""
        import wandb

        known = {name: value for name, value in facts.items() if value is not None}
        artifact = wandb.Artifact(plain(name), type=kind, metadata=known)
        with artifact.new_file("lineage.json", mode="w") as stream:
            json.dump(known, stream, indent=2, sort_keys=True)
        for file, path in files.items():
            if path.exists():
                artifact.add_reference(path.absolute().as_uri(), name=file, checksum=False)
        return artifact

    def _add(self, artifact: Any, aliases: list[str]) -> None:
        self._run.log_artifact(artifact, aliases=aliases)

    def _use(self, artifact: Any, aliases: list[str]) -> None:
        # What use_artifact does with an artifact that is not there yet; that refuses to work offline, and online waits.
        self._run._log_artifact(artifact, aliases=aliases, is_user_created=True, use_after_commit=True)

    def _summarise(self, values: Mapping[str, Any]) -> None:
        self._run.summary.update({name: value for name, value in values.items() if value is not None})


TRAINING_SET_FACTS = ("data_digest", "training_set", "window", "windows", "mined_slices", "dataset", "dataset_dvc")
SLICE_COLUMNS = ("split", "slice", "samples", "metric", "value", "low", "high")


def facts_of(begin: Begin | None) -> dict[str, Any]:
    return {} if begin is None else {"data": begin.data, "begun_at_step": begin.step}


def read_provenance(run_dir: Path) -> Provenance | None:
    """Beside the run or, of a cross-validation's run, beside all of them."""
    found = next((path for at in (run_dir, run_dir.parent) if (path := at / PROVENANCE_FILE).is_file()), None)
    return None if found is None else Provenance.model_validate_json(found.read_bytes())


def plain(name: str) -> str:
    """``name`` as W&B allows it for artifacts and aliases."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)[:128]


def figures_of_gates(verdicts: tuple[Verdict, ...]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for one in verdicts:
        figures |= {f"gates/{one.gate}/passed": one.passed, f"gates/{one.gate}/severity": one.severity}
        figures |= {f"gates/{one.gate}/message": one.message}
        figures |= {f"gates/{one.gate}/{name}": value for name, value in one.figures.items()}
    return figures


def figures_of_result(result: TrainResult) -> dict[str, Any]:
    figures = result.model_dump(mode="json", exclude={"epochs", "gates", "telemetry", "warm_start"})
    measured = {} if result.telemetry is None else result.telemetry.model_dump(mode="json")
    flat = {f"telemetry/{name}": value for name, value in measured.items() if not isinstance(value, dict)}
    shares = {f"telemetry/share/{name}": value for name, value in measured.get("shares", {}).items()}
    return {f"result/{name}": value for name, value in figures.items()} | flat | shares


def slice_rows(report: EvalReport) -> Iterator[tuple[Any, ...]]:
    for split, scores in report.splits.items():
        parts: dict[str, SliceScore] = {OVERALL: scores, **scores.slices}
        for name, part in parts.items():
            for metric, value in part.metrics.items():
                low, high = part.intervals.get(metric, (None, None))
                yield split, name, part.samples, metric, value, low, high


def plot_of(title: str, chart: Curves | Confusion) -> Any:
    """A chart as W&B draws it, with its numbers in a table."""
    import wandb

    if isinstance(chart, Confusion):
        columns: tuple[str, ...] = ("Actual", "Predicted", "nPredictions")
        rows: list[tuple[object, ...]] = [
            (truth, predicted, count)
            for truth, counts in zip(chart.classes, chart.counts, strict=True)
            for predicted, count in zip(chart.classes, counts, strict=True)
        ]
        fields, preset, axes = {name: name for name in columns}, "wandb/confusion_matrix/v1", {}
    else:
        x, y = AXES[chart.kind]
        columns, rows = ("class", x, y), [point for line in chart.lines for point in points(line)]
        fields, preset = {"x": x, "y": y, "class": "class"}, "wandb/area-under-curve/v0"
        axes = {"x-axis-title": x.replace("_", " "), "y-axis-title": y.replace("_", " ")}
    table = wandb.Table(columns=list(columns), data=rows)
    return wandb.plot_table(preset, table, fields, {"title": title, **axes})


AXES = {
    "precision_recall": ("recall", "precision"),
    "roc": ("false_positive_rate", "true_positive_rate"),
    "reliability": ("confidence", "accuracy"),
}


def points(line: Line) -> Iterator[tuple[object, ...]]:
    return ((line.name, x, y) for x, y in zip(line.x, line.y, strict=True))


@dataclass(frozen=True)
class Known:
    """What W&B's own files of a run hold: the newest step (-1 without any), and the summary by the end of them."""

    last_step: int = -1
    summary: Mapping[str, Any] = field(default_factory=dict)


def known_of(run_dir: Path) -> Known:
    last, summary = -1, dict[str, Any]()
    for file in sorted((run_dir / FOLDER / "wandb").glob("*run-*/*.wandb"), key=lambda path: path.parent.name[-24:]):
        for record in _records(file):
            if record.WhichOneof("record_type") == "history":
                last = max(last, int(record.history.step.num))
            if record.WhichOneof("record_type") == "summary":
                for item in record.summary.update:
                    _put(summary, list(item.nested_key) or [item.key], json.loads(item.value_json))
    return Known(last, {name: value for name, value in summary.items() if not name.startswith("_")})


def _put(values: dict[str, Any], key: Sequence[str], value: Any) -> None:
    for part in key[:-1]:
        inner = values.get(part)
        values[part] = values = inner if isinstance(inner, dict) else {}
    values[key[-1]] = value


def _records(file: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store = DataStore()
    # A killed writer leaves a torn end, which the reader asserts to be none.
    with contextlib.suppress(AssertionError, OSError):
        store.open_for_scan(str(file))  # type: ignore[no-untyped-call]
        while (data := store.scan_data()) is not None:  # type: ignore[no-untyped-call]
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(data)
            yield record
