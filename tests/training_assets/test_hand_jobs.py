"""What people launch by hand: judging a version on any data, deciding on production, starting a sweep."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from tests.training_assets.conftest import WITH_ROWS, Graph, Snapshot, failure_of
from tests.training_assets.test_sweep_commands import SWEEP
from training_assets.__main__ import main
from training_assets.jobs import CHAIN
from training_assets.launchers import LAUNCHERS
from training_assets.stores.registry import Registry

IOU = "segmentation/mIoU"
OPS = {
    "evaluate_job": "evaluate_version",
    "promote_job": "promote_version",
    "rollback_job": "roll_back_production",
    "sweep_start_job": "start_sweep",
}


@pytest.fixture(scope="module")
def released_once(make_graph: Callable[..., Graph], snapshot: Callable[[Graph], Snapshot]) -> Iterator[Snapshot]:
    """Two versions of a project: 1.0.0, which is in production, and 1.1.0, which is better."""
    with dg.DagsterInstance.ephemeral() as instance:
        graph = make_graph(instance)
        assert graph.run("dataset_version", "eval_shards").success
        assert graph.run("staged_shards", windows=WITH_ROWS).success
        chain = [f"tiny/{name}" for name in CHAIN]
        assert graph.run(*chain, window=WITH_ROWS[0]).success
        Registry(graph.profile.store).promote("tests", "1.0.0", by="ann", reason="first")
        graph.trainer.metrics = {IOU: 0.8, "detection/AP50": 0.6}
        assert graph.run(*chain, window=WITH_ROWS[1]).success
        yield snapshot(graph)


@pytest.fixture
def released(released_once: Snapshot) -> Graph:
    return released_once.restored()


@pytest.fixture
def place(released: Graph, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """Where the commands find it too."""
    for name in ("store", "inbox", "recipes", "sweeps"):
        monkeypatch.setenv(f"TRAINING_ASSETS_{name.upper()}", str(getattr(released.profile, name)))
    monkeypatch.setitem(LAUNCHERS, "local", lambda profile: released.trainer)
    return released


def launch(graph: Graph, job: str, **config: object) -> dg.ExecuteInProcessResult:
    """Without configuration what an empty launchpad launches."""
    run_config = {"ops": {OPS[job]: {"config": config}}} if config else {}
    found = graph.defs.resolve_job_def(job)
    return found.execute_in_process(instance=graph.instance, run_config=run_config, raise_on_error=False)


def shown(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    assert result.success, failure_of(result)
    (output,) = (event.step_output_data.metadata for event in result.all_events if event.is_successful_output)
    return {name: value.value for name, value in output.items()}


def refused(result: dg.ExecuteInProcessResult) -> str:
    """What was said of bad input, once: it is not tried again."""
    assert not result.success
    assert not [event for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY]
    return failure_of(result)


def production(graph: Graph) -> str | None:
    newest = Registry(graph.profile.store).newest("tests", "production")
    return newest and newest.version


def state(graph: Graph) -> dict[str, bytes]:
    """All that the registry, the records and the events hold."""
    files = (path for top in ("registry", "records", "outbox") for path in (graph.profile.store / top).rglob("*"))
    return {str(path): path.read_bytes() for path in files if path.is_file()}


def test_every_field_of_every_launchpad_is_described_and_has_a_default(released: Graph) -> None:
    repository = released.defs.get_repository_def()
    seen = set()
    for job in repository.get_all_jobs():
        assert job.name.startswith("__") or job.description, job.name
        for node in job.graph.nodes:
            schema = node.definition.config_schema
            for name, field in getattr(schema.config_type, "fields", {}).items() if schema else ():
                seen.add(f"{node.name}.{name}")
                assert field.description, (node.name, name)
                assert field.default_provided or not field.is_required, (node.name, name)
    assert {"tiny__checkpoint.overrides", "dataset_version.delivery", "evaluate_version.model"} <= seen


def test_launched_with_nothing_they_list_what_there_is_and_change_nothing(released: Graph) -> None:
    before = state(released)
    versions = shown(launch(released, "promote_job"))["versions"]
    assert versions.index("tests@1.1.0") < versions.index("tests@1.0.0"), "the newest first"
    assert "segmentation/mIoU 0.8" in versions
    assert "| tests | 1.0.0 | – |" in shown(launch(released, "rollback_job"))["production"]
    assert "| demo.yaml | scenes_multitask |" in shown(launch(released, "sweep_start_job"))["files"]
    assert state(released) == before


def test_any_version_is_judged_on_the_pinned_test_beside_production(released: Graph) -> None:
    before = state(released)
    found = shown(launch(released, "evaluate_job", model="tests@1.1.0"))
    assert (found["version"], found["compared_with"]) == ("tests@1.1.0", "tests@1.0.0")
    report = json.loads(Path(found["report"]).read_text())
    assert found[f"test/{IOU}"] == report["splits"]["test"]["metrics"][IOU] == 0.8
    assert report["against"]["splits"]["test"]["all"][IOU]["reference"] == 0.7
    assert "night, to production" in found["test/slices"]
    page = Path(found["dashboard"]).read_text()
    assert "tests@1.0.0, on the same samples" in page
    assert "tests@1.1.0" in page
    assert state(released) == before
    assert Path(found["report"]).is_relative_to(released.profile.store / "evaluations" / "tests")


def test_with_nothing_said_production_is_judged_and_compared_with_nothing(released: Graph) -> None:
    found = shown(launch(released, "evaluate_job"))
    assert (found["version"], found["compared_with"]) == ("tests@1.0.0", "nothing")
    registered = Registry(released.profile.store).find("tests@1.0.0")
    report = json.loads(Path(found["report"]).read_text())
    assert report["checkpoint_sha256"] == registered.files["best.pt"].sha256


def test_a_delivery_or_a_manifest_with_other_slices_is_judged_on_by_its_path(released: Graph, tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    shutil.copytree(released.delivery, drop)
    slices = yaml.safe_load((drop / "slices.yaml").read_text())
    limits = {"name": "night", "where": {"attributes.time_of_day": "night"}, "targets": {IOU: 0.99}, "min_samples": 1}
    (tmp_path / "strict.yaml").write_text(yaml.safe_dump({**slices, "slices": [limits]}))
    by_name = shown(launch(released, "evaluate_job", data="delivery", split="val"))
    by_path = shown(
        launch(released, "evaluate_job", data=str(drop / "golden_val.manifest"), slices=str(tmp_path / "strict.yaml"))
    )
    assert by_name["data"] == "delivery, golden_val.manifest"
    assert by_path["data"] == str(drop / "golden_val.manifest")
    assert by_name["report"] != by_path["report"], "other slices are another evaluation"
    assert "night | 0.8 | 0.99 | -0.19 | failed" in by_path["gates"]
    asked = Path(by_path["report"]).parent / "data" / "slices.yaml"
    assert asked.read_text() == (tmp_path / "strict.yaml").read_text()


REFUSED = [
    ({"model": "tests@9.9.9"}, "expected one of tests@1.0.0, tests@1.1.0"),
    ({"model": "nobody"}, "PROJECT@VERSION or PROJECT@ALIAS"),
    ({"data": "never_came"}, "nothing to take from the inbox"),
    ({"data": "/no/such/place"}, "found nothing, expected a file or a directory"),
    ({"slices": "/no/such.yaml"}, "found nothing, expected a file or a directory"),
    ({"slices": str(Path(__file__).parent)}, "a directory, expected a file like slices.yaml"),
    ({"split": "train"}, "expected val or test"),
    ({"against": "no such alias!"}, "expected a version as 1.2.0, or an alias as production"),
]


def test_what_cannot_be_evaluated_is_refused_before_anything_is_launched(released: Graph, tmp_path: Path) -> None:
    launched = len(released.trainer.launched)
    for config, message in REFUSED:
        assert message in refused(launch(released, "evaluate_job", **config))
    bad = tmp_path / "bad.manifest"
    bad.write_text((released.delivery / "golden_val.manifest").read_text())
    said = refused(launch(released, "evaluate_job", data=str(bad)))
    assert "bad.manifest cannot be evaluated on" in said
    assert "a file that is there" in said
    assert len(released.trainer.launched) == launched


def test_what_was_judged_by_hand_may_be_cleared_away_later(released: Graph) -> None:
    report = Path(shown(launch(released, "evaluate_job"))["report"])
    config = {"ops": {"clear_store": {"config": {"dry_run": True}}}}
    job = released.defs.resolve_job_def("retention_job")
    done = job.execute_in_process(instance=released.instance, run_config=config)
    (output,) = (event.step_output_data.metadata for event in done.all_events if event.is_successful_output)
    assert "| evaluations | 1 |" in output["report"].value
    assert report.is_file()


def test_production_goes_on_and_back_with_a_reason_and_others_are_told(released: Graph) -> None:
    result = launch(released, "promote_job", model="tests@1.1.0", reason="better at night")
    assert "| tests@1.1.0 | candidate/" in shown(result)["versions"].replace("production, ", "")
    assert production(released) == "1.1.0"
    assert "why production goes back" in refused(launch(released, "rollback_job", project="tests"))
    back = launch(released, "rollback_job", project="tests", reason="misses cyclists")
    assert "| tests | 1.0.0 | – |" in shown(back)["production"]
    assert "and nothing before it" in refused(launch(released, "rollback_job", project="tests", reason="again"))
    moves = Registry(released.profile.store).history("tests", "production")
    assert [(one.version, one.rolled_back, one.reason) for one in moves] == [
        ("1.0.0", False, "first"), ("1.1.0", False, "better at night"), ("1.0.0", True, "misses cyclists")
    ]  # fmt: skip
    assert moves[-1].by == f"dagster run {back.run_id}"
    told = [json.loads(line) for line in (released.profile.store / "events.jsonl").read_text().splitlines()]
    last = [one for one in told if one["type"] == "model.promoted"][-1]
    assert (last["version"], last["previous"], last["rolled_back"]) == ("1.0.0", "1.1.0", True)


def test_what_cannot_be_promoted_is_refused(released: Graph) -> None:
    before = state(released)
    assert "expected one of tests@1.0.0" in refused(launch(released, "promote_job", model="tests@2.0.0"))
    assert "no usable name of a project" in refused(launch(released, "rollback_job", project="No!", reason="x"))
    assert "there is no version to go back to" in refused(launch(released, "rollback_job", project="x", reason="x"))
    assert state(released) == before


def test_a_decision_whose_process_is_lost_is_not_made_twice(released: Graph) -> None:
    for job in ("promote_job", "rollback_job", "sweep_start_job"):
        assert released.defs.resolve_job_def(job).tags["dagster/max_retries"] == "0"


def test_the_commands_do_the_same(place: Graph, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["promote", "tests@1.1.0"]) == 0
    assert main(["rollback", "tests", "--reason", "misses cyclists"]) == 0
    assert "tests@production is 1.0.0 (before: 1.1.0)" in capsys.readouterr().out
    assert production(place) == "1.0.0"
    assert main(["rollback", "tests", "--reason", "again"]) == 2
    assert "there is no version to go back to" in capsys.readouterr().err


@pytest.mark.slow
def test_evaluate_on_the_command_line_says_where_the_page_is(
    place: Graph, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    assert main(["evaluate", "tests@1.1.0", "--against", "1.0.0"]) == 0
    said = capsys.readouterr().out
    (page,) = (line.split(": ")[1] for line in said.splitlines() if line.startswith("• dashboard: "))
    assert "tests@1.0.0, on the same samples" in Path(page).read_text()
    assert main(["evaluate", "tests@1.1.0", "--data", "never_came"]) == 1
    assert "nothing to take from the inbox" in capsys.readouterr().err


def test_a_sweep_is_started_once_by_its_name_and_only_where_its_data_is_made(released: Graph, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    found = shown(launch(released, "sweep_start_job", file=str(file), name="night-owl-2"))
    assert found["sweep"] == "night-owl-2"
    plan = json.loads((Path(found["directory"]) / "plan.json").read_text())
    assert (plan["recipe"], plan["window"], plan["cause"]) == ("tiny", WITH_ROWS[1], "manual")
    assert plan["because"].startswith("dagster run ")
    again = launch(released, "sweep_start_job", file=str(file), name="night-owl-2")
    assert "this name is taken" in refused(again)
    elsewhere = launch(released, "sweep_start_job", file=str(file), window="2025-12-29")
    assert "nothing to sweep on" in refused(elsewhere)
    assert "No such file" in refused(launch(released, "sweep_start_job", file="no_such.yaml"))
