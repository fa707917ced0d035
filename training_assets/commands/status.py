"""``status``: where everything stands, as text for people or as JSON for programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from trainer.terminal.answers import Answer
from training_assets.definitions import build_defs
from training_assets.home import instance
from training_assets.places import Places
from training_assets.profiles import Profile, load_profile
from training_assets.queue import daemon_is_alive
from training_assets.recipes import load_recipes
from training_assets.standing import (
    DeliveryState,
    RunState,
    SliceState,
    Switch,
    Trained,
    WindowState,
    current_dataset,
    deliveries,
    runs,
    slices,
    switches,
    windows,
)
from training_assets.stores.inbox import inbox_of
from training_assets.stores.registry import registry_of

SHOWN_WINDOWS = 12
SHOWN_SLICES = 20
INDENT = "  "


@dataclass(frozen=True)
class Standing:
    """``daemon``: whether one is at work on the queue. All lists are whole, the newest or next first."""

    daemon: bool
    runs: list[RunState]
    switches: list[Switch]
    deliveries: list[DeliveryState]
    dataset: str | None
    windows: list[WindowState]
    slices: list[SliceState]


def status() -> Answer:
    profile = load_profile()
    with instance() as dagster_instance:
        found = standing(profile, build_defs(profile=profile), dagster_instance)
    return Answer(found, described(found, datetime.now(UTC)))


def standing(profile: Profile, defs: dg.Definitions, dagster_instance: dg.DagsterInstance) -> Standing:
    places, recipes = Places(profile.store), load_recipes(profile.recipes, profile.launch)[0]
    dataset = current_dataset(places)
    return Standing(
        daemon=daemon_is_alive(dagster_instance),
        runs=runs(dagster_instance),
        switches=switches(dagster_instance, _known(defs)),
        deliveries=deliveries(inbox_of(profile.inbox), dataset),
        dataset=dataset.version if dataset else None,
        windows=windows(dataset, list(recipes), places, registry_of(profile)) if dataset else [],
        slices=slices(dagster_instance, list(recipes), places),
    )


def _known(defs: dg.Definitions) -> dict[str, tuple[str, bool]]:
    """The kind of each sensor and schedule, and whether it is on by default."""
    repository = defs.get_repository_def()
    sensors = {one.name: one.default_status == dg.DefaultSensorStatus.RUNNING for one in repository.sensor_defs}
    clocks = {one.name: one.default_status == dg.DefaultScheduleStatus.RUNNING for one in repository.schedule_defs}
    return {
        **{name: ("sensor", on) for name, on in sensors.items()},
        **{name: ("schedule", on) for name, on in clocks.items()},
    }


def described(found: Standing, now: datetime) -> str:
    """The whole as plain text."""
    recipes = list(dict.fromkeys(name for one in found.windows for name in one.recipes))
    mined = list(dict.fromkeys(name for one in found.slices for name in one.recipes))
    by_state = {state: [run for run in found.runs if run.state == state] for state in ("waiting", "running", "failed")}
    sections = [
        *((state, _runs(some, now)) for state, some in by_state.items()),
        ("sensors and schedules", _switches(found.switches, now)),
        ("deliveries", _deliveries(found.deliveries, now)),
        (f"windows of dataset version {(found.dataset or 'none')[:12]}", _windows(found.windows, recipes)),
        ("slices", _slices(found.slices, mined)),
    ]
    daemon = "at work on the queue" if found.daemon else "none is at work: nothing that waits is started (make ui)"
    lines = [f"daemon: {daemon}"]
    for title, content in sections:
        lines += ["", title, *(f"{INDENT}{line}".rstrip() for line in content or ["none"])]
    return "\n".join(lines)


def _runs(some: Sequence[RunState], now: datetime) -> list[str]:
    lines = []
    for run in some:
        about = " ".join(filter(None, (run.job, run.what)))
        lines.append(f"{run.run_id}  {about}, {_ago(run.since, now)}, {run.cause}: {run.because}")
        lines += [f"{INDENT}{line}" for line in run.why.splitlines()]
    return lines


def _switches(some: Sequence[Switch], now: datetime) -> list[str]:
    lines = table([(one.name, one.kind, "on" if one.on else "off", _ago(one.last_tick, now)) for one in some])
    return [line for one, row in zip(some, lines, strict=True) for line in (row, *_problem(one.problem))]


def _problem(text: str) -> list[str]:
    return [f"{INDENT}its newest tick failed: {text.splitlines()[0]}"] if text else []


def _deliveries(some: Sequence[DeliveryState], now: datetime) -> list[str]:
    return table([(one.name, _ago(one.arrived, now), one.state + (f": {one.why}" if one.why else "")) for one in some])


def _windows(some: Sequence[WindowState], recipes: Sequence[str]) -> list[str]:
    rows = [
        (one.window, one.rows, "–" if one.staged is None else one.staged, *(_trained(one.recipes[r]) for r in recipes))
        for one in some[:SHOWN_WINDOWS]
    ]
    return [*table([("window", "rows", "staged", *recipes), *rows]), *_rest(len(some) - SHOWN_WINDOWS)] if some else []


def _trained(one: Trained) -> str:
    if one.version:
        return one.version
    return f"trained ({one.run_id})" if one.run_id else "–"


def _slices(some: Sequence[SliceState], recipes: Sequence[str]) -> list[str]:
    rows = [
        (one.name, "–" if one.staged is None else one.staged, *(one.recipes.get(name, "–") for name in recipes))
        for one in some[:SHOWN_SLICES]
    ]
    return [*table([("slice", "staged", *recipes), *rows]), *_rest(len(some) - SHOWN_SLICES)] if some else []


def _rest(count: int) -> list[str]:
    return [f"… and {count} more (--json has all)"] if count > 0 else []


def table(rows: Sequence[Sequence[object]]) -> list[str]:
    """``rows`` as lines with aligned columns."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "never"
    seconds = max((now - moment).total_seconds(), 0.0)
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
