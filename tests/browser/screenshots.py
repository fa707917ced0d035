"""``make screenshots``: the documents' pictures, of what ``make demo`` and ``make demo-sweep`` left in the storage.

Nothing is started but the web server. What the storage does not have is left out, and said.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
from playwright.sync_api import Browser, Page

from tests.browser.chromium import chromium
from tests.browser.dagster_ui import DagsterUi
from tests.training_assets.daemons import ROOT, WebServer, until
from training_assets.dashboard import DASHBOARD_FILE
from training_assets.home import instance
from training_assets.profiles import load_profile

OUT = ROOT / "docs" / "screenshots"
VIEW = {"width": 1280, "height": 800}
WIDE = {"width": 1920, "height": 1080}
LIMIT = 200_000


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    with instance() as storage:
        recipe = recipe_of(storage)
        backfills = storage.get_backfills(limit=1)
    if recipe is None:
        print("there is no checkpoint in the storage: make demo", file=sys.stderr)
        return 1
    web = WebServer(ROOT / "workspace.yaml")
    try:
        until(lambda: web.ask("{ version }"), 120)
        with chromium() as browser:
            of_dagster(browser, f"http://127.0.0.1:{web.port}", recipe, backfills[0].backfill_id if backfills else None)
            of_reports(browser, load_profile().store)
    finally:
        web.close()
    return 0


def recipe_of(storage: dg.DagsterInstance) -> str | None:
    """The recipe that was trained last."""
    found = [key for key in storage.all_asset_keys() if key.path[-1] == "checkpoint"]
    made = {key.path[0]: storage.get_latest_materialization_event(key) for key in found}
    trained = {name: event.timestamp for name, event in made.items() if event is not None}
    return max(trained, key=lambda name: trained[name]) if trained else None


def of_dagster(browser: Browser, address: str, recipe: str, backfill: str | None) -> None:
    def tab(name: str, look: Callable[[DagsterUi], object], view: dict[str, int] = VIEW) -> None:
        page = browser.new_page(viewport=view)  # type: ignore[arg-type]
        look(DagsterUi(page, address, []))
        page.wait_for_timeout(2500)  # statuses and plots come by and by
        keep(page, name)
        page.close()

    def metadata(asset: str, *keys: str) -> Callable[[DagsterUi], None]:
        def look(ui: DagsterUi) -> None:
            ui.asset(asset, "overview", "Metadata")
            for key in keys:
                row = ui.page.get_by_role("row").filter(has=ui.page.get_by_text(key, exact=True)).first
                row.evaluate("row => row.scrollIntoView({block: 'start'})")

        return look

    def plots(ui: DagsterUi) -> None:
        ui.asset(f"{recipe}/eval_report", "overview", "Metadata")
        ui.page.get_by_role("button", name="Plots").click()

    tab("graph", lambda ui: ui.graph(["dataset"]), WIDE)
    tab("checkpoint", metadata(f"{recipe}/checkpoint", "curve"))
    tab("eval_report", metadata(f"{recipe}/eval_report", "slices"))
    tab("checks", lambda ui: ui.asset(f"{recipe}/eval_report", "checks", "Succeeded"))
    tab("plots", plots)
    tab("partitions", lambda ui: ui.asset("staged_shards", "partitions", "Materialized"))
    if backfill is None:
        print("no backfill in the storage: its picture is left out (start one in `make ui`)")
    else:
        tab("backfill", lambda ui: ui.open(f"/runs/b/{backfill}", "Partition selection"))


def of_reports(browser: Browser, store: Path) -> None:
    for name, file in (("dashboard", DASHBOARD_FILE), ("sweep_report", "sweep_report.html")):
        path = newest(store.rglob(file))
        if path is None:
            print(f"no {file} in the store: its picture is left out")
            continue
        page = browser.new_page(viewport=VIEW)  # type: ignore[arg-type]
        page.goto(path.as_uri())
        keep(page, name)
        page.close()


def newest(paths: Iterator[Path]) -> Path | None:
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)


def keep(page: Page, name: str) -> None:
    """The picture of what ``page`` shows, made smaller until it is below the limit."""
    import cv2
    import numpy as np

    picture = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    while True:
        encoded = cv2.imencode(".png", picture, (cv2.IMWRITE_PNG_COMPRESSION, 9))[1].tobytes()
        if len(encoded) < LIMIT:
            break
        picture = cv2.resize(picture, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA)
    (OUT / f"{name}.png").write_bytes(encoded)
    print(f"docs/screenshots/{name}.png  {len(encoded) // 1000} kB")


if __name__ == "__main__":
    sys.exit(main())
