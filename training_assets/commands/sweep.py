"""``sweep``: start one, look at it, end it, take over what it learnt."""

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import TrainConfig
from trainer.terminal.answers import Answer
from training_assets.control import job_name
from training_assets.definitions import build_defs
from training_assets.finals.learning import PROPOSAL
from training_assets.home import instance
from training_assets.in_process import refresh, say, stage_windows
from training_assets.launchers import launcher_for
from training_assets.places import Places
from training_assets.planning import chosen_window, dataset_of
from training_assets.profiles import Profile, load_profile
from training_assets.queue import daemon_is_alive
from training_assets.refresh import Refresher
from training_assets.starting_sweeps import AskedByHand, start_by_hand
from training_assets.stores.dvc import DvcStore
from training_assets.sweeps.journal import read_trials
from training_assets.sweeps.learning import PROPOSAL_FILE, apply, read_proposal
from training_assets.sweeps.place import STOP_FILE, StopRequest, SweepPlace, all_sweeps, sweep_place
from training_assets.sweeps.under_way import purse_of


@dataclass(frozen=True)
class Asked:
    """The command line of ``sweep start``."""

    file: Path
    recipe: str | None = None
    name: str | None = None
    window: str | None = None


@dataclass(frozen=True)
class Started:
    """A sweep that its sensor starts the trials of, once a ``daemon`` is at work."""

    sweep: str
    recipe: str
    window: str
    directory: Path
    daemon: bool


def start_sweep(asked: Asked) -> Started:
    """Have the daemon carry the sweep out; returns at once.

    Raises:
        ContractError: the file, the name or the data is not fit for it; before anything is started.
        Stopped: its data could not be staged.
    """
    profile = load_profile()
    by_hand = AskedByHand(
        asked.file, f"{getpass.getuser()} on the command line", asked.recipe, asked.name, asked.window
    )
    place = start_by_hand(by_hand, profile, launcher_for(profile), lambda *of: staged(profile, *of))
    say(f"sweep {place.tune} of {place.plan.recipe}, window {place.plan.window}: {place.root}")
    with instance() as dagster_instance:
        daemon = daemon_is_alive(dagster_instance)
    if not daemon:
        say("no daemon is at work: its sensor starts the trials once there is one (make ui)")
    say(f"follow it: python -m training_assets sweep status {place.tune}")
    return Started(place.tune, place.plan.recipe, place.plan.window, place.root, daemon)


def staged(profile: Profile, recipe: TrainConfig, asked: str | None) -> str:
    """The window to sweep on, its training set made where that is out of date."""
    window = chosen_window(profile, dataset_of(Places(profile.store), DvcStore(profile.store)), asked)
    with instance() as dagster_instance:
        refresher = Refresher(build_defs(profile=profile), dagster_instance)
        stage_windows(refresher, profile, [recipe], window)
        refresh(refresher, job_name(recipe.name), [[dg.AssetKey([recipe.name, "training_set"])]], window)
    return window


def apply_proposal(name: str) -> Answer:
    """Change the recipe and the library as the sweep's report proposes, after a person has read its diff.

    Raises:
        ContractError: there is no proposal, or the recipe is not the one that it was made against any more.
    """
    profile = load_profile()
    path = sweep_place(Places(profile.store), name).report / PROPOSAL / PROPOSAL_FILE
    if not path.is_file():
        problem = Problem(str(path), "nothing", "the proposal of a sweep whose winner is better than the recipe")
        raise ContractError(f"sweep {name} proposes nothing", [problem])
    changed = apply(read_proposal(path), profile.recipes.parent)
    lines = [f"• changed {one}" for one in changed] or ["• everything is as proposed already"]
    return Answer({"sweep": name, "changed": [str(one) for one in changed]}, lines)


def stop_sweep(name: str, reason: str) -> Answer:
    """Have all of its trials end, their checkpoints kept, and its report made."""
    place = sweep_place(Places(load_profile().store), name)
    if place.ended is None:
        place.keep(STOP_FILE, StopRequest(reason=f"ended by {getpass.getuser()}" + (f": {reason}" if reason else "")))
        said = f"• sweep {name} is to end; its report comes next"
    else:
        said = f"• sweep {name} has ended already: {place.ended.reason}"
    return Answer({"sweep": name, "ended": place.ended and place.ended.reason}, said)


def sweep_status(name: str | None) -> Answer:
    """How sweeps stand: all of them in a line each, or one with its trials."""
    profile = load_profile()
    places = Places(profile.store)
    chosen = [sweep_place(places, name)] if name else list(all_sweeps(places))
    standings = [standing(place, profile) for place in chosen]
    lines = [line for one in standings for line in _described(one, whole=name is not None)]
    return Answer(standings, lines or "no sweeps")


def standing(place: SweepPlace, profile: Profile) -> dict[str, Any]:
    """A sweep as programs read it."""
    plan, sweep, trials, ended = place.plan, place.sweep, read_trials(place.root), place.ended
    goal = sweep.goals.first
    best = max(
        (trial for trial in trials if trial.metrics), key=lambda one: _last(goal.score(one.metrics)), default=None
    )
    return {
        "sweep": place.tune,
        "recipe": plan.recipe,
        "window": plan.window,
        "because": plan.because,
        "started_at": plan.started_at,
        "ended": None if ended is None else ended.reason,
        "objective": goal.metric,
        "best": None if best is None else {"trial": best.id, "value": best.metrics.get(goal.metric)},
        "budget": purse_of(place, trials, launcher_for(profile)).ledger().sentences(),
        "trials": [
            {
                "trial": trial.id,
                "state": trial.state,
                "epoch": trial.epoch,
                "value": trial.metrics.get(goal.metric),
                "settings": dict(trial.params),
                "why": trial.ending.reason if trial.ending else "",
            }
            for trial in trials
        ],
        "report": str(place.report) if place.report.is_dir() else None,
    }


def _last(score: float) -> float:
    return score if score == score else float("-inf")


def _described(one: dict[str, Any], whole: bool) -> list[str]:
    states = [trial["state"] for trial in one["trials"]]
    counted = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "no trials yet"
    best = one["best"]
    lead = f", best {one['objective']} {best['value']:.4g} (cv{best['trial']})" if best and best["value"] else ""
    head = f"{one['sweep']}  {one['recipe']} {one['window']}  {one['ended'] or 'under way'}: {counted}{lead}"
    if not whole:
        return [head]
    lines = [head, f"because of {one['because']}, since {one['started_at']:%Y-%m-%d %H:%M} UTC"]
    lines += [f"  {sentence}" for sentence in one["budget"]]
    for trial in one["trials"]:
        value = "–" if trial["value"] is None else f"{trial['value']:.4g}"
        settings = ", ".join(f"{name}={_short(value)}" for name, value in trial["settings"].items())
        lines.append(f"  cv{trial['trial']:<4} {trial['state']:<10} epoch {trial['epoch']:<4} {value:<8} {settings}")
        lines += [f"         {trial['why']}"] if trial["why"] else []
    return [*lines, *([f"  report: {one['report']}"] if one["report"] else [])]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
