"""Clearing the store: what something refers to stays, everything else goes once it is old, whenever it is killed."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training_assets.lineage import frames
from training_assets.ops import DAY, RetentionConfig
from training_assets.places import Places
from training_assets.records import Checkpoint, ShardList
from training_assets.retention import Thing, passing, report
from training_assets.stores import inventory as module
from training_assets.stores.inventory import inventory, named, retire
from training_assets.stores.registry import Registry

NOW = time.time()
OLD, YOUNG = NOW - 60 * DAY, NOW - 5 * DAY
BEFORE = NOW - 30 * DAY
names = st.integers(0, 11).map(str)


@st.composite
def stores(draw: st.DrawFn) -> tuple[list[Thing], set[str]]:
    needs = draw(st.dictionaries(names, st.frozensets(names, max_size=3), min_size=1))
    times = {name: draw(st.sampled_from([OLD, YOUNG])) for name in needs}
    things = [Thing(name, "runs", (), 1, times[name], needed) for name, needed in needs.items()]
    return things, draw(st.sets(names, max_size=3))


@given(store=stores())
def test_what_goes_is_old_and_neither_named_nor_needed_by_what_stays_and_nothing_else_stays(store):
    things, roots = store
    gone = {thing.name for thing in passing(things, roots, BEFORE)}
    stays = {thing.name: thing for thing in things if thing.name not in gone}
    assert not gone & roots
    assert all(thing.modified < BEFORE for thing in things if thing.name in gone)
    assert not gone & set(chain.from_iterable(thing.needs for thing in stays.values()))
    why = roots | {name for name, thing in stays.items() if thing.modified >= BEFORE}
    needed = set(chain.from_iterable(thing.needs for thing in stays.values()))
    assert set(stays) <= why | needed


class Made:
    """A store of small files, each as old as it is told to be."""

    def __init__(self, root: Path) -> None:
        self.places = Places(root)

    def file(self, name: str, content: Any = "x", age: float = OLD) -> Path:
        path = self.places.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        os.utime(path, (age, age))
        return path

    def shard(self, key: str, age: float = OLD) -> None:
        self.file(f"shards/{key}.json", age=age)
        self.file(f"shards/{key}.tar", age=age)

    def training_set(self, window: str, digest: str, shards: Iterable[str], age: float = OLD) -> str:
        name = f"training_sets/tiny/{window}-{digest}"
        self.file(f"{name}/data.json", {"splits": {"train": [f"../../../shards/{key}.json" for key in shards]}}, age)
        return name

    def run(self, window: str, run_id: str, digest: str | None, steps: Iterable[int] = (1, 2), age: float = OLD) -> str:
        name = f"runs/_runs/tiny-{window}-{run_id}"
        self.file(f"{name}/best.pt", age=age)
        if digest is not None:
            self.file(f"{name}/result.json", {"data_digest": digest + "0" * 56}, age)
        for step in steps:
            self.file(f"{name}/checkpoints/step-{step}/state.pt", age=age)
        return name

    def version(self, number: int, run_id: str, shards: Iterable[str]) -> None:
        refs = [{"key": key, "sha256": "0"} for key in shards]
        lineage = {"training_set": {"shards": {"train": refs}}, "run": {"run_id": run_id}}
        self.file(f"registry/tests/versions/1.{number}.0.json", {"lineage": lineage})
        self.file(f"models/tests/1.{number}.0/best.pt")

    def record(self, asset: str, partition: str, value: Any) -> None:
        self.file(f"records/{asset}/{partition}.json", value)

    def clear(self) -> set[str]:
        """The names of what went."""
        things = inventory(self.places)
        return {
            thing.name
            for thing in retire(
                self.places, passing(things, named(self.places, Registry(self.places.root), things), BEFORE), BEFORE
            )
        }

    def files(self) -> set[str]:
        return {self.places.relative(path) for path in self.places.root.rglob("*") if path.is_file()}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "store")


shard_keys = st.sets(st.integers(0, 9).map(lambda number: f"{number:032x}"), max_size=5)
ids = st.integers(0, 5).map(lambda number: f"run{number:05d}")


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=40)
@given(
    versions=st.lists(st.tuples(ids, shard_keys), max_size=3),
    sets=st.dictionaries(st.integers(0, 3), shard_keys),
    recorded=st.sets(st.integers(0, 3)),
    killed=st.integers(0, 6),
)
def test_nothing_that_a_registered_version_or_a_record_names_is_ever_taken_away(
    versions, sets, recorded, killed, tmp_path_factory
):
    """Killed in the middle and begun again, too."""
    made = Made(tmp_path_factory.mktemp("store"))
    for number in range(10):
        made.shard(f"{number:032x}")
    for number in range(6):
        made.run("2026-01-05", f"run{number:05d}", f"{number:08x}")
    directories = {number: made.training_set("2026-01-05", f"{number:08x}", keys) for number, keys in sets.items()}
    for number in recorded & set(sets):
        made.record("tiny/training_set", str(number), {"directory": directories[number]})
    for number, (run_id, keys) in enumerate(versions):
        made.version(number, run_id, keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", killing(killed))
        with contextlib.suppress(KeyboardInterrupt):
            made.clear()
    made.clear()
    wanted = {key for _, keys in versions for key in keys}
    wanted |= {key for number in recorded & set(sets) for key in sets[number]}
    kept_runs = {run_id for run_id, _ in versions}
    # A run that is kept keeps the set that it was trained on.
    wanted |= {key for number, keys in sets.items() if f"run{number:05d}" in kept_runs for key in keys}
    files = made.files()
    assert {name for name in files if name.startswith("shards/")} == {
        f"shards/{key}.{suffix}" for key in wanted for suffix in ("json", "tar")
    }
    runs = {name.split("/")[2][-8:] for name in files if name.startswith("runs/")}
    assert runs == kept_runs
    assert len([name for name in files if name.startswith("models/")]) == len(versions)
    assert not any(name.startswith(".retired") for name in files)


def killing(after: int) -> Any:
    """``rmtree`` of a process that is killed at its call number ``after``."""
    calls = iter(range(after))

    def rmtree(path: Path, ignore_errors: bool = False) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        shutil.rmtree(path, ignore_errors)

    return rmtree


def test_a_current_record_keeps_its_runs_last_checkpoint_and_the_others_go(made: Made) -> None:
    run = made.run("2026-01-05", "aaaaaaaa", "1" * 8, steps=(1, 2, 3))
    made.record(
        "tiny/checkpoint", "2026-01-05", {"directory": run, "result": {"last_checkpoint": "checkpoints/step-3"}}
    )
    assert made.clear() == {f"{run}/checkpoints/step-1", f"{run}/checkpoints/step-2"}
    assert {"best.pt", "result.json", "checkpoints/step-3/state.pt"} == {
        name.removeprefix(f"{run}/") for name in made.files() if name.startswith(run)
    }


def test_a_run_that_is_not_at_its_end_keeps_its_checkpoints_and_what_it_trains_on(made: Made) -> None:
    """Its training set was replaced meanwhile, and its shards are old."""
    made.shard("a" * 32)
    made.shard("b" * 32)
    used = made.training_set("2026-01-05", "1" * 8, ["a" * 32])
    run = made.run("2026-01-05", "aaaaaaaa", None, age=YOUNG)
    gone = made.clear()
    assert gone == {f"shards/{'b' * 32}"}
    assert {f"{used}/data.json", f"{run}/checkpoints/step-1/state.pt"} <= made.files()


def test_a_failed_run_goes_whole_once_it_is_old(made: Made) -> None:
    run = made.run("2026-01-05", "aaaaaaaa", None)
    assert run in made.clear()
    assert made.files() == set()


def test_what_a_killed_process_left_goes_and_what_is_young_stays(made: Made) -> None:
    made.file("shards/.a.json.0123abcd.tmp")
    made.file("shards/lonely.tar")
    made.file("shards/.b.tar.0123abcd.tmp", age=YOUNG)
    made.file("launches/shard-1/attempts/a.log")
    made.file("launches/shard-2/attempts/a.log", age=YOUNG)
    made.file("slice_evals/tiny/fog-1.0.0/eval_report.json")
    made.file("slice_evals/tiny/rain-1.0.0/eval_report.json")
    made.record("tiny/slice_eval", "rain", {"directory": "slice_evals/tiny/rain-1.0.0"})
    made.file("fetched/drop-1/golden_train.manifest")
    made.file("fetched/drop-2/golden_train.manifest")
    made.record("dataset_version", "whole", {"delivery": str(made.places.root / "fetched" / "drop-2")})
    made.clear()
    assert {name for name in made.files() if not name.startswith("records/")} == {
        "shards/.b.tar.0123abcd.tmp",
        "launches/shard-2/attempts/a.log",
        "slice_evals/tiny/rain-1.0.0/eval_report.json",
        "fetched/drop-2/golden_train.manifest",
    }


def test_what_is_used_while_the_store_is_cleared_stays(made: Made) -> None:
    made.shard("a" * 32)
    things = passing(inventory(made.places), set(), BEFORE)
    os.utime(made.places.shards / f"{'a' * 32}.json")
    assert retire(made.places, things, BEFORE) == []


def test_the_report_counts_each_kind(made: Made) -> None:
    made.shard("a" * 32)
    made.shard("b" * 32, age=YOUNG)
    things = inventory(made.places)
    found = report(things, passing(things, set(), BEFORE))
    assert (found.things["shards"], found.going["shards"]) == (2, 1)
    assert (found.bytes["shards"], found.bytes_going["shards"]) == (4, 2)


@pytest.mark.slow
def test_the_job_tells_first_and_clears_when_it_is_asked_to_and_lineage_stays_whole(graph_without_dvc: Any) -> None:
    graph = graph_without_dvc
    window = "2026-01-12"
    assert graph.run("dataset_version", "eval_shards").success
    assert graph.run("staged_shards", windows=("2026-01-05", window)).success
    chain_of_tiny = ("training_set", "checkpoint", "exported_model", "eval_report", "model_card", "registry_entry")
    assert graph.run(*(f"tiny/{name}" for name in chain_of_tiny), window=window).success
    registry = Registry(graph.profile.store)
    before = list(frames(registry.find("tests@1.0.0"), graph.profile.store))
    # Newer rows, staged and not trained on yet, and newer ones again: what lies between them is nobody's.
    for old, new in (("test", "one"), ("one", "two")):
        rename_origin(graph, old, new)
        assert graph.run("dataset_version").success
        assert graph.run("staged_shards", windows=("2026-01-05", window)).success
    for path in graph.profile.store.rglob("*"):
        os.utime(path, (OLD, OLD))
    everything = {path for path in graph.profile.store.rglob("*") if path.is_file()}
    assert clear(graph, dry_run=True)["bytes_going/shards"] > 0
    assert {path for path in graph.profile.store.rglob("*") if path.is_file()} == everything
    freed = clear(graph, dry_run=False)
    assert freed["bytes_going/shards"] > 0
    assert freed["bytes_going/launches"] > 0
    assert list(frames(registry.find("tests@1.0.0"), graph.profile.store)) == before
    for one in ("2026-01-05", window):
        for shard in graph.record("staged_shards", ShardList, one).shards:
            assert (graph.places.shards / f"{shard.key}.tar").is_file()
    run = graph.places.absolute(graph.record("tiny/checkpoint", Checkpoint, window).directory)
    assert (run / "best.pt").is_file()
    assert clear(graph, dry_run=False)["bytes_going"] == 0


def rename_origin(graph: Any, old: str, new: str) -> None:
    graph.edit("golden_train.manifest", lambda text: text.replace(f'"origin": "{old}"', f'"origin": "{new}"'))


def clear(graph: Any, dry_run: bool) -> dict[str, Any]:
    """What the job told."""
    result = graph.defs.resolve_job_def("retention_job").execute_in_process(
        instance=graph.instance, run_config={"ops": {"clear_store": {"config": {"dry_run": dry_run}}}}
    )
    (event,) = (e for e in result.all_events if e.event_type == dg.DagsterEventType.STEP_OUTPUT)
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def test_a_day_is_the_least_that_is_kept() -> None:
    with pytest.raises(ValueError, match="keep_days"):
        RetentionConfig(keep_days=0)
