"""What the clock starts, and why it sometimes does not."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from training_assets.control import VERSION_TAG, plans_of
from training_assets.launchers import Status
from training_assets.recipes import load_recipes
from training_assets.schedules import nightly_request

WINDOW = "2026-01-12"
CHAIN = ("training_set", "checkpoint", "exported_model", "eval_report", "model_card", "registry_entry")


def asking(graph: Any, **automation: object) -> Any:
    """The graph with a recipe that asks for something."""
    path = graph.profile.recipes / "tiny.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "automation": automation}))
    return graph.edited()


def tick(graph: Any, name: str, instance: dg.DagsterInstance | None = None) -> Any:
    """What the schedule asks for, or why nothing."""
    context = dg.build_schedule_context(
        instance=instance, repository_def=graph.defs.get_repository_def(), resources=graph.defs.resources
    )
    found = graph.defs.resolve_schedule_def(name).evaluate_tick(context)
    return found.run_requests[0] if found.run_requests else found.skip_message


def nightly(graph: Any) -> Any:
    """The same of ``nightly``, on the graph's own instance: a schedule opens only one that is on disk."""
    recipes = load_recipes(graph.profile.recipes)[0].values()
    assets = graph.defs.resolve_asset_graph()
    found = nightly_request(list(recipes), graph.profile, graph.places, assets, graph.instance)
    return found.skip_message if isinstance(found, dg.SkipReason) else found


def job(graph: Any, name: str, **arguments: Any) -> Any:
    """A run of a job as Dagster makes it, with the job's own tags."""
    definition = graph.defs.resolve_job_def(name)
    return definition.execute_in_process(instance=graph.instance, raise_on_error=False, **arguments)


def test_the_schedules_that_cost_computing_time_are_off_until_somebody_switches_them_on(graph: Any) -> None:
    schedules = graph.defs.get_repository_def().schedule_defs
    on = [one.name for one in schedules if one.default_status == dg.DefaultScheduleStatus.RUNNING]
    assert on == ["weekly_retention"]
    for one in schedules:
        assert one.name in on or "Switched off at first" in (one.description or "")


def test_the_profile_says_when(graph: Any) -> None:
    times = graph.profile.schedules.model_copy(update={"nightly": "30 22 * * *", "timezone": "Europe/Berlin"})
    graph.profile = graph.profile.model_copy(update={"schedules": times})
    nightly = asking(graph).defs.resolve_schedule_def("nightly")
    assert (nightly.cron_schedule, nightly.execution_timezone) == ("30 22 * * *", "Europe/Berlin")


@pytest.mark.slow
def test_a_schedule_that_no_recipe_asks_for_says_so(graph: Any, tmp_path: Path) -> None:
    assert graph.run("dataset_version").success
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        for name in ("nightly", "weekly", "weekly_sweep"):
            assert "no recipe asks for it" in tick(graph, name, instance)


@pytest.mark.slow
def test_nightly_stages_what_the_newest_window_looks_back_on_and_then_trains_it_unless_all_is_up_to_date(
    graph: Any,
) -> None:
    graph = asking(graph, nightly=True)
    assert "has not been materialised" in nightly(graph)
    assert graph.run("dataset_version", "eval_shards").success
    request = nightly(graph)
    assert request.job_name == "staging_job"
    assert request.tags["dagster/priority"] == "10"
    assert request.tags["dagster/asset_partition_range_start"] == "2026-01-05"
    assert request.tags["dagster/asset_partition_range_end"] == WINDOW
    (plan,) = plans_of(request.tags)
    assert (plan.recipe, plan.window, plan.cause) == ("tiny", WINDOW, "nightly")
    assert "staged_shards 2026-01-12: never materialised" in plan.because

    assert graph.run("staged_shards", windows=("2026-01-05", WINDOW)).success
    assert "checkpoint: never materialised" in plans_of(nightly(graph).tags)[0].because
    assert job(graph, "tiny_job", partition_key=WINDOW).success
    assert nightly(graph) == f"tiny: window {WINDOW} is up to date"


def test_nightly_does_not_start_what_is_under_way(graph: Any) -> None:
    graph = asking(graph, nightly=True)
    assert graph.run("dataset_version", "eval_shards").success
    staging = nightly(graph)
    definition = graph.defs.resolve_job_def("staging_job")
    run = graph.instance.create_run_for_job(definition, tags=staging.tags)
    assert nightly(graph) == f"tiny: run {run.run_id} is under way"


@pytest.mark.slow
def test_nightly_does_not_repeat_a_failure_but_tries_other_data_and_other_settings(graph: Any, trainer: Any) -> None:
    graph = asking(graph, nightly=True)
    assert graph.run("dataset_version", "eval_shards").success
    assert graph.run("staged_shards", windows=("2026-01-05", WINDOW)).success
    trainer.poll = lambda handle: Status("failed", 3, "a gate inside the training failed", kind="gate")
    experiment = {"ops": {"tiny__checkpoint": {"config": {"overrides": ["optim.lr=9"]}}}}
    assert not job(graph, "tiny_job", partition_key=WINDOW, run_config=experiment).success
    assert plans_of(nightly(graph).tags), "somebody's experiment is not the recipe"
    failed = job(graph, "tiny_job", partition_key=WINDOW)
    assert not failed.success
    assert f"run {failed.run_id} failed on the same data" in nightly(graph)

    graph.edit("golden_train.manifest", lambda text: "".join(text.splitlines(keepends=True)[:-1]))
    assert graph.run("dataset_version").success
    assert plans_of(nightly(graph).tags)
    del trainer.poll
    assert graph.run("staged_shards", windows=("2026-01-05", WINDOW)).success
    trainer.poll = lambda handle: Status("failed", 3, "a gate inside the training failed", kind="gate")
    failed = job(graph, "tiny_job", partition_key=WINDOW)
    assert f"run {failed.run_id} failed on the same data" in nightly(graph)
    path = graph.profile.recipes / "tiny.yaml"
    path.write_text(path.read_text().replace("lr: 0.01", "lr: 0.02"))
    other = graph.edited()
    assert plans_of(nightly(other).tags)


@pytest.mark.slow
def test_a_model_that_its_gates_stopped_is_not_trained_again_each_night(graph: Any) -> None:
    graph.defs.resources["launcher"].metrics["segmentation/mIoU"] = 0.1
    with open(graph.profile.recipes / "tiny.yaml", "a") as recipe:
        recipe.write("release: {targets: {segmentation/mIoU: 0.5}}\n")
    graph = asking(graph, nightly=True)
    assert graph.run("dataset_version", "eval_shards").success
    assert graph.run("staged_shards", windows=("2026-01-05", WINDOW)).success
    assert not job(graph, "tiny_job", partition_key=WINDOW).success
    assert nightly(graph) == f"tiny: window {WINDOW} is up to date"


def test_weekly_begins_with_the_newest_delivery(graph: Any) -> None:
    graph = asking(graph, weekly=True)
    request = tick(graph, "weekly")
    assert request.tags["training_assets/cause"] == "weekly"
    assert request.tags["dagster/priority"] == "5"
    (graph.delivery / "_SUCCESS").unlink()
    assert "no complete delivery" in tick(graph, "weekly")


def test_a_sweep_is_asked_for_once_a_week(graph: Any) -> None:
    graph = asking(graph, sweep_weekly=True)
    assert "weekly sweep of tiny" in tick(graph, "weekly_sweep").tags["training_assets/because"]
    for _ in range(2):
        assert job(graph, "sweep_request_job").success
    events = (graph.places.root / "events.jsonl").read_text().splitlines()
    assert len(events) == 1
    assert '"sweep.requested"' in events[0]


def test_a_run_of_a_recipe_says_which_recipe_and_code_it_is_of(graph: Any) -> None:
    tags = graph.defs.resolve_job_def("tiny_job").tags
    path = graph.profile.recipes / "tiny.yaml"
    path.write_text(path.read_text().replace("lr: 0.01", "lr: 0.02"))
    other = type(graph)(graph.profile, graph.instance).defs.resolve_job_def("tiny_job").tags
    assert tags[VERSION_TAG] != other[VERSION_TAG]


def test_the_retention_by_the_clock_removes_nothing(graph: Any) -> None:
    config = tick(graph, "weekly_retention").run_config
    assert config == {"ops": {"clear_store": {"config": {"dry_run": True}}}}
    assert job(graph, "retention_job", run_config=config).success
