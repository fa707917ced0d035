"""The data as curation delivers it: observed, checked, pinned, described. Staging it is in ``shards.py``."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from trainer.contract.delivery import Delivery, count_labels, file_digests, read_delivery
from trainer.contract.errors import ContractError
from trainer.contract.files import sha256_of, write_json
from trainer.contract.reference_profile import PROFILE_FILE, page_of, read_profile
from trainer.contract.windows import Cadence, window_of
from training_assets import metadata
from training_assets.assets.shards import same_delivery
from training_assets.launchers import Launcher, LaunchSpec
from training_assets.launchers.session import new_attempt, run_to_end
from training_assets.places import Places
from training_assets.profiles import Profile
from training_assets.records import DatasetVersion
from training_assets.stores.dvc import DvcStore
from training_assets.stores.inbox import DeliveryFound, Inbox
from training_assets.versions import CONTRACT, code_version

GOLDEN = {"train": "golden_train.manifest", "val": "golden_val.manifest", "test": "golden_test.manifest"}
GOLDEN_FILES = {**GOLDEN, "slices": "slices.yaml"}
HERE = "training_assets/assets/dataset.py"
PROGRESS_SECONDS = 5.0
PROFILE_THREADS = 2


def golden_key(part: str) -> dg.AssetKey:
    return dg.AssetKey(["golden", part])


def dataset_assets() -> list[dg.AssetsDefinition]:
    return [golden, dataset_version, reference_profile]


class DatasetConfig(dg.Config):
    """Which delivery."""

    delivery: str = Field(default="", description="Its name in the inbox; empty: the newest complete one.")


@dg.multi_observable_source_asset(
    name="golden",
    specs=[
        dg.AssetSpec(golden_key(part), description=f"`{file}` of the delivery, as curation made it.")
        for part, file in GOLDEN_FILES.items()
    ],
)
def golden(config: DatasetConfig, inbox: dg.ResourceParam[Inbox]) -> Iterator[dg.ObserveResult]:
    """The delivery's files; their data versions are their sha256."""
    found = delivered(inbox, config.delivery)
    for part, file in GOLDEN_FILES.items():
        version = dg.DataVersion(found.digests[file])
        yield dg.ObserveResult(asset_key=golden_key(part), data_version=version, metadata={"delivery": found.name})


@dg.asset(deps=[golden_key(part) for part in GOLDEN_FILES], code_version=code_version(CONTRACT, HERE))
def dataset_version(
    context: dg.AssetExecutionContext,
    config: DatasetConfig,
    profile: dg.ResourceParam[Profile],
    inbox: dg.ResourceParam[Inbox],
    places: dg.ResourceParam[Places],
    dvc: dg.ResourceParam[DvcStore],
) -> dg.MaterializeResult[DatasetVersion]:
    """The delivery, wholly checked and pinned with DVC: every row, every image, no sample in two splits.

    Its data version is the digest of the delivery; `restore` brings any pinned version back byte for byte.
    """
    root = inbox.fetch(delivered(inbox, config.delivery), places.fetched, _reporter(context, "fetched", "files"))
    delivery = checked_delivery(root, _reporter(context, "checked", "samples"))
    version = delivery.digest
    directory = places.dataset(version)
    pinned = dvc.pin(root, version)
    context.log.info(f"pinned as {pinned.dvc_hash}")
    facts = _facts(delivery, profile.windows.cadence)
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(delivery.root / "slices.yaml", directory / "slices.yaml")
    _write_features(delivery, directory / "features.parquet")
    record = DatasetVersion(
        version=version,
        directory=places.relative(directory),
        delivery=str(root),
        files=file_digests(delivery.root),
        dvc_hash=pinned.dvc_hash,
        rows={split: len(rows) for split, rows in delivery.rows.items()},
        labels=dict(count_labels(row for _, row in delivery.all_rows())) | _label_kinds(delivery),
        windows=facts["windows"],
        licences=facts["licences"],
    )
    write_json(directory / "dataset.json", {**record.model_dump(mode="json"), **facts})
    return dg.MaterializeResult(
        value=record, data_version=dg.DataVersion(version), metadata=_dataset_metadata(record, facts, directory)
    )


@dg.asset(code_version=code_version(CONTRACT, "trainer/data/features.py", "trainer/data/profile.py", HERE))
def reference_profile(
    context: dg.AssetExecutionContext,
    dataset_version: DatasetVersion,
    places: dg.ResourceParam[Places],
    launcher: dg.ResourceParam[Launcher],
) -> dg.MaterializeResult[None]:
    """Features of the train split: what the drift gate of each training compares its batches with.

    With it come Evidently's pages on how val and test differ from train.
    """
    same_delivery(dataset_version)
    out, scratch = places.absolute(dataset_version.directory), places.launch("profile", context.run.run_id)
    command = ("profile", dataset_version.delivery, "--out", str(out))
    run_to_end(context, launcher, LaunchSpec(command, scratch, new_attempt(), threads=PROFILE_THREADS))
    reference = read_profile(out / PROFILE_FILE)
    others = reference.distances.values()
    rows = [
        (name, one.mean, one.std, one.values[0], one.values[-1], *(far.get(name) for far in others))
        for name, one in reference.features.items()
    ]
    header = ("feature", "mean", "std", "min", "max", *(f"{split} from train" for split in reference.distances))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(sha256_of(out / PROFILE_FILE)),
        metadata={
            "samples": reference.samples,
            "features": metadata.table(header, rows),
            **{f"drift/{split}": max(far.values()) for split, far in reference.distances.items() if far},
            **{f"report/{split}": dg.MetadataValue.path(str(out / page_of(split))) for split in reference.distances},
            "profile": dg.MetadataValue.path(str(out / PROFILE_FILE)),
        },
    )


def delivered(inbox: Inbox, name: str) -> DeliveryFound:
    """The delivery ``name``, or the newest, or a failure that is not retried."""
    try:
        return inbox.find(name)
    except ContractError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def checked_delivery(root: Path, progress: Callable[[int, int], None]) -> Delivery:
    """The delivery, or a failure that holds the whole report and is not retried."""
    try:
        return read_delivery(root, progress=progress)
    except ContractError as error:
        raise dg.Failure(str(error), metadata={"problems": len(error.problems)}, allow_retries=False) from None


def _reporter(context: dg.AssetExecutionContext, done_to: str, what: str) -> Callable[[int, int], None]:
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            context.log.info(f"{done_to} {done} of {total} {what}")

    return report


def _facts(delivery: Delivery, cadence: Cadence) -> dict[str, Any]:
    """Counts by window, slice, attribute, licence and origin, and labels of each split."""
    everything = [row for _, row in delivery.all_rows()]
    attributes: dict[str, Counter[str]] = {}
    for row in everything:
        for name, value in row.attributes.items():
            attributes.setdefault(name, Counter())[str(value)] += 1
    return {
        "windows": dict(
            sorted(Counter(window_of(r.captured_at, cadence).name for r in delivery.rows["train"]).items())
        ),
        "slices": {
            one.name: {split: sum(map(one.holds, rows)) for split, rows in delivery.rows.items()}
            for one in delivery.slices.slices
        },
        "classes": {split: dict(count_labels(rows)) for split, rows in delivery.rows.items()},
        "attributes": {name: dict(found.most_common()) for name, found in sorted(attributes.items())},
        "licences": dict(Counter(row.licence for row in everything).most_common()),
        "origins": dict(Counter(row.origin for row in everything).most_common()),
        "captured_at": dict(Counter(row.captured_at_source for row in everything)),
    }


def _label_kinds(delivery: Delivery) -> dict[str, int]:
    """How many rows were annotated with each kind of label: what ``TrainConfig.misfits`` asks."""
    rows = [row for _, row in delivery.all_rows()]
    return {kind: sum(row.has_label(kind) for row in rows) for kind in ("boxes", "semantic", "lanes", "tracks")}


def _write_features(delivery: Delivery, path: Path) -> None:
    import pandas as pd

    pd.DataFrame([_features(delivery, split, row) for split, row in delivery.all_rows()]).to_parquet(path, index=False)


def _features(delivery: Delivery, split: str, row: Any) -> dict[str, Any]:
    facts = delivery.facts.get(row.sample_id)  # none without an image
    boxes = Counter(box.category for box in row.boxes or ())
    return {
        "sample_id": row.sample_id,
        "split": split,
        **{f"attributes.{name}": str(value) for name, value in row.attributes.items()},
        **({name: getattr(facts, name) for name in ("luma_mean", "luma_std", "width", "height")} if facts else {}),
        "boxes": sum(boxes.values()),
        **{f"boxes.{category}": count for category, count in boxes.items()},
    }


def _dataset_metadata(record: DatasetVersion, facts: dict[str, Any], directory: Path) -> dict[str, Any]:
    splits: Sequence[str] = list(record.rows)
    slices = [(name, *(by_split[split] for split in splits)) for name, by_split in facts["slices"].items()]
    labels = sorted({name for found in facts["classes"].values() for name in found})
    return {
        "dvc_hash": record.dvc_hash,
        **{f"rows/{split}": count for split, count in record.rows.items()},
        "windows": metadata.counts(record.windows, "window"),
        "slices": metadata.table(("slice", *splits), slices),
        "labels": metadata.table(
            ("label", *splits), [(name, *(facts["classes"][s].get(name, 0) for s in splits)) for name in labels]
        ),
        "attributes": metadata.table(
            ("attribute", "values"),
            [(name, ", ".join(f"{v} {n}" for v, n in found.items())) for name, found in facts["attributes"].items()],
        ),
        "licences": metadata.counts(record.licences, "licence"),
        "directory": dg.MetadataValue.path(str(directory)),
    }
