"""Policies: what holds for many assets at once. Owners, kinds, groups and tags are given here and nowhere else;
retries and pools too, by name. What an asset does is in ``assets/``."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping

import dagster as dg

from trainer.contract.errors import ContractError
from trainer.contract.train_config import TrainConfig
from training_assets.stores.fast_storage.base import StorageUnavailable
from training_assets.stores.inbox import InboxUnreachable
from training_assets.stores.objects import StoreUnreachable

UNREACHABLE_RETRIES, UNREACHABLE_RETRY_SECONDS = 2, 60.0
"""For assets that ask an inbox, an archive or a fast storage: where it cannot be reached, it is asked again."""

GPU_POOL = "gpu"
"""Trainings wait for a slot of this pool, so that two of them do not share the accelerator."""

DATASET_GROUP = "dataset"
DEFAULT_OWNER = "team:perception"
KINDS: Mapping[str, set[str]] = {
    "train": {"json"},
    "val": {"json"},
    "test": {"json"},
    "slices": {"yaml"},
    "windows": {"json"},
    "dataset_version": {"dvc"},
    "reference_profile": {"evidently", "html"},
    "staged_shards": {"webdataset"},
    "eval_shards": {"webdataset"},
    "mined_slice": {"webdataset"},
    "training_set": {"json"},
    "checkpoint": {"pytorch"},
    "exported_model": {"onnx", "torchscript"},
    "eval_report": {"json", "pytorch"},
    "model_card": {"markdown"},
    "registry_entry": {"registry"},
    "slice_eval": {"json", "pytorch"},
    "trial": {"pytorch"},
    "sweep_report": {"html", "json"},
    "broken_recipe": {"yaml"},
}


@contextlib.contextmanager
def reaching_storage() -> Iterator[None]:
    """What an asset asks an inbox or the archive in here is asked again where it cannot be reached; bad input is not.

    Raises:
        dg.RetryRequested, dg.Failure
    """
    try:
        yield
    except (InboxUnreachable, StoreUnreachable, StorageUnavailable) as error:
        raise dg.RetryRequested(max_retries=UNREACHABLE_RETRIES, seconds_to_wait=UNREACHABLE_RETRY_SECONDS) from error
    except ContractError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def with_policies(
    assets: Iterable[dg.AssetsDefinition | dg.AssetSpec], recipes: Mapping[str, TrainConfig]
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """``assets`` with the group, owners, kinds and tags that their keys and recipes ask for."""
    return list(dg.map_asset_specs(lambda spec: _with_policies(spec, recipes), assets))


def _with_policies(spec: dg.AssetSpec, recipes: Mapping[str, TrainConfig]) -> dg.AssetSpec:
    prefix, name = spec.key.path[0], spec.key.path[-1]
    recipe = recipes.get(prefix) if len(spec.key.path) > 1 else None
    owner = recipe.owner if recipe is not None and recipe.owner else DEFAULT_OWNER
    return spec.replace_attributes(
        group_name=recipe.name if recipe else "broken_recipes" if name == "broken_recipe" else DATASET_GROUP,
        owners=[owner],
        kinds=KINDS[name],
        tags={**spec.tags, **({"project": recipe.project} if recipe else {})},
    )
