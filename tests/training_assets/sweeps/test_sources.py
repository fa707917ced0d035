"""The report of a sweep as it lies in the store: its plan, its journal, its books and its trials' records."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trainer.contract.files import write_text
from trainer.contract.train_config import read_config
from trainer.contract.yaml_io import dump_yaml
from training_assets.launchers.base import Estimate
from training_assets.records import DatasetVersion, EvalShards, ShardList, TrainingSet, TrialRun
from training_assets.sweep_metadata import sweep_metadata
from training_assets.sweeps.budget import Ledger, TrialCost
from training_assets.sweeps.fitting import settled
from training_assets.sweeps.place import ENDED_FILE, PLAN_FILE, RECIPE_FILE, SETTLED_FILE, Ended, SweepPlace, SweepPlan
from training_assets.sweeps.report import PAGE_FILE, write_report
from training_assets.sweeps.report.books import budget_facts
from training_assets.sweeps.report.sources import summary_of
from training_assets.sweeps.settings import Budget
from training_assets.sweeps.sweep_file import read_sweep
from training_assets.sweeps.trials import Decision, Suggestion, Trials

ROOT = Path(__file__).parents[3]
RECIPE = read_config(ROOT / "recipes" / "scenes_multitask.yaml", environment={})
IOU, MS = "segmentation/mIoU", "latency_p95_ms"
BEGAN = datetime(2026, 3, 2, 8, tzinfo=UTC)
AS_IT_IS = {
    "optim.lr": 4.0e-3, "optim.weight_decay": 0.01, "tasks.detection.weight": 1.0, "tasks.lanes.weight": 0.5,
    "data.augmentation.brightness": 0.2,
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> SweepPlace:
    place = SweepPlace(tmp_path / "demo")
    dataset = DatasetVersion(
        version="v1", directory="d", delivery="d", files={}, dvc_hash="77.dir", cadence="weekly", rows={}, labels={},
        windows={}, licences={},
    )  # fmt: skip
    training_set = TrainingSet(
        recipe=RECIPE.name, window="2026-02-23", directory="d", digest="a" * 64, windows_found=(), windows_missing=(),
        slices=(), samples=9, dataset=dataset,
    )  # fmt: skip
    plan = SweepPlan(
        tune="demo", recipe=RECIPE.name, recipe_sha256="c" * 64, window="2026-02-23", cause="manual",
        because="somebody",
        started_at=BEGAN, training_set=training_set,
        eval_shards=EvalShards(val=ShardList.empty("val"), test=ShardList.empty("test")),
    )  # fmt: skip
    place.keep(SETTLED_FILE, settled(read_sweep(ROOT / "sweeps" / "demo.yaml"), RECIPE, "demo.yaml"))
    write_text(place.root / RECIPE_FILE, dump_yaml(RECIPE.model_dump(mode="json")))
    place.keep(PLAN_FILE, plan)
    return place


def two_trials() -> Trials:
    """The recipe as it is, which ran to its end, and one that was ended at the first rung."""
    trials, now = Trials(), BEGAN.timestamp()
    trials.asked(0, Suggestion(AS_IT_IS), now)
    trials.reported(0, 9, {IOU: 0.5}, now)
    trials.became(0, "completed", now)
    trials.asked(1, Suggestion({**AS_IT_IS, "optim.lr": 1e-4}), now + 3600)
    trials.reported(1, 3, {IOU: 0.1}, now)
    trials.decided(1, 3, Decision("stop", "too little", "asha", 3, 0.4, 3), now)
    trials.became(1, "stopped", now)
    return trials


def books(hours: float = 2.0) -> Ledger:
    """A GPU for a dollar an hour: the first trial took an hour, the second half of one."""
    costs = (TrialCost(0, False, 3600.0, 1.0, 1.0, 9), TrialCost(1, False, 1800.0, 0.5, 0.5, 3))
    budget = Budget(max_trials=4, max_cost_usd=6.0, wall_time=6 * 3600.0)
    began = BEGAN.timestamp()
    return Ledger(budget, 9, Estimate("g5.xlarge", 1, 1, 1.0), costs, began, began + 3600 * hours)


RUN = TrialRun(
    tune="demo", trial=0, state="completed", reason="", params=AS_IT_IS, run_id="ab12cd34", directory="d",
    metrics={IOU: 0.55, MS: 20.0}, node_seconds=3600.0, gpu_hours=1.0, usd=1.0,
)  # fmt: skip


def test_the_report_of_a_sweep_under_way_is_made_of_what_it_keeps(place: SweepPlace) -> None:
    found = summary_of(place, two_trials(), books(), {0: RUN})
    assert (found.sweep.name, found.sweep.recipe, found.sweep.window) == ("demo", RECIPE.name, "2026-02-23")
    assert (found.outcome.ended, found.outcome.winner) == ("running", None)
    first, second = found.trials
    assert (first.name, first.objectives, first.feasible, first.cost_usd) == ("demo-cv0", {IOU: 0.55}, True, 1.0)
    assert (second.name, second.state, second.cost_usd, second.seconds) == ("demo-cv1", "stopped", 0.5, 1800.0)
    assert {axis.name for axis in found.parameters} == set(AS_IT_IS)
    assert {axis.name: axis.recipe for axis in found.parameters} == AS_IT_IS


def test_the_recipe_as_it_is_is_what_others_are_compared_with(place: SweepPlace) -> None:
    found = summary_of(place, two_trials(), books(), {0: RUN})
    assert found.baseline is not None
    assert (found.baseline.name, found.baseline.metrics) == ("recipe", {IOU: 0.55})
    assert found.trials[1].differences[IOU] == pytest.approx(0.1 - 0.55)


def test_a_sweep_that_is_through_has_a_winner_no_forecast_and_the_time_that_it_took(
    place: SweepPlace, tmp_path: Path
) -> None:
    place.keep(ENDED_FILE, Ended(reason="the search has nothing more to try", ended_at=BEGAN + timedelta(hours=3)))
    found = summary_of(place, two_trials(), books(hours=99.0), {0: RUN}, errors={1: "no word"})
    assert (found.outcome.ended, found.outcome.winner) == ("completed", 0)
    caps = {one.what: one for one in found.budget.caps}
    assert (caps["hours"].used, caps["hours"].limit, caps["hours"].forecast) == (3.0, 6.0, None)
    page = write_report(found, tmp_path / "report")
    assert page == tmp_path / "report" / PAGE_FILE
    assert "Started because of somebody." in page.read_text()


def test_what_was_spent_is_told_over_time_and_by_cap() -> None:
    found = budget_facts(books(), two_trials())
    assert found.unit == "USD"
    assert [(one.what, one.used, one.limit) for one in found.caps] == [
        ("trials", 2.0, 4.0), ("GPU hours", 1.5, None), ("hours", 2.0, 6.0), ("USD", 1.5, 6.0)
    ]  # fmt: skip
    assert [(one.hours, one.total) for one in found.spent] == [(0.0, 0.0), (1.0, 1.0), (1.5, 1.5)]
    assert found.caps[3].forecast == books().forecast("max_cost_usd")


def test_where_nothing_has_a_price_hours_of_trials_are_told() -> None:
    free = Ledger(Budget(max_trials=4), 9, Estimate("cpu", 1, 0, None), (TrialCost(0, False, 7200.0),), 0.0, 7200.0)
    trials = Trials()
    trials.asked(0, Suggestion(AS_IT_IS), 0.0)
    found = budget_facts(free, trials)
    assert (found.unit, [one.total for one in found.spent]) == ("hours of trials", [0.0, 2.0])


def test_dagster_is_shown_the_tables_and_the_winners_numbers(place: SweepPlace) -> None:
    place.keep(ENDED_FILE, Ended(reason="through", ended_at=BEGAN + timedelta(hours=3)))
    shown = sweep_metadata(summary_of(place, two_trials(), books(), {0: RUN}))
    assert "| 1 | demo-cv0 ★ | completed | 0.55 | +0 |" in str(shown["leaderboard"].value)
    assert shown[IOU].value == 0.55
    assert shown["used USD"].value == 1.5
    assert "too few" in str(next(value for name, value in shown.items() if "fANOVA" in name).value)
