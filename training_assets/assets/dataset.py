"""The data as curation delivers it: observed, checked, pinned, described. Staging it is in ``shards.py``."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from pydantic import Field

from trainer.contract.delivery import DeliveryReader, Progress, Sample, file_digests
from trainer.contract.errors import ContractError
from trainer.contract.files import sha256_of, write_bytes, write_json
from trainer.contract.pinned import NO_ROWS, RowWriter, WindowRows
from trainer.contract.reference_profile import PROFILE_FILE, page_of, read_profile
from trainer.contract.slices import SLICES_FILE
from training_assets import metadata
from training_assets.dataset_facts import FeatureTable, Tally
from training_assets.launchers import Launcher, LaunchSpec
from training_assets.launchers.session import new_attempt, run_to_end
from training_assets.partitions import window_partitions
from training_assets.places import Places
from training_assets.planning import RECORD_FILE, dataset_of
from training_assets.policies import reaching_storage
from training_assets.profiles import Profile
from training_assets.records import DatasetVersion
from training_assets.staging import Stager, Told
from training_assets.stores.dvc import DvcStore
from training_assets.stores.fast_storage import FastStorage
from training_assets.stores.inbox import DeliveryFound, Inbox
from training_assets.stores.record_store import WHOLE, RecordStore
from training_assets.versions import CONTRACT, code_version

GOLDEN = {"train": "golden_train.manifest", "val": "golden_val.manifest", "test": "golden_test.manifest"}
GOLDEN_FILES = {**GOLDEN, "slices": "slices.yaml"}
GOLDEN_WINDOWS = dg.AssetKey(["golden", "windows"])
FACTS_FILE = "facts.json"
HERE = "training_assets/assets/dataset.py"
PROFILE_SOURCES = (CONTRACT, *(f"trainer/data/{name}.py" for name in ("features", "order", "profile")), HERE)
PROGRESS_SECONDS = 5.0
PROFILE_THREADS = 2


def golden_key(part: str) -> dg.AssetKey:
    return dg.AssetKey(["golden", part])


def dataset_assets(windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    return [golden, dataset_version, _golden_windows(windows), reference_profile]


class DatasetConfig(dg.Config):
    """Which delivery."""

    delivery: str = Field(default="", description="Its name in the inbox; empty: the newest complete one.")


@dg.multi_observable_source_asset(  # type: ignore[untyped-decorator]
    name="golden",
    specs=[
        dg.AssetSpec(golden_key(part), description=f"`{file}` of the delivery, as curation made it.")
        for part, file in GOLDEN_FILES.items()
    ],
)
def golden(config: DatasetConfig, inbox: dg.ResourceParam[Inbox]) -> Iterator[dg.ObserveResult]:
    """The delivery's files; their data versions are their sha256."""
    with reaching_storage():
        found = inbox.find(config.delivery)
    for part, file in GOLDEN_FILES.items():
        version = dg.DataVersion(found.digests[file])
        yield dg.ObserveResult(asset_key=golden_key(part), data_version=version, metadata={"delivery": found.name})


@dg.asset(
    deps=[golden_key(part) for part in GOLDEN_FILES],
    code_version=code_version(CONTRACT, "training_assets/dataset_facts.py", HERE),
)
def dataset_version(
    context: dg.AssetExecutionContext,
    config: DatasetConfig,
    profile: dg.ResourceParam[Profile],
    inbox: dg.ResourceParam[Inbox],
    places: dg.ResourceParam[Places],
    dvc: dg.ResourceParam[DvcStore],
    storage: dg.ResourceParam[FastStorage],
) -> Iterator[dg.AssetObservation | dg.MaterializeResult[DatasetVersion]]:
    """The delivery, wholly checked and pinned with DVC: every row, every image, no sample in two splits.

    Its data version is the digest of the delivery; `restore` brings any pinned version back byte for byte. Its rows
    are kept by window, and each window whose rows changed is observed as `golden/windows`.
    """
    with reaching_storage():
        found = inbox.find(config.delivery)
    told = Told(context)
    root = _brought(found, inbox, storage, told) or _fetched(context, found, inbox, places)
    scratch = places.launch("dataset", context.run.run_id) / new_attempt()
    rows, features = RowWriter(scratch, profile.windows.cadence), FeatureTable()
    reader, tally = checked_delivery(root, _reporter(context, "checked", "samples"), rows.add, features.add)
    directory = places.dataset(reader.digest)
    pinned = dvc.pin(root, reader.digest)
    context.log.info(f"pinned as {pinned.dvc_hash}")
    windows = rows.finish(directory)
    shutil.rmtree(scratch)
    write_bytes(directory / SLICES_FILE, (root / SLICES_FILE).read_bytes())
    features.write(directory / "features.parquet")
    record = DatasetVersion(
        version=reader.digest,
        directory=places.relative(directory),
        delivery=str(root),
        files=reader.files,
        dvc_hash=pinned.dvc_hash,
        cadence=profile.windows.cadence,
        rows=dict(tally.rows),
        labels=tally.labels,
        windows={name: window.rows for name, window in windows.items()},
        licences=dict(tally.licences.most_common()),
    )
    write_json(directory / RECORD_FILE, record.model_dump(mode="json"))
    write_json(directory / FACTS_FILE, tally.facts())
    # What is observed is there before it is observed, and the version is materialised last: killed in between, it is
    # out of date and made again, and nothing was staged of rows that Dagster does not know of.
    RecordStore(places).write(context.asset_key, WHOLE, record)
    yield from observed_windows(context.instance, profile, windows)
    yield dg.MaterializeResult(
        value=record,
        data_version=dg.DataVersion(record.version),
        metadata={**_dataset_metadata(record, tally.facts(), directory), **told.metadata},
    )


def _brought(found: DeliveryFound, inbox: Inbox, storage: FastStorage, told: Told) -> Path | None:
    """The delivery on the fast storage; None where the storage has no means to bring it.

    Raises:
        dg.Failure, dg.RetryRequested
    """
    source = f"{inbox.uri.rstrip('/')}/{found.name}"
    if not storage.brings(source):
        return None
    with reaching_storage():
        root = storage.bring(source, told)
    if (got := file_digests(root)) != dict(found.digests):
        changed = ", ".join(name for name in got if got[name] != found.digests[name])
        raise dg.Failure(
            f"delivery {source} is not what was brought to {root}: found other contents in {changed}, expected a"
            " delivery left as it is. Deliver it again under another name.",
            allow_retries=False,
        )
    return root


def _fetched(context: dg.AssetExecutionContext, found: DeliveryFound, inbox: Inbox, places: Places) -> Path:
    with reaching_storage():
        return inbox.fetch(found, places.fetched, _reporter(context, "fetched", "files"))


def _golden_windows(windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetSpec:
    return dg.AssetSpec(
        GOLDEN_WINDOWS,
        deps=["dataset_version"],
        partitions_def=windows,
        description="The rows of train in each window, as `dataset_version` found them; data version = their sha256.",
    )


def observed_windows(
    instance: dg.DagsterInstance, profile: Profile, windows: Mapping[str, WindowRows]
) -> Iterator[dg.AssetObservation]:
    """An observation for each window whose rows are others than Dagster knows, one that lost all of them included."""
    known = instance.event_log_storage.get_latest_tags_by_partition(
        GOLDEN_WINDOWS, dg.DagsterEventType.ASSET_OBSERVATION, [DATA_VERSION_TAG]
    )
    for name in window_partitions(profile.windows).get_partition_keys():
        now = windows.get(name, WindowRows(0, NO_ROWS))
        if known.get(name, {}).get(DATA_VERSION_TAG, NO_ROWS) != now.sha256:
            yield dg.AssetObservation(
                GOLDEN_WINDOWS, partition=name, tags={DATA_VERSION_TAG: now.sha256}, metadata={"rows": now.rows}
            )


@dg.asset(code_version=code_version(*PROFILE_SOURCES))
def reference_profile(
    context: dg.AssetExecutionContext,
    dataset_version: DatasetVersion,
    places: dg.ResourceParam[Places],
    launcher: dg.ResourceParam[Launcher],
    dvc: dg.ResourceParam[DvcStore],
    storage: dg.ResourceParam[FastStorage],
) -> dg.MaterializeResult[None]:
    """Features of the train split: what the drift gate of each training compares its batches with.

    With it come Evidently's pages on how val and test differ from train.
    """
    out, scratch = places.absolute(dataset_version.directory), places.launch("profile", context.run.run_id)
    with Stager(context, launcher, places, dvc, storage).pictures(dataset_version) as pictures:
        command = ("profile", str(pictures), "--pinned", str(out), "--out", str(out))
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


def checked_delivery(root: Path, progress: Progress, *takers: Callable[[Sample], None]) -> tuple[DeliveryReader, Tally]:
    """Read the delivery through, handing each sample to ``takers`` too.

    Raises:
        dg.Failure: holds the whole report, and is not retried.
    """
    try:
        reader = DeliveryReader(root, progress=progress)
        tally = Tally(reader.slices)
        for sample in reader:
            for take in (tally.add, *takers):
                take(sample)
    except ContractError as error:
        raise dg.Failure(str(error), metadata={"problems": len(error.problems)}, allow_retries=False) from None
    if changed := [name for name, digest in file_digests(root).items() if digest != reader.files[name]]:
        raise dg.Failure(
            f"delivery {root} changed while it was checked: found other contents in {', '.join(changed)}, expected"
            " files that nobody writes to. Deliver it again under another name.",
            allow_retries=False,
        )
    return reader, tally


def pinned_dataset(version: str, places: Places, dvc: DvcStore) -> DatasetVersion:
    """The record of a pinned version, which may be given by its first characters.

    Raises:
        dg.Failure: there is no such version, or its rows are not kept.
    """
    try:
        return dataset_of(places, dvc, version)
    except ContractError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def _reporter(context: dg.AssetExecutionContext, done_to: str, what: str) -> Progress:
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            context.log.info(f"{done_to} {done} of {total} {what}")

    return report


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
