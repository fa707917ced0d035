"""What a training needs: which window, which windows before it, which recipes fit the data. It runs nothing.

Sensors, schedules and the command line plan here, so that all of them mean the same by "the newest window".
"""

from collections.abc import Iterable

from pydantic import ValidationError

from trainer.contract.errors import ContractError, Problem
from trainer.contract.slices import read_slices
from trainer.contract.train_config import TrainConfig
from training_assets import partitions
from training_assets.places import Places
from training_assets.profiles import Profile
from training_assets.records import DatasetVersion
from training_assets.stores.dvc import DvcStore
from training_assets.stores.record_store import MissingRecord, RecordStore

RECORD_FILE = "dataset.json"
"""In the directory of a dataset version: its record."""


def dataset_of(places: Places, dvc: DvcStore, version: str | None = None) -> DatasetVersion:
    """The current dataset version, or the pinned one whose digest begins with ``version``.

    Raises:
        ContractError: there is none.
    """
    try:
        if version is None:
            return RecordStore(places).dataset()
        path = places.dataset(dvc.pinned(version).version) / RECORD_FILE
        return DatasetVersion.model_validate_json(path.read_bytes())
    except MissingRecord as why:
        problem, advice = Problem("store", str(why), "a dataset version"), "Deliver data first: deliver DIR."
    except (OSError, ValidationError) as why:
        problem = Problem(f"dataset version {version}", str(why), "its rows by window, as this code keeps them")
        advice = "Bring it back (python -m training_assets restore) and deliver it again."
    raise ContractError("no such dataset version", [problem], advice)


def chosen_window(profile: Profile, dataset: DatasetVersion, asked: str | None = None) -> str:
    """The window to train: the asked one, or the newest that has rows.

    Raises:
        ContractError: the asked one is no window, or no window has rows.
    """
    known = set(partitions.window_partitions(profile.windows).get_partition_keys())
    with_rows = [name for name in dataset.windows if name in known]
    expected = f"one of the windows with rows: {', '.join(with_rows) or 'there are none'}"
    if asked is not None and asked not in known:
        raise ContractError("no such window", [Problem("--window", asked, expected)])
    if not with_rows:
        found = f"rows in {', '.join(dataset.windows)} only"
        raise ContractError("no window to train", [Problem("delivery", found, f"rows since {profile.windows.start}")])
    return asked or max(with_rows)


def windows_behind(profile: Profile, recipes: Iterable[TrainConfig], window: str) -> list[str]:
    """The windows, oldest first and ``window`` last, that at least one of the recipes looks back on from ``window``."""
    definition = partitions.window_partitions(profile.windows)
    known = set(definition.get_partition_keys())
    count = max(one.window.count for one in recipes)
    return [name for name in partitions.rolling_names(definition, window, count) if name in known]


def misfits(recipe: TrainConfig, dataset: DatasetVersion, places: Places) -> list[str]:
    """Why ``recipe`` cannot learn from ``dataset``; empty when it can."""
    return recipe.misfits(read_slices(places.absolute(dataset.directory) / "slices.yaml"), dataset.labels)
