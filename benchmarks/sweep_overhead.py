"""What Dagster adds to each trial of the sweeps in the local store: a run's wall time without its launched commands.

    make demo-sweep && python benchmarks/sweep_overhead.py

Writes results/sweep_overhead.json. ``overhead_s`` is from the start of a trial's process to its end, less training,
export and evaluation; ``wait_s`` from the request to that start: queue, process, code location.
"""

import json
import os
from pathlib import Path
from statistics import median

import dagster as dg
from common import write_result

from trainer.contract.names import cross_validation_name
from training_assets.control import LAUNCH_TAG
from training_assets.home import instance
from training_assets.places import Places
from training_assets.profiles import load_profile
from training_assets.records import TrialRun
from training_assets.stores.record_store import RecordStore
from training_assets.sweeps.journal import read_trials
from training_assets.sweeps.place import SweepPlace, all_sweeps


def main() -> None:
    places = Places(load_profile().store)
    with instance() as dagster_instance:
        rows = [row for place in all_sweeps(places) for row in trials_of(dagster_instance, places, place)]
    overheads = [row["overhead_s"] for row in rows]
    report = {
        "overhead_per_trial_s": median(overheads),
        "overhead_per_trial_worst_s": max(overheads),
        "wait_s": median(row["wait_s"] for row in rows),
        "trials": rows,
    }
    write_result("sweep_overhead", report, ["dagster"], os.getloadavg())


def trials_of(dagster_instance: dg.DagsterInstance, places: Places, place: SweepPlace) -> list[dict[str, object]]:
    records, rows = RecordStore(places), []
    for trial in read_trials(place.root):
        key = cross_validation_name(place.tune, trial.id)
        runs = dagster_instance.get_run_records(dg.RunsFilter(tags={LAUNCH_TAG: f"trial:{key}:0"}))
        if not runs or runs[0].end_time is None:
            continue
        run = runs[0]
        record = records.read(dg.AssetKey([place.plan.recipe, "trial"]), key, TrialRun)
        launched = sum(map(seconds_of, places.absolute(record.directory).rglob("outcome.json")))
        whole = run.end_time - run.start_time
        wait = run.start_time - run.create_timestamp.timestamp()
        rows.append({"trial": key, "state": record.state, "overhead_s": whole - launched, "wait_s": wait})
    return rows


def seconds_of(outcome: Path) -> float:
    started = json.loads(outcome.with_name("handle.json").read_bytes())["started_at"]
    return float(json.loads(outcome.read_bytes())["ended_at"]) - started


if __name__ == "__main__":
    main()
