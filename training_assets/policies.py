"""Policies: what holds for many assets at once. Owners, kinds, groups and tags are given here and nowhere else;
retries and pools too, by name. What an asset does is in ``assets/``."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import dagster as dg

from trainer.contract.errors import ContractError
from trainer.contract.train_config import TrainConfig
from training_assets.flow import described
from training_assets.profiles import Profile
from training_assets.stores.fast_storage.base import StorageUnavailable
from training_assets.stores.inbox import InboxUnreachable
from training_assets.stores.objects import StoreUnreachable

UNREACHABLE_RETRIES, UNREACHABLE_RETRY_SECONDS = 2, 60.0
"""For assets that ask an inbox, an archive or a fast storage: where it cannot be reached, it is asked again."""

GPU_POOL = "gpu"
"""Trainings wait for a slot of this pool, so that two of them do not share the accelerator."""

DATASET_GROUP, SWEEPS_GROUP, BROKEN_GROUP = "dataset", "sweeps", "broken_recipes"
"""The graph reads from the dataset over a group for each recipe to the sweeps."""
TUNED = ("trial", "sweep_report")
"""The assets of a recipe that are in the group of the sweeps."""

DEFAULT_OWNER = "team:perception"
MOST_KINDS = 3
"""More of them Dagster refuses."""
KINDS: Mapping[str, tuple[str, ...]] = {
    "train": ("json",),
    "val": ("json",),
    "test": ("json",),
    "slices": ("yaml",),
    "windows": ("json",),
    "dataset_version": ("dvc", "dataset"),
    "reference_profile": ("evidently", "html"),
    "staged_shards": ("webdataset",),
    "eval_shards": ("webdataset",),
    "mined_slice": ("webdataset",),
    "training_set": ("json",),
    "checkpoint": ("pytorch",),
    "exported_model": ("onnx", "torchscript", "pytorch"),
    "eval_report": ("dashboard", "json"),
    "model_card": ("markdown",),
    "registry_entry": ("registry",),
    "slice_eval": ("json", "pytorch"),
    "trial": ("pytorch",),
    "sweep_report": ("html", "json"),
    "broken_recipe": ("yaml",),
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
    assets: Iterable[dg.AssetsDefinition | dg.AssetSpec], recipes: Mapping[str, TrainConfig], profile: Profile
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """``assets`` with the group, owners, kinds and tags that their keys, recipes and the profile ask for, and with what
    they take and make below their descriptions."""
    return list(dg.map_asset_specs(lambda spec: _with_policies(spec, recipes, profile), assets))


def _with_policies(spec: dg.AssetSpec, recipes: Mapping[str, TrainConfig], profile: Profile) -> dg.AssetSpec:
    prefix, name = spec.key.path[0], spec.key.path[-1]
    recipe = recipes.get(prefix) if len(spec.key.path) > 1 else None
    owner = recipe.owner if recipe is not None and recipe.owner else DEFAULT_OWNER
    return spec.replace_attributes(
        description=described(name, spec.description),
        group_name=_group(name, recipe),
        owners=[owner],
        kinds=set(_kinds(name, recipe, profile)),
        tags={**spec.tags, **({"project": recipe.project, "recipe": recipe.name} if recipe else {})},
    )


def _group(name: str, recipe: TrainConfig | None) -> str:
    if recipe is None:
        return BROKEN_GROUP if name == "broken_recipe" else DATASET_GROUP
    return SWEEPS_GROUP if name in TUNED else recipe.name


def _kinds(name: str, recipe: TrainConfig | None, profile: Profile) -> Sequence[str]:
    """What it is, and where it is kept or told, by the profile and by the recipe's tracking."""
    told = [kind for one in profile.registries for kind in ("sagemaker", "wandb") if getattr(one, kind) is not None]
    places = {
        **dict.fromkeys(("train", "val", "test", "slices", "mined_slice"), _in_s3(profile.inbox)),
        "checkpoint": [*_tracked(recipe), *_in_s3(profile.checkpoint_store or "")],
        "trial": _tracked(recipe),
        "registry_entry": [*_in_s3(profile.archive), *told],
    }
    return [*KINDS[name], *dict.fromkeys(places.get(name, []))][:MOST_KINDS]


def _tracked(recipe: TrainConfig | None) -> list[str]:
    return ["wandb"] if recipe is not None and recipe.tracking.mode != "disabled" else []


def _in_s3(uri: str) -> list[str]:
    return ["s3"] if uri.startswith("s3://") else []
