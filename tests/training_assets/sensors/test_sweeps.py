"""The sweep sensor: trials as partitions, started and ended as the controller says, whatever happens between ticks."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from tests.training_assets.conftest import FakeTrainer, Graph, failure_of
from trainer.contract.errors import ContractError
from trainer.contract.files import write_json
from trainer.contract.run_infos import SCORE_FILE, CrossValidationResult, RunInfo
from trainer.contract.train_config import read_config
from training_assets import partitions
from training_assets.assets.trial import Ended, TrialWatch, trial_work
from training_assets.launchers import Handle, LaunchSpec
from training_assets.recipes import recipe_named
from training_assets.records import TrialRun
from training_assets.starting_sweeps import AskedSweep, start
from training_assets.sweeps.journal import journal_of, read_trials
from training_assets.sweeps.place import STOP_FILE, StopRequest, SweepPlace
from training_assets.sweeps.trials import Suggestion

SENSOR, METRIC = "sweep_sensor", "segmentation/mIoU"
SWEEP: dict[str, Any] = {
    "recipe": "tiny",
    "objective": METRIC,
    "strategy": "random",
    "epochs": 3,
    "budget": {"max_trials": 3, "parallelism": 2},
    "parameters": {"optim.lr": {"distribution": "log_uniform_values", "min": "1e-4", "max": 1e-1}},
}


class LearningTrainer(FakeTrainer):
    """Scores by the learning rate, best at 0.01; runs what it is asked for at once."""

    def launch(self, spec: LaunchSpec) -> Handle:
        if spec.what == "train":
            self.metrics[METRIC] = 0.01 / (0.01 + abs(read_config(Path(spec.arguments[1])).optim.lr - 0.01))
        return super().launch(spec)

    def crossval(self, spec: LaunchSpec) -> None:
        """Two folds, the second a little better; at a high rate the second is lost."""
        rate = read_config(Path(spec.arguments[1])).optim.lr
        runs = tuple(
            RunInfo(
                run_name=f"{spec.run_dir.name}-run-f{fold}s42",
                run_id=f"abcdefg{fold}",
                fold=fold,
                seed=42,
                duration=1.0,
                checkpoint="best.pt",
                metrics={METRIC: 0.5 + 0.1 * fold},
                is_unstable=bool(fold and rate > 0.05),
            )
            for fold in (0, 1)
        )
        unstable = any(run.is_unstable for run in runs)
        name = spec.run_dir.name
        result = CrossValidationResult(name=name, tune="t", score=0.55, score_is_unstable=unstable, runs=runs)
        (spec.run_dir / SCORE_FILE).write_text(result.model_dump_json())


@pytest.fixture
def graph(staged: Graph) -> Iterator[Graph]:
    assert staged.run("tiny/training_set", window="2026-01-12").success
    trainer, kind = staged.trainer, type(staged.trainer)
    trainer.__class__ = LearningTrainer
    yield staged
    trainer.__class__ = kind  # the graph is of other tests too


@pytest.fixture
def begin(graph: Graph, tmp_path: Path) -> Callable[..., SweepPlace]:
    def begin(tune: str = "quick-fox-1", **changes: Any) -> SweepPlace:
        file = tmp_path / "sweep.yaml"
        file.write_text(yaml.safe_dump({**SWEEP, **changes}))
        recipe = recipe_named(graph.profile, "tiny")
        asked = AskedSweep(file, recipe, graph.profile.recipes / "tiny.yaml", tune, "manual", "a test")
        return start(asked, graph.places, graph.trainer)

    return begin


@pytest.mark.slow
def test_trials_become_partitions_and_runs_until_the_budget_is_used_up_then_the_report(
    graph: Graph, begin: Callable[..., SweepPlace], daemon_of: Callable
) -> None:
    place = begin()
    daemon = daemon_of(graph.defs, graph.instance, execute=True)
    asked = []
    for _ in range(8):
        asked += [request.run_key for request in daemon.tick(SENSOR).run_requests or ()]
    keys = [f"quick-fox-1-cv{number}" for number in range(3)]
    assert asked == [*(f"trial:{key}:0" for key in keys), "sweep:quick-fox-1"]
    assert graph.instance.get_dynamic_partitions(partitions.trials("tiny").name) == keys
    assert graph.instance.get_dynamic_partitions(partitions.sweeps("tiny").name) == ["quick-fox-1"]
    trials = list(read_trials(place.root))
    assert [trial.state for trial in trials] == ["completed"] * 3
    assert trials[0].params == {"optim.lr": 0.01}, "the recipe as it is"
    assert [sorted(trial.curve) for trial in trials] == [[1, 2, 3]] * 3
    record = graph.record("tiny/trial", TrialRun, keys[1])
    assert record.params == dict(trials[1].params)
    assert record.metrics["latency_p95_ms"] == 5.0
    assert trials[1].metrics["latency_p95_ms"] == 5.0, "constraints are told what only the evaluation knows"
    assert record.evaluation is not None
    assert set(record.evaluation.report.splits) == {"val"}, "test is for the sweep's best alone"
    assert place.ended is not None
    assert "max_trials" in place.ended.reason


@pytest.mark.slow
def test_settings_of_a_trial_reach_its_training_and_its_lineage(
    graph: Graph, begin: Callable[..., SweepPlace], daemon_of: Callable
) -> None:
    begin(budget={"max_trials": 2, "parallelism": 2})
    daemon = daemon_of(graph.defs, graph.instance, execute=True)
    daemon.tick(SENSOR)
    record = graph.record("tiny/trial", TrialRun, "quick-fox-1-cv1")
    directory = graph.places.absolute(record.directory)
    used = read_config(directory / "train.yaml", environment={})
    assert used.optim.lr == record.params["optim.lr"]
    assert used.training.epochs == 3
    assert directory.parent.name == "quick-fox-1-cv1"
    assert directory.parent.parent == graph.places.root / "runs" / "quick-fox-1"
    assert directory.name == f"quick-fox-1-cv1-run-f0s42-{record.run_id}"


def test_a_recipe_that_begins_with_production_does_so_in_its_trials(
    graph: Graph, begin: Callable[..., SweepPlace], daemon_of: Callable
) -> None:
    recipe = graph.profile.recipes / "tiny.yaml"
    recipe.write_text(recipe.read_text().replace("blocks:", "warm_start: production\n  blocks:"))
    begin(budget={"max_trials": 1})
    daemon_of(graph.defs, graph.instance, execute=True).tick(SENSOR)
    (spec,) = graph.trainer.commands("train")
    assert "--no-warm-start" in spec.arguments, "there is no version of that name yet"
    told = dict(zip(spec.arguments, spec.arguments[1:], strict=False))
    assert (told["--name"], told["--group"]) == ("quick-fox-1-cv0-run-f0s42", "quick-fox-1")
    assert told["--job-type"] == "quick-fox-1-cv0"


def test_a_tick_that_was_killed_before_its_runs_were_started_is_made_up_for(
    graph: Graph, begin: Callable[..., SweepPlace], daemon_of: Callable
) -> None:
    begin()
    daemon = daemon_of(graph.defs, graph.instance)
    lost = [request.run_key for request in daemon.evaluate(SENSOR).run_requests or ()]
    again = [request.run_key for request in daemon.tick(SENSOR).run_requests or ()]
    assert lost == again == ["trial:quick-fox-1-cv0:0", "trial:quick-fox-1-cv1:0"]
    assert not daemon.tick(SENSOR).run_requests, "what runs is not asked for again"


@pytest.mark.slow
def test_a_trial_of_several_folds_is_one_launched_cross_validation(
    graph: Graph, begin: Callable[..., SweepPlace], daemon_of: Callable
) -> None:
    place = begin(cross_validation={"folds": 2}, budget={"max_trials": 2, "parallelism": 2})
    daemon = daemon_of(graph.defs, graph.instance, execute=True)
    for _ in range(3):
        daemon.tick(SENSOR)
    (first, second) = read_trials(place.root)
    assert first.curve == {3: {METRIC: pytest.approx(0.55), "score": 0.55}}
    assert first.state == "completed"
    (spec, *_) = graph.trainer.commands("crossval")
    options = " ".join(spec.arguments)
    assert "--tune quick-fox-1 --index 0 --resume --folds 2 --method kfold --seeds 1" in options
    assert spec.run_dir == graph.places.root / "runs" / "quick-fox-1" / "quick-fox-1-cv0"
    assert spec.launch is not None
    assert spec.launch.strategy == "ddp_fork", "one process, which starts the runs itself"
    assert second.state in ("completed", "failed")


@pytest.mark.slow
def test_a_fold_that_is_lost_makes_its_trial_fail_by_name(
    graph: Graph, begin: Callable[..., SweepPlace], daemon_of: Callable
) -> None:
    high = {"optim.lr": {"distribution": "uniform", "min": 0.06, "max": 0.09}}
    settings = {"cross_validation": {"folds": 2}, "baseline": "exclude", "parameters": high}
    place = begin(**settings, budget={"max_trials": 1})
    daemon = daemon_of(graph.defs, graph.instance, execute=True)
    daemon.tick(SENSOR)
    daemon.tick(SENSOR)
    assert [trial.state for trial in read_trials(place.root)] == ["failed"]
    said = failure_of(daemon.results[0])
    assert "unstable: quick-fox-1-cv0-run-f1s42" in said


def test_a_run_that_failed_is_a_failed_trial_and_its_place_is_free(
    graph: Graph, begin: Callable[..., SweepPlace], daemon_of: Callable
) -> None:
    place = begin()
    daemon = daemon_of(graph.defs, graph.instance)
    daemon.tick(SENSOR)
    daemon.finish(dg.DagsterRunStatus.FAILURE)
    assert [request.run_key for request in daemon.tick(SENSOR).run_requests or ()] == ["trial:quick-fox-1-cv2:0"]
    assert [trial.state for trial in read_trials(place.root)] == ["failed", "failed", "running"]


def test_a_sweep_that_a_person_ends_ends_its_trials(
    graph: Graph, begin: Callable[..., SweepPlace], daemon_of: Callable
) -> None:
    place = begin()
    daemon = daemon_of(graph.defs, graph.instance)
    daemon.tick(SENSOR)
    place.keep(STOP_FILE, StopRequest(reason="ended by somebody"))
    assert not daemon.tick(SENSOR).run_requests
    stops = [place.trial(number).stop for number in (0, 1)]
    assert [stop.reason if stop else None for stop in stops] == ["ended by somebody"] * 2


def test_a_trial_that_is_to_end_before_it_began_trains_nothing(graph: Graph, begin: Callable[..., SweepPlace]) -> None:
    place = begin()
    with journal_of(place.root) as journal:
        journal.asked(0, Suggestion({"optim.lr": 0.02}), 0.0)
    graph.instance.add_dynamic_partitions(partitions.trials("tiny").name, ["quick-fox-1-cv0", "quick-fox-1-cv7"])
    unasked = graph.run("tiny/trial", window="quick-fox-1-cv7")
    assert not unasked.success
    from training_assets.sweeps.controller import Actions
    from training_assets.sweeps.under_way import sweeping

    with sweeping(place, graph.places, graph.trainer) as sweep:
        sweep.prepare(Actions(run=[0]))
    place.trial(0).keep(StopRequest(reason="the budget is used up"))
    assert graph.run("tiny/trial", window="quick-fox-1-cv0").success
    record = graph.record("tiny/trial", TrialRun, "quick-fox-1-cv0")
    assert (record.state, record.reason) == ("stopped", "the budget is used up")
    assert not graph.trainer.commands("train")


@pytest.mark.parametrize("why", ["budget", "request"])
def test_a_trial_at_work_says_what_it_takes_and_ends_where_it_is_to(
    graph: Graph, begin: Callable[..., SweepPlace], daemon_of: Callable, why: str
) -> None:
    place = begin(budget={"max_trials": 1, "wall_time": 60})
    daemon_of(graph.defs, graph.instance).tick(SENSOR)
    work = trial_work(graph.places, "quick-fox-1", 0)
    now = place.plan.started_at.timestamp()
    spec = LaunchSpec(("train",), work.directory, "attempt-1")
    write_json(spec.attempt_dir / "handle.json", {"started_at": now - 30})
    watch = TrialWatch(work, graph.trainer, spec, None)
    assert watch.poll(now, None, waiting=True) is None
    spent = place.trial(0).spent
    assert spent is not None
    assert spent.seconds == pytest.approx(30)
    if why == "request":
        place.trial(0).keep(StopRequest(reason="worse than the others"))
    else:
        late = place.plan.model_copy(update={"started_at": place.plan.started_at - timedelta(seconds=56)})
        place.keep("plan.json", late)  # it looks again in five seconds: by then the minute is over
    with pytest.raises(Ended, match="worse than the others" if why == "request" else "wall_time"):
        TrialWatch(work, graph.trainer, spec, None).poll(now + 6, None, waiting=False)


def test_one_sweep_that_cannot_be_gone_on_with_leaves_the_others_alone(
    graph: Graph, begin: Callable[..., SweepPlace], daemon_of: Callable
) -> None:
    broken = begin("a-broken-one")
    (broken.root / "settled.json").write_text("{")
    begin("quick-fox-2")
    daemon = daemon_of(graph.defs, graph.instance)
    assert len(daemon.tick(SENSOR).run_requests or ()) == 2


def test_a_name_is_given_once(begin: Callable[..., SweepPlace]) -> None:
    begin()
    with pytest.raises(ContractError, match="found quick-fox-1, a sweep of tiny since"):
        begin()


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 101])
def test_a_name_that_is_no_name_is_refused(begin: Callable[..., SweepPlace], name: str) -> None:
    with pytest.raises(ContractError, match="not a name of a sweep"):
        begin(name)


def test_a_sweep_keeps_the_data_and_the_recipe_it_was_started_on(
    graph: Graph, begin: Callable[..., SweepPlace]
) -> None:
    place = begin()
    recipe = graph.profile.recipes / "tiny.yaml"
    recipe.write_text(recipe.read_text().replace("lr: 0.01", "lr: 0.02"))
    assert place.recipe.optim.lr == 0.01
    assert place.plan.training_set.window == "2026-01-12"
    assert place.plan.started_at <= datetime.now(UTC)
