"""``make screenshots``: the pictures of the documents, taken of what the demo left in this environment's store.

They show ``make demo``, and what ``make demo-sweep`` made where it was run.
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.browser.chromium import chromium
from tests.browser.dagster_ui import DagsterUi
from tests.training_assets.daemons import ROOT, WebServer, until
from training_assets.dashboard import DASHBOARD_FILE
from training_assets.home import prepare_home
from training_assets.places import Places
from training_assets.profiles import load_profile
from training_assets.records import Evaluation
from training_assets.stores.record_store import RecordStore
from training_assets.summary import RecipeSummary, summary
from training_assets.sweeps.place import all_sweeps
from training_assets.sweeps.report import PAGE_FILE

OUT = ROOT / "docs" / "screenshots"
VIEW = {"width": 1440, "height": 900}
TALL = {"width": 1440, "height": 1500}
COLOURS = 128
SHORTER = """([found, instead]) => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(found, instead);
}"""
SETTLED_MS = 1500
"""What is drawn after its texts are there: plots and the graph's lines."""


@dataclass(frozen=True)
class Shooting:
    browser: Browser
    address: str
    recipe: str
    window: str

    @contextlib.contextmanager
    def page(self, size: dict[str, int] = VIEW) -> Iterator[DagsterUi]:
        page = self.browser.new_page(viewport={"width": size["width"], "height": size["height"]})
        yield DagsterUi(page, self.address, [])
        page.close()

    def asset(self, name: str) -> str:
        return f"{self.recipe}/{name}"


def main() -> None:
    OUT.mkdir(exist_ok=True)
    made = summary().document["recipes"]
    if not made:
        raise SystemExit("nothing has been made yet: make demo")
    one: RecipeSummary = max(made, key=lambda one: len(one.scores.metrics))  # which has most to show
    with _web_server() as address, chromium() as browser:
        _of_dagster(Shooting(browser, address, one.recipe, one.window))
        _of_dashboards(browser, one)


def _of_dagster(at: Shooting) -> None:
    with at.page() as ui:
        ui.open("/asset-groups", "dataset", at.recipe, "sweeps")
        keep(ui.page, "groups")
    with at.page() as ui:
        ui.open(f"/locations/training_assets/asset-groups/{at.recipe}/lineage", "registry_entry", "slice_eval")
        keep(ui.page, "recipe")
    with at.page(TALL) as ui:
        ui.asset(at.asset("checkpoint"), "overview", "loss_curve", "bottleneck")
        keep(ui.page, "checkpoint")
    with at.page() as ui:
        ui.asset(at.asset("eval_report"), "checks", "Passed")
        ui.page.get_by_text("targets_met_on_every_slice").first.click()
        keep(ui.page, "checks")
    with at.page(TALL) as ui:
        ui.asset(at.asset("eval_report"), "overview", "mAP")
        keep(ui.page, "eval_report")
    with at.page(TALL) as ui:
        ui.asset(at.asset("registry_entry"), "overview", "lineage")
        keep(ui.page, "registry_entry")


def _of_dashboards(browser: Browser, one: RecipeSummary) -> None:
    places = Places(load_profile().store)
    evaluation = RecordStore(places).read(dg.AssetKey([one.recipe, "eval_report"]), one.window, Evaluation)
    _of_file(browser, places.absolute(evaluation.directory) / DASHBOARD_FILE, "dashboard")
    for sweep in all_sweeps(places):
        report = sweep.report / PAGE_FILE
        if report.is_file():
            _of_file(browser, report, "sweep_report")


def _of_file(browser: Browser, path: Path, name: str) -> None:
    page = browser.new_page(viewport={"width": VIEW["width"], "height": VIEW["height"]}, color_scheme="light")
    page.goto(path.as_uri())
    keep(page, name)
    page.close()


def keep(page: Page, name: str) -> None:
    """What ``page`` shows, with few colours: half the bytes. The store's place is this machine's alone."""
    page.wait_for_timeout(SETTLED_MS)
    page.evaluate(SHORTER, [str(load_profile().store), "var/store"])
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS)
    picture.save(OUT / f"{name}.png", optimize=True)
    print(f"{OUT / name}.png: {(OUT / f'{name}.png').stat().st_size:,} bytes")


@contextlib.contextmanager
def _web_server() -> Iterator[str]:
    prepare_home()
    server = WebServer(ROOT / "workspace.yaml")
    try:
        until(lambda: server.ask("{ version }"), 120)
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.close()


if __name__ == "__main__":
    main()
