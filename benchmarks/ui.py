"""How soon a person sees something useful: from ``make ui`` to the graph, and each page with years of work behind it.

``start``: a process as ``make ui`` starts it, from its start to the graph in the browser. ``pages``: 520 windows, 1,000
slices and 300 trials a recipe, all made, in SQLite as ``make ui`` has it; from the click on a link to the content, in a
warm server, by Chromium. Writes ``benchmarks/results/ui.json``.
"""

import contextlib
import os
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
from typing import Any

import yaml
from common import ROOT, rounds_of, spread, write_result

sys.path.insert(0, str(ROOT))
from playwright.sync_api import BrowserContext, expect

from tests.browser.chromium import chromium
from tests.browser.dagster_ui import DagsterUi
from trainer.contract.ports import free_port

START_S, PAGE_S, WINDOWS = 15.0, 2.0, 520
RECIPE = "scenes_multitask"
CHECKPOINT = f"{RECIPE}/checkpoint"
Look = Callable[[DagsterUi], object]


def opened(path: str, *said: str) -> Look:
    return lambda ui: ui.open(path, *said)


def tab(asset: str, view: str, *said: str) -> Look:
    return lambda ui: ui.asset(asset, view, *said)


def plots(ui: DagsterUi) -> None:
    ui.asset(CHECKPOINT, "overview", "Metadata")
    ui.page.get_by_role("button", name="Plots").click()
    expect(ui.page.locator("canvas").first).to_be_visible()


PAGES: dict[str, Look] = {
    "global graph": opened("/asset-groups", RECIPE, "fog_detection"),
    "group of a recipe": opened(f"/locations/ui_location.py/asset-groups/{RECIPE}/lineage", "checkpoint"),
    "catalog": opened("/assets", "520 partitions"),
    "checkpoint": tab(CHECKPOINT, "overview", "Latest materialization", "gpu_hours"),
    "checkpoint, partitions": tab(CHECKPOINT, "partitions", f"Materialized ({WINDOWS})"),
    "checkpoint, events": tab(CHECKPOINT, "events", "materialized"),
    "checkpoint, plots": plots,
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
    "launch dialog, windows": lambda ui: ui.launch_dialog(CHECKPOINT),
}


def main() -> int:
    arguments, load = rounds_of(__doc__, rounds=3), os.getloadavg()
    with TemporaryDirectory() as scratch, chromium() as browser:
        environment = environment_of(Path(scratch))
        with browser.new_context() as person:
            started = [seconds_to_graph(person, environment) for _ in range(arguments.rounds)]
        began = time.perf_counter()
        events = filled(Path(scratch), environment)
        print(f"{events} events in {time.perf_counter() - began:.0f} s")
        with served(dagster_dev(Path(scratch)), environment) as address, browser.new_context() as person:
            pages = {name: seconds_of(person, address, look, arguments.rounds) for name, look in PAGES.items()}
    slow = {name: page["median_s"] for name, page in pages.items() if page["median_s"] > PAGE_S}
    median = statistics.median(started)
    ok = median <= START_S and not slow
    report = {
        "ok": ok,
        "start_s": round(median, 2),
        "slowest_page_s": max(page["median_s"] for page in pages.values()),
        "asked": {"start_s": START_S, "page_s": PAGE_S},
        "slow": slow,
        "start": spread(started, "s"),
        "storage": {"windows": WINDOWS, "slices": 1000, "trials_a_recipe": 300, "events": events},
        "pages": pages,
    }
    write_result("ui", report, ("dagster", "playwright"), load)
    print(f"{'make ui to graph':28} {median:6.2f} s  (at most {START_S})")
    for name, page in pages.items():
        print(f"{name:28} {page['median_s']:6.2f} s  {'' if name not in slow else 'SLOW'}")
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


def seconds_of(person: BrowserContext, address: str, look: Look, rounds: int) -> dict[str, Any]:
    """Each time in a new tab; the first look warms the server and is told apart."""
    taken = []
    for _ in range(rounds + 1):
        page = person.new_page()
        ui = DagsterUi(page, address, [])
        page.goto("about:blank")
        began = time.perf_counter()
        look(ui)
        taken.append(time.perf_counter() - began)
        page.close()
    return {**spread(taken[1:], "s", 2), "first_s": round(taken[0], 2)}


if __name__ == "__main__":
    sys.exit(main())
