"""How soon a person sees something useful: from ``make ui`` to the graph, and each page with years of work behind it.

``start``: a process as ``make ui`` starts it, from its start to the graph in the browser. ``pages``: 520 windows, 1,000
slices and 300 trials a recipe, all made, in SQLite as ``make ui`` has it, in a warm server; from a click to the content
in a tab that has Dagster's page open, and beside it ``new_tab``, in which the browser starts that page first. Chromium
has a profile, as a person's browser has one: it keeps what it compiled. Writes ``benchmarks/results/ui.json``.
"""

import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml
from common import ROOT, rounds_of, spread, write_result

sys.path.insert(0, str(ROOT))
from playwright.sync_api import BrowserContext, expect

from tests.browser.chromium import person_with
from tests.browser.dagster_ui import DagsterUi
from trainer.contract.ports import free_port

START_S, PAGE_S, WINDOWS = 15.0, 2.0, 520
RECIPE = "scenes_multitask"
CHECKPOINT = f"{RECIPE}/checkpoint"
Look = Callable[[DagsterUi], object]
START = ("/deployment/daemons", "Daemon")
"""A page without assets, on which a tab stands before the click."""


class Page(NamedTuple):
    """What is clicked and looked at; ``before``: the page on which that is done, ready before the time begins."""

    look: Look
    before: Look | None = None


def opened(path: str, *said: str) -> Page:
    return Page(lambda ui: ui.open(path, *said))


def tab(asset: str, view: str, *said: str) -> Page:
    return Page(lambda ui: ui.asset(asset, view, *said))


def plots(ui: DagsterUi) -> None:
    assert not ui.page.locator("canvas").count()
    ui.page.get_by_role("button", name="Plots").click()
    expect(ui.page.locator("canvas").first).to_be_visible()


OVERVIEW = tab(CHECKPOINT, "overview", "Latest materialization", "gpu_hours")
PAGES: dict[str, Page] = {
    "global graph": opened("/asset-groups", RECIPE, "fog_detection"),
    "group of a recipe": opened(f"/locations/ui_location.py/asset-groups/{RECIPE}/lineage", "checkpoint"),
    "catalog": opened("/assets", "520 partitions"),
    "checkpoint": OVERVIEW,
    "checkpoint, partitions": tab(CHECKPOINT, "partitions", f"Materialized ({WINDOWS})"),
    "checkpoint, events": tab(CHECKPOINT, "events", "materialized"),
    "checkpoint, plots": Page(plots, OVERVIEW.look),
    "checkpoint, checks": tab(CHECKPOINT, "checks", "Succeeded"),
    "eval_report, checks": tab(f"{RECIPE}/eval_report", "checks", "Succeeded"),
    "mined_slice": tab("mined_slice", "overview", "Latest materialization", "gpu_hours"),
    "mined_slice, partitions": tab("mined_slice", "partitions", "Materialized (1000)"),
    "trial": tab(f"{RECIPE}/trial", "overview", "Latest materialization", "gpu_hours"),
    "trial, partitions": tab(f"{RECIPE}/trial", "partitions", "Materialized (300)"),
    "staged_shards": tab("staged_shards", "overview", "Latest materialization", "gpu_hours"),
    "staged_shards, partitions": tab("staged_shards", "partitions", f"Materialized ({WINDOWS})"),
    "runs": opened("/runs", f"{RECIPE}_job"),
    "backfills": opened("/runs?view=backfills", "No runs found"),
    "automation": opened("/automation", "delivery_sensor"),
    "launch dialog, windows": Page(DagsterUi.click_materialize, OVERVIEW.look),
}


def main() -> int:
    arguments, load = rounds_of(__doc__, rounds=3), os.getloadavg()
    with TemporaryDirectory() as scratch, person_with(Path(scratch) / "profile") as person:
        environment = environment_of(Path(scratch))
        started = [seconds_to_graph(person, environment) for _ in range(arguments.rounds)]
        began = time.perf_counter()
        events = filled(Path(scratch), environment)
        print(f"{events} events in {time.perf_counter() - began:.0f} s")
        with served(dagster_dev(Path(scratch)), environment) as address:
            pages = {name: seconds_of(person, address, page, arguments.rounds) for name, page in PAGES.items()}
            alone = {
                name: seconds_of(person, address, page, arguments.rounds, new_tab=True) for name, page in PAGES.items()
            }
    slow, slow_alone = (
        {n: p["median_s"] for n, p in told.items() if p["median_s"] > PAGE_S} for told in (pages, alone)
    )
    median = statistics.median(started)
    ok = median <= START_S and not slow
    report = {
        "ok": ok,
        "start_s": round(median, 2),
        "slowest_page_s": max(page["median_s"] for page in pages.values()),
        "slowest_new_tab_s": max(page["median_s"] for page in alone.values()),
        "asked": {"start_s": START_S, "page_s": PAGE_S},
        "slow": slow,
        "slow_in_new_tab": slow_alone,
        "start": spread(started, "s"),
        "storage": {"windows": WINDOWS, "slices": 1000, "trials_a_recipe": 300, "events": events},
        "pages": pages,
        "new_tab": alone,
    }
    write_result("ui", report, ("dagster", "playwright"), load)
    print(f"{'make ui to graph':28} {median:6.2f} s  (at most {START_S})")
    for name, page in pages.items():
        beside = f"in a new tab {alone[name]['median_s']:.2f} s{' SLOW' if name in slow_alone else ''}"
        print(f"{name:28} {page['median_s']:6.2f} s  {'' if name not in slow else 'SLOW'}  {beside}")
    return 0 if ok else 1


def environment_of(place: Path) -> dict[str, str]:
    places = {f"TRAINING_ASSETS_{name.upper()}": str(place / name) for name in ("inbox", "store")}
    more = {"DAGSTER_HOME": str(place / "home"), "PYTHONPATH": str(ROOT), "BENCHMARK_WINDOWS": str(WINDOWS)}
    return {**os.environ, **places, **more, "DAGSTER_DISABLE_TELEMETRY": "yes"}


def seconds_to_graph(person: BrowserContext, environment: dict[str, str]) -> float:
    """From the start of the process to the groups in the browser."""
    began = time.perf_counter()
    with served(
        lambda port: [sys.executable, "-m", "training_assets", "ui", "--port", str(port)], environment
    ) as address:
        page = person.new_page()
        DagsterUi(page, address, []).open("/asset-groups", RECIPE)
        took = time.perf_counter() - began
        page.close()
    return took


def filled(place: Path, environment: dict[str, str]) -> int:
    """Events are written one by one, which a file system in memory does faster; how many."""
    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else place  # noqa: S108
    with TemporaryDirectory(dir=memory) as fast:
        home = Path(fast) / "home"
        shutil.copytree(place / "home", home)
        command = [sys.executable, str(Path(__file__).with_name("ui_storage.py"))]
        done = subprocess.run(
            command, env={**environment, "DAGSTER_HOME": str(home)}, stdout=subprocess.PIPE, text=True, check=True
        )
        shutil.rmtree(place / "home")
        shutil.copytree(home, place / "home")
    return int(done.stdout.splitlines()[-1])


def dagster_dev(place: Path) -> Callable[[int], list[str]]:
    """Dagster as ``make ui`` has it, on the code location with many windows."""
    location = {"relative_path": str(Path(__file__).with_name("ui_location.py")), "working_directory": str(ROOT)}
    workspace = place / "workspace.yaml"
    workspace.write_text(yaml.safe_dump({"load_from": [{"python_file": location}]}))
    dagster = str(Path(sys.executable).with_name("dagster"))
    return lambda port: [dagster, "dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port)]


@contextlib.contextmanager
def served(command: Callable[[int], list[str]], environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command(port), cwd=ROOT, env=environment, start_new_session=True, **quiet)  # type: ignore
    address = f"http://127.0.0.1:{port}"
    try:
        while not answers(f"{address}/server_info"):
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own server
            return bool(answer.status == 200)
    except OSError:
        return False


class Within(DagsterUi):
    """A tab that has Dagster's page open: it goes elsewhere as by the page's own links, which do not load it anew."""

    def open(self, path: str, *said: str | re.Pattern[str]) -> None:
        go = "path => { history.pushState({}, '', path); dispatchEvent(new PopStateEvent('popstate', {state: {}})) }"
        self.page.evaluate(go, path)
        self.wait_for(*said)


def seconds_of(person: BrowserContext, address: str, page: Page, rounds: int, new_tab: bool = False) -> dict[str, Any]:
    """Each time in a tab of its own; the first look warms the server and is told apart."""
    taken = []
    for _ in range(rounds + 1):
        tab = person.new_page()
        if not new_tab:
            DagsterUi(tab, address, []).open(*START)
        ui = (DagsterUi if new_tab else Within)(tab, address, [])
        began = time.perf_counter()
        if page.before:
            page.before(ui)
            began = began if new_tab else time.perf_counter()
        page.look(ui)
        taken.append(time.perf_counter() - began)
        tab.close()
    return {**spread(taken[1:], "s", 2), "first_s": round(taken[0], 2)}


if __name__ == "__main__":
    sys.exit(main())
