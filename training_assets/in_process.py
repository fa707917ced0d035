"""Materialising in this process, with progress that a person can follow: what is out of date, and nothing else.

Only the order of things and what is said; what is out of date is ``refresh.py``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from trainer.contract.train_config import TrainConfig
from training_assets.control import DATASET_JOB, STAGING_JOB, Plan, delivery_config, job_name, run_tags
from training_assets.failures import failures_of, skips_of
from training_assets.jobs import CHAIN
from training_assets.planning import windows_behind
from training_assets.profiles import Profile
from training_assets.refresh import Refresher
from training_assets.stores.inbox import DeliveryFound


class Stopped(Exception):
    """A run did not succeed; the message says what to look at."""


def refresh_dataset(refresher: Refresher, delivery: DeliveryFound, assets: Sequence[str]) -> bool:
    """Check, pin and describe ``delivery``; whether there was anything to do."""
    refresher.observe_delivery(delivery)
    config = delivery_config(delivery.name)
    return refresh(refresher, DATASET_JOB, [[dg.AssetKey(name) for name in assets]], run_config=config)


def stage_windows(refresher: Refresher, profile: Profile, recipes: Sequence[TrainConfig], window: str) -> bool:
    """Stage the windows that the recipes look back on, in one run; whether there was anything to do."""
    key = dg.AssetKey("staged_shards")
    names = windows_behind(profile, recipes, window)
    stale = [name for name in names if refresher.out_of_date([key], name)]
    if stale:
        span = [name for name in names if stale[0] <= name <= stale[-1]]
        say(f"staging {len(span)} windows, {span[0]} to {span[-1]}")
        finish(refresher.run(STAGING_JOB, [key], span))
    return bool(stale)


def run_chain(refresher: Refresher, recipe: TrainConfig, window: str) -> bool:
    """What is out of date of the recipe's chain for one window. Its training set first: when that is as before,
    nothing is trained."""
    keys = chain_of(recipe.name)
    return refresh(refresher, job_name(recipe.name), [keys[:1], keys[1:]], window)


def carry_out(refresher: Refresher, plan: Plan) -> None:
    """The whole chain of ``plan``, whether it is out of date or not.

    Raises:
        Stopped: it did not succeed.
    """
    tags = run_tags(plan.cause, plan.because)
    job, keys = job_name(plan.recipe), chain_of(plan.recipe)
    finish(refresher.run(job, keys, [plan.window], run_config=plan.run_config(), tags=tags))


def chain_of(recipe: str) -> list[dg.AssetKey]:
    return [dg.AssetKey([recipe, name]) for name in CHAIN]


def refresh(
    refresher: Refresher,
    job: str,
    steps: Sequence[Sequence[dg.AssetKey]],
    partition: str | None = None,
    run_config: Mapping[str, Any] | None = None,
) -> bool:
    """Materialise what is out of date, step by step: what one step leaves unchanged, the next need not run for.

    Asked again after each run: an asset is out of date only once its upstream asset has other content than before.
    """
    worked = False
    for keys in steps:
        while stale := refresher.out_of_date(keys, partition):
            now = refresher.runnable(stale, keys)
            for one in now:
                say(f"{one.key.to_user_string()}: {one.reason}")
            finish(refresher.run(job, [one.key for one in now], [partition] if partition else [], run_config))
            worked = True
    return worked


def finish(result: dg.ExecuteInProcessResult) -> None:
    """
    Raises:
        Stopped: the run did not succeed, and names the gate or the asset, and what it said; or it had nothing to
            train on.
    """
    if not result.success:
        raise Stopped("\n".join(failures_of(result.all_events)) or f"run {result.run_id} failed")
    if skipped := skips_of(result.all_events):
        raise Stopped("\n".join(skipped))


def say(text: str) -> None:
    print(f"• {text}", flush=True)
