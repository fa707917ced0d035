"""``make demo``: from a delivery to a registered model, through Dagster, with progress a person can follow.

Only the order of things; materialising is ``in_process.py``, the summary ``summary.py``.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

from trainer.contract.delivery import FILES, file_digests
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import digest_of
from trainer.contract.train_config import TrainConfig
from trainer.terminal.answers import Answer
from training_assets.definitions import build_defs
from training_assets.home import instance
from training_assets.in_process import Stopped, refresh_dataset, run_chain, say, stage_windows
from training_assets.jobs import DATASET_ASSETS
from training_assets.places import Places
from training_assets.planning import chosen_window, misfits
from training_assets.profiles import REPOSITORY, Profile, load_profile
from training_assets.recipes import load_recipes
from training_assets.records import DatasetVersion
from training_assets.refresh import Refresher
from training_assets.stores.inbox import DeliveryFound, Inbox, inbox_of
from training_assets.stores.record_store import RecordStore
from training_assets.summary import dataset_summary, recipe_summary, told

SCENES = REPOSITORY / "var" / "deliveries" / "scenes"


def demo(data: Path | None, recipe: str | None, window: str | None) -> Answer:
    """Materialise everything for the newest window of a delivery, until each fitting recipe is registered."""
    began = time.monotonic()
    profile = load_profile()
    delivery = put_into_inbox(data or made_scenes(), inbox_of(profile.inbox))
    say(f"delivery {profile.inbox}/{delivery.name}")
    with instance() as dagster_instance:
        refresher = Refresher(build_defs(profile=profile), dagster_instance)
        worked = refresh_dataset(refresher, delivery, DATASET_ASSETS)
        dataset = RecordStore(Places(profile.store)).dataset()
        window = chosen_window(profile, dataset, window)
        chosen = fitting_recipes(profile, dataset, recipe)
        worked |= stage_windows(refresher, profile, chosen, window)
        for one in chosen:
            worked |= run_chain(refresher, one, window)
    answer = told(dataset_summary(profile, dataset), [recipe_summary(profile, one.name, window) for one in chosen])
    took = time.monotonic() - began
    last = f"done in {took:.0f} s" if worked else f"everything is up to date: nothing was run ({took:.0f} s)"
    return Answer({**answer.document, "worked": worked, "seconds": took}, [*answer.text, f"\n• {last}"])


def made_scenes() -> Path:
    """The synthetic delivery, made when it is not there."""
    if not all((SCENES / name).is_file() for name in FILES):
        say("making a synthetic driving delivery")
        command = [sys.executable, "-m", "trainer", "scenes", "--out", str(SCENES)]
        if subprocess.run(command, check=False).returncode:  # noqa: S603 - our own module
            raise Stopped("the synthetic delivery could not be made, see above")
    return SCENES


def put_into_inbox(delivery: Path, inbox: Inbox) -> DeliveryFound:
    """``delivery`` as it is in the inbox; its name there says its content, so that a changed one is another.

    Raises:
        ContractError: there is no delivery there.
    """
    digest = digest_of(file_digests(delivery))
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", delivery.resolve().name).strip("-_")[:60]
    return inbox.put(delivery, f"{stem or 'delivery'}-{digest[:8]}")


def fitting_recipes(profile: Profile, dataset: DatasetVersion, asked: str | None) -> list[TrainConfig]:
    """The recipes that can learn from this delivery; says of each other one why it cannot.

    Raises:
        ContractError: none fits.
    """
    recipes, broken = load_recipes(profile.recipes, profile.launch)
    for left_out in broken:
        say(f"left out: {left_out.report}")
    if asked is not None and asked not in recipes:
        raise ContractError("no such recipe", [Problem("--recipe", asked, f"one of {', '.join(sorted(recipes))}")])
    places = Places(profile.store)
    reasons = {name: misfits(one, dataset, places) for name, one in recipes.items() if asked in (None, name)}
    for name, why in reasons.items():
        say(f"recipe {name}: {'fits this delivery' if not why else 'does not fit: ' + '; '.join(why)}")
    fitting = [recipes[name] for name, why in reasons.items() if not why]
    if not fitting:
        problems = [
            Problem(name, "; ".join(why), "labels that the recipe learns from") for name, why in reasons.items()
        ]
        raise ContractError("no recipe fits this delivery", problems, f"Add one to {profile.recipes}.")
    return fitting
