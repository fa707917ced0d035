"""Cancelling a run in Dagster, for real: web server, daemon, code server, run worker, torchrun and two ranks."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pytest
import yaml

from trainer.contract.ports import free_port

ROOT = Path(__file__).parents[2]
WINDOW = "2026-01-12"
STOPPED_WITHIN = 15.0

LAUNCH = """mutation($p: ExecutionParams!) { launchPipelineExecution(executionParams: $p) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
TERMINATE = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


class Server:
    """``dagster dev`` on a free port, spoken to as its web page does."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.port = free_port()
        dagster = Path(sys.executable).with_name("dagster")
        command = [str(dagster), "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )

    def ask(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        address = f"http://127.0.0.1:{self.port}/graphql"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)["data"]

    def is_up(self) -> bool:
        try:
            return bool(self.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"))
        except OSError:
            return False

    def close(self) -> None:
        everything = [self.process, *psutil.Process(self.process.pid).children(recursive=True)]
        self.process.send_signal(signal.SIGINT)
        psutil.wait_procs([one for one in everything if isinstance(one, psutil.Process)], timeout=15)
        for one in everything:
            try:
                one.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()


def until(condition: Callable[[], Any], seconds: float) -> float:
    """How long it took until ``condition`` held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "waited too long"
        time.sleep(0.1)
    return time.monotonic() - began


def trainers(store: Path) -> list[psutil.Process]:
    """Every process that was launched for a training below ``store``, orphans included."""
    found = []
    for process in psutil.process_iter():
        try:
            if "TRAINING_ASSETS_ATTEMPT" in process.environ() and process.cwd().startswith(str(store)):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture
def server(graph: Any, profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose storage holds a training set that takes very long to learn."""
    recipe = profile.recipes / "tiny.yaml"
    value = yaml.safe_load(recipe.read_text())
    value["training"] |= {"epochs": 100_000, "checkpoint_every": 1000, "eval_every": 100_000}
    recipe.write_text(yaml.safe_dump(value))
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "deploy" / "dagster.yaml").read_text())
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        other = type(graph)(profile, instance)
        assert other.run("dataset_version", "eval_shards").success
        assert other.run("staged_shards", windows=("2026-01-05", WINDOW)).success
        assert other.run("tiny/training_set", window=WINDOW).success
    environment = {
        **os.environ,
        "TRAINING_ASSETS_STORE": str(profile.store),
        "TRAINING_ASSETS_INBOX": profile.inbox,
        "TRAINING_ASSETS_RECIPES": str(profile.recipes),
    }
    server = Server(environment)
    yield server
    server.close()


@pytest.mark.slow
def test_cancelling_a_run_in_dagster_ends_every_rank_within_15_s(server: Server, profile: Any) -> None:
    until(server.is_up, 90)
    answer = server.ask(
        LAUNCH,
        p={
            "selector": {
                "repositoryName": "__repository__",
                "repositoryLocationName": "training_assets",
                "pipelineName": "tiny_job",
                "assetSelection": [{"path": ["tiny", "checkpoint"]}],
            },
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": WINDOW}]},
        },
    )["launchPipelineExecution"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run_id = answer["run"]["runId"]
    runs = profile.store / "runs" / "_runs"
    until(lambda: any("epoch" in log.read_text() for log in runs.glob("*/attempts/*.log")), 120)
    assert len(trainers(profile.store)) >= 3  # torchrun and two ranks

    began = time.monotonic()
    server.ask(TERMINATE, id=run_id)
    until(lambda: not trainers(profile.store), STOPPED_WITHIN)
    assert time.monotonic() - began < STOPPED_WITHIN

    until(lambda: server.ask(STATUS, id=run_id)["runOrError"]["status"] in ("CANCELED", "FAILURE", "SUCCESS"), 30)
    assert server.ask(STATUS, id=run_id)["runOrError"]["status"] == "CANCELED"
    time.sleep(3)  # a cancelled step that counted as failed would be tried again after its delay
    assert not trainers(profile.store)
    assert len(list(runs.glob("*/attempts/*.log"))) == 1
