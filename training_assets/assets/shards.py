"""Rows staged as shards on fast storage. Which of them a recipe trains on is decided in ``training.py``."""

from pathlib import Path
from typing import Any

import dagster as dg

from trainer.contract.delivery import FILES, file_digests
from trainer.contract.files import digest_of
from trainer.contract.names import PLAIN_NAME, flaw_of_name
from training_assets import metadata, partitions
from training_assets.launchers import Launcher, LaunchSpec
from training_assets.launchers.session import new_attempt, run_to_end
from training_assets.places import Places
from training_assets.profiles import Profile
from training_assets.records import DatasetVersion, EvalShards, ShardList
from training_assets.stores.inbox import Inbox
from training_assets.versions import CONTRACT, code_version

SOURCES = (CONTRACT, "trainer/data/shards.py", "training_assets/assets/shards.py")
THREADS = 2


def shard_assets(windows: dg.TimeWindowPartitionsDefinition) -> list[dg.AssetsDefinition]:
    return [_staged_shards(windows), eval_shards, mined_slice]


def _staged_shards(windows: dg.TimeWindowPartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        partitions_def=windows,
        backfill_policy=dg.BackfillPolicy.single_run(),
        code_version=code_version(*SOURCES),
    )
    def staged_shards(
        context: dg.AssetExecutionContext,
        dataset_version: DatasetVersion,
        profile: dg.ResourceParam[Profile],
        places: dg.ResourceParam[Places],
        launcher: dg.ResourceParam[Launcher],
    ) -> dg.MaterializeResult[dict[str, ShardList]]:
        """The window's rows of the train split as WebDataset shards, each frame staged once.

        Shards are content-addressed: windows that share rows with what is there write nothing. A range of windows
        is staged by one launch; its data version is then that of the whole range.
        """
        same_delivery(dataset_version)
        keys = list(context.partition_keys)
        windows = [argument for key in keys for argument in ("--window", key)]
        arguments = ("--split", "train", "--cadence", profile.windows.cadence, *windows)
        lists = stage(context, launcher, places, dataset_version, arguments, keys)
        for key, staged in lists.items():
            context.add_asset_metadata(shard_metadata(staged), asset_key=context.asset_key, partition_key=key)
        version = digest_of([lists[key].digest for key in keys])
        return dg.MaterializeResult(value=lists, data_version=dg.DataVersion(version))

    return staged_shards


@dg.asset(code_version=code_version(*SOURCES))
def eval_shards(
    context: dg.AssetExecutionContext,
    dataset_version: DatasetVersion,
    places: dg.ResourceParam[Places],
    launcher: dg.ResourceParam[Launcher],
) -> dg.MaterializeResult[EvalShards]:
    """The val and the test split as shards."""
    same_delivery(dataset_version)
    splits = {s: stage(context, launcher, places, dataset_version, ("--split", s), [s])[s] for s in ("val", "test")}
    record = EvalShards(val=splits["val"], test=splits["test"])
    found = {f"{split}/{name}": value for split, part in splits.items() for name, value in shard_metadata(part).items()}
    return dg.MaterializeResult(value=record, data_version=dg.DataVersion(record.digest), metadata=found)


@dg.asset(partitions_def=partitions.slices, code_version=code_version(*SOURCES))
def mined_slice(
    context: dg.AssetExecutionContext,
    dataset_version: DatasetVersion,
    inbox: dg.ResourceParam[Inbox],
    places: dg.ResourceParam[Places],
    launcher: dg.ResourceParam[Launcher],
) -> dg.MaterializeResult[ShardList]:
    """One auto-mined slice (`slices/<name>.manifest` of the inbox) as shards."""
    name = context.partition_key
    manifest = slice_manifest(inbox, name, places)
    arguments = ("--split", "train", "--manifest", str(manifest))
    staged = stage(context, launcher, places, dataset_version, arguments, [name])[name]
    return dg.MaterializeResult(
        value=staged, data_version=dg.DataVersion(staged.digest), metadata=shard_metadata(staged)
    )


def stage(
    context: dg.AssetExecutionContext,
    launcher: Launcher,
    places: Places,
    dataset: DatasetVersion,
    arguments: tuple[str, ...],
    names: list[str],
) -> dict[str, ShardList]:
    """Launch ``trainer shard`` on the delivery; the list that it wrote for each of ``names``."""
    attempt = new_attempt()
    directory = places.launch("shard", context.run.run_id)
    lists = directory / "attempts" / attempt
    out = ("--out", str(places.shards), "--list", str(lists))
    command = ("shard", dataset.delivery, *out, *arguments)
    run_to_end(context, launcher, LaunchSpec(command, directory, attempt, threads=THREADS))
    return {name: ShardList.model_validate_json((lists / f"{name}.json").read_bytes()) for name in names}


def same_delivery(pinned: DatasetVersion) -> None:
    """Refuse to stage what was not checked and pinned.

    Raises:
        dg.Failure: names the files that changed.
    """
    delivery = Path(pinned.delivery)
    found = file_digests(delivery) if all((delivery / name).is_file() for name in FILES) else {}
    changed = [name for name in FILES if found.get(name) != pinned.files[name]]
    if changed:
        raise dg.Failure(
            f"the delivery {delivery} is not the pinned dataset_version {pinned.version[:12]}: found other contents in"
            f" {', '.join(changed)}. Materialise dataset_version first: it checks and pins the new delivery.",
            allow_retries=False,
        )


def slice_manifest(inbox: Inbox, name: str, places: Places) -> Path:
    """The manifest of a mined slice; dynamic partition keys come unchecked, so the name is checked here.

    Raises:
        dg.Failure: not a plain name, or there is no such manifest.
    """
    if flaw := flaw_of_name(name):
        raise dg.Failure(f"partition of slices: found {flaw}, expected {PLAIN_NAME}", allow_retries=False)
    try:
        return inbox.slice_manifest(name, places.fetched / "slices")
    except FileNotFoundError as error:
        expected = "a manifest that mining delivered under this name"
        raise dg.Failure(f"partition '{name}': found no {error}, expected {expected}", allow_retries=False) from None


def shard_metadata(staged: ShardList) -> dict[str, Any]:
    return {
        "samples": staged.samples,
        "shards": len(staged.shards),
        "bytes_staged": staged.bytes_staged,
        "bytes_reused": staged.bytes_reused,
        "labels": metadata.counts(staged.label_counts, "label"),
        "content": metadata.table(
            ("shard", "samples", "bytes", "sha256"), [(s.key, s.samples, s.bytes, s.sha256[:12]) for s in staged.shards]
        ),
    }
