"""The training of ``make demo``, whole and through Dagster: where the demo runs it, and on two nodes of any backend."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg

from training_assets.control import Plan, job_name
from training_assets.definitions import build_defs
from training_assets.demo import made_scenes, put_into_inbox
from training_assets.in_process import finish, refresh, refresh_dataset, stage_windows
from training_assets.jobs import DATASET_ASSETS
from training_assets.launchers import Handle, Launcher, LaunchSpec
from training_assets.places import Places
from training_assets.planning import chosen_window
from training_assets.profiles import Profile, load_profile
from training_assets.recipes import load_recipes
from training_assets.records import Checkpoint
from training_assets.refresh import Refresher
from training_assets.stores.inbox import inbox_of
from training_assets.stores.record_store import RecordStore

RECIPE = "scenes_multitask"
TWO_NODES = ("launch.num_nodes=2", "launch.devices=1")


@dataclass(frozen=True)
class Trained:
    """A checkpoint, and how many nodes said in its run's directory how they ended."""

    checkpoint: Checkpoint
    nodes: int


@dataclass(frozen=True)
class Demo:
    """A store as the demo leaves it before it trains ``window``. Nothing is trained in it: each training has a copy."""

    store: Path
    window: str

    def trained(self, store: Path, launcher: Any = None, overrides: tuple[str, ...] = ()) -> Trained:
        """What ``scenes_multitask/checkpoint`` is in ``store``, which becomes a copy of the demo's.

        Without ``launcher`` and ``overrides`` it is trained as the demo itself does.

        Raises:
            Stopped: the training did not succeed.
        """
        shutil.copytree(self.store, store, symlinks=True, dirs_exist_ok=True)
        given = {} if launcher is None else {"launcher": launcher}
        key = dg.AssetKey([RECIPE, "checkpoint"])
        plan = Plan(recipe=RECIPE, window=self.window, cause="manual", because="compared", overrides=overrides)
        with dg.DagsterInstance.ephemeral() as instance:
            refresher = Refresher(build_defs(profile=profile_of(store), resource_overrides=given), instance)
            finish(refresher.run(job_name(RECIPE), [key], [self.window], plan.run_config()))
        places = Places(store)
        checkpoint = RecordStore(places).read(key, self.window, Checkpoint)
        nodes = places.absolute(checkpoint.directory).glob("attempts/*/nodes/*/end.json")
        return Trained(checkpoint, len(list(nodes)))


class OnThisMachine:
    """``launcher``, whose hosts are this machine: ``environment`` tells them so. Keeps what it launched."""

    def __init__(self, launcher: Launcher, environment: Mapping[str, str]) -> None:
        self.launcher, self.environment = launcher, environment
        self.launched: list[LaunchSpec] = []

    def launch(self, spec: LaunchSpec) -> Handle:
        self.launched.append(spec)
        return self.launcher.launch(replace(spec, environment={**spec.environment, **self.environment}))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.launcher, name)


def prepared(place: Path) -> Demo:
    """The demo up to its training set: the synthetic delivery is checked, pinned and staged."""
    profile = profile_of(place / "store")
    recipe = load_recipes(profile.recipes, profile.launch)[0][RECIPE]
    delivery = put_into_inbox(made_scenes(), inbox_of(profile.inbox))
    with dg.DagsterInstance.ephemeral() as instance:
        refresher = Refresher(build_defs(profile=profile), instance)
        refresh_dataset(refresher, delivery, DATASET_ASSETS)
        window = chosen_window(profile, RecordStore(Places(profile.store)).dataset())
        stage_windows(refresher, profile, [recipe], window)
        refresh(refresher, job_name(RECIPE), [[dg.AssetKey([RECIPE, "training_set"])]], window)
    return Demo(profile.store, window)


def profile_of(store: Path) -> Profile:
    """The demo's, with another store, and an inbox beside it."""
    places = {"TRAINING_ASSETS_STORE": str(store), "TRAINING_ASSETS_INBOX": str(store.with_name("inbox"))}
    return load_profile("local", places)
