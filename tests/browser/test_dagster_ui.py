"""Dagster's page in a real browser, with Dagster's real processes: what a person sees, clicks and gets.

They share one installation whose environment and configuration hold secrets; the last test looks for them in all that
the others saw and left.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.browser.chromium import Heard
from tests.browser.dagster_ui import DagsterUi
from tests.browser.fixtures import VIEW, keep_picture
from tests.browser.installation import BEFORE, EMPTY, WINDOW, Installation, installed
from tests.planted import ENVIRONMENT, SECRETS, contents, found_below, found_in_value
from training_assets.records import Checkpoint, ShardList

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

BESIDES = {"SLACK_TOKEN", "TORCH_HUB_TOKEN", "TRAINING_ASSETS_PASSWORD"}
"""Variables with a secret whose names begin as those that trainings inherit, or sound like one."""
PLANTED = {
    **ENVIRONMENT,
    **dict.fromkeys(BESIDES, SECRETS["TRAINING_ALERTS_TOKEN"]),
    "AWS_ENDPOINT_URL_S3": f"http://user:{quote(SECRETS['AWS_SECRET_ACCESS_KEY'], '')}@127.0.0.1:9",
    "HTTPS_PROXY": f"http://user:{quote(SECRETS['DAGSTER_POSTGRES_PASSWORD'], '')}@127.0.0.1:9",
}
GUARDED = {"module": "tests.browser.storage", "class": "GuardedStorage"}
"""A storage with a password, which ``dagster.yaml`` takes from the environment."""


@pytest.fixture(scope="module")
def place(delivery: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    root = tmp_path_factory.mktemp("place")
    password = {"base_dir": str(root / "home" / "storage"), "password": {"env": "DAGSTER_POSTGRES_PASSWORD"}}
    storage = {"storage": {"custom": {**GUARDED, "config": password}}}
    with installed(root, delivery, recipe, PLANTED, storage) as place:
        yield place


@pytest.fixture(scope="module")
def heard(place: Installation) -> Heard:
    return Heard(place.address)


@pytest.fixture(scope="module")
def person(place: Installation, heard: Heard, browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport=VIEW) as person:
        person.on("page", heard.listen)
        yield person


@pytest.fixture(scope="module")
def shown() -> list[str]:
    """Every page that was looked at."""
    return []


@pytest.fixture
def ui(
    person: BrowserContext, place: Installation, shown: list[str], request: pytest.FixtureRequest
) -> Iterator[DagsterUi]:
    ui = DagsterUi(person.new_page(), place.address, shown)
    yield ui
    keep_picture(ui.page, request.node.name)
    ui.page.close()


@pytest.fixture(scope="module")
def trained(person: BrowserContext, place: Installation, shown: list[str]) -> str:
    """The page of a training of a window that was started by clicking, and has ended well."""
    ui = DagsterUi(person.new_page(), place.address, shown)
    run = ui.launch("tiny/checkpoint", WINDOW, "Launch 1 run")
    ui.ended("Success", 120)
    keep_picture(ui.page, "trained")
    return run


def test_the_code_location_loads_without_an_error(ui: DagsterUi) -> None:
    ui.open("/deployment/locations", "training_assets", "Loaded")
    assert ui.page.get_by_text("Failed").count() == 0


def test_the_graph_shows_every_group_and_every_asset(ui: DagsterUi, place: Installation) -> None:
    graph = place.graph.defs.resolve_asset_graph()
    groups = {node.group_name for node in graph.asset_nodes}
    drawn = ui.graph(sorted(groups)).split()
    assert groups | {node.key.path[-1] for node in graph.asset_nodes} <= set(drawn)


def test_a_window_is_trained_by_clicking_and_its_page_says_how_it_went(
    ui: DagsterUi, place: Installation, trained: str
) -> None:
    record = place.graph.record("tiny/checkpoint", Checkpoint, WINDOW)
    assert trained == f"/runs/{record.dagster_run_id}"
    assert record.result.samples_per_second != 10.0, "the one that the pretending trainer left"
    ui.asset("tiny/checkpoint", "overview", record.run_id, "Latest check results")
    assert "loss curve" in ui.page.content()
    ui.asset("tiny/checkpoint", "checks", "Succeeded", "Passed")


def test_the_gates_of_a_model_are_told_with_their_tables(ui: DagsterUi, place: Installation) -> None:
    graph = place.graph.defs.resolve_asset_graph()
    names = [key.name for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(["tiny", "eval_report"])]
    assert len(names) > 2
    ui.asset("tiny/eval_report", "checks", *map(shortened, names), "Succeeded", "Passed", WINDOW)
    ui.asset("tiny/eval_report", "overview", "night", "segmentation/mIoU")


def shortened(name: str) -> re.Pattern[str]:
    """``name``, of which the page may leave out the middle."""
    return re.compile(f"^({re.escape(name)}|{re.escape(name[:8])}.*….*{re.escape(name[-8:])})$")


def test_a_backfill_of_three_windows_is_started_by_clicking_and_finishes(ui: DagsterUi, place: Installation) -> None:
    path = ui.launch("staged_shards", f"[{EMPTY}...{WINDOW}]", "Launch backfill")
    ui.ended("100% completed", 120)
    backfill = path.rpartition("/")[2]
    tags = {"dagster/backfill": backfill}
    (run,) = place.graph.instance.get_runs(dg.RunsFilter(tags=tags))
    assert run.is_success
    staged = [place.graph.record("staged_shards", ShardList, window) for window in (EMPTY, BEFORE, WINDOW)]
    assert [one.samples for one in staged] == [0, 27, 21]


PAGES = {
    "/overview/activity/timeline": "Overview",
    "/assets": "tiny",
    "/runs": "staged_shards",
    "/runs?view=backfills": "Backfills",
    "/jobs": "tiny_job",
    "/automation": "delivery_sensor",
    "/deployment/daemons": "Running",
    "/deployment/config": "PrioritizedRunCoordinator",
    "/locations/training_assets/jobs/tiny_job": "checkpoint",
}


def test_every_other_page_opens_too(ui: DagsterUi) -> None:
    for path, said in PAGES.items():
        ui.open(path, said)


def test_nothing_that_is_shown_told_or_left_behind_has_a_secret(
    ui: DagsterUi, place: Installation, trained: str, heard: Heard, shown: list[str]
) -> None:
    ui.open(trained, "Success")
    for stream in ("stdout", "stderr"):
        ui.page.get_by_role("button", name=stream).click()
        ui.remember()
    ui.page.get_by_role("button", name="View tags and config").click()
    ui.remember()
    assert not found_in_value([*shown, *heard.answers])
    assert found_below([place.store, place.home, place.logs]) == {}
    public = place.graph.record("tiny/checkpoint", Checkpoint, WINDOW).run_id
    assert all(any(public in text for text in texts) for texts in (shown, heard.answers)), "all is looked at"
    for root in (place.store, place.home, place.logs):
        files = [path for path in root.rglob("*") if path.is_file()]
        assert any(public.encode() in content for path in files for content in contents(path)), "all is looked at"


def test_no_page_asked_another_host_or_had_an_error(ui: DagsterUi, heard: Heard) -> None:
    ui.open("/asset-groups", "tiny")
    assert heard.answers
    assert heard.elsewhere == []
    assert heard.errors == []
