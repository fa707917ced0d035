"""Nodes as real processes that run small commands: they meet, they follow each other, they leave word of their end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.emulators.metadata import metadata_service
from trainer.contract.memory import OomKills
from trainer.contract.nodes import (
    ADDRESS_VARIABLE,
    NODE_VARIABLE,
    node_log,
    nodes_started,
    read_address,
    read_end,
    read_first_end,
)
from trainer.contract.ports import free_port
from trainer.node import run
from trainer.node.run import ALONE, Node, Plan

REPOSITORY = Path(__file__).parents[3]
SLEEP = "import time; print('begun', flush=True); time.sleep(600)"
POLITE = (
    "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), "
    "sys.exit(75))); print('begun', flush=True); time.sleep(600)"
)


class Nodes:
    """Node processes of one attempt, with the same command or one each."""

    def __init__(self, attempt: Path) -> None:
        self.attempt = attempt
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, number: int, of: int, script: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        given = {**os.environ, NODE_VARIABLE: str(number), ADDRESS_VARIABLE: "127.0.0.1", **environment}
        command = [sys.executable, "-m", "trainer.node", str(self.attempt), "--nodes", str(of), *options]
        process = subprocess.Popen(
            [*command, "--", "-c", script], env=given, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.processes.append(process)
        return process

    def until_begun(self, *numbers: int) -> None:
        logs = [node_log(self.attempt, number) for number in numbers]
        until(lambda: all(log.exists() and "begun" in log.read_text() for log in logs))


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path / "attempts" / "a1")
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_nodes_begin_once_all_have_come(nodes: Nodes) -> None:
    first = nodes.start(0, 2, "print('hello')")
    until(lambda: read_address(nodes.attempt, 0) is not None)
    time.sleep(0.3)
    assert first.poll() is None
    second = nodes.start(1, 2, "print('hello')")
    assert (first.wait(20), second.wait(20)) == (0, 0)
    assert sorted(nodes_started(nodes.attempt)) == [0, 1]
    assert node_log(nodes.attempt, 1).read_text() == "hello\n"
    assert read_first_end(nodes.attempt) is None


def test_a_node_whose_peers_do_not_come_ends(nodes: Nodes) -> None:
    assert nodes.start(0, 2, SLEEP, "--patience", "0.5").wait(20) == ALONE
    first = read_first_end(nodes.attempt)
    assert first is not None
    assert (first.node, first.cause) == (0, "alone")


@pytest.mark.slow
def test_all_follow_the_first_that_ends_badly(nodes: Nodes) -> None:
    polite = nodes.start(0, 2, POLITE)
    crashing = nodes.start(1, 2, "import sys, time; time.sleep(0.5); sys.exit(7)")
    assert (crashing.wait(20), polite.wait(20)) == (7, 75)
    ends = [read_end(nodes.attempt, node) for node in (0, 1)]
    assert [(end.exit_code, end.cause) for end in ends if end] == [(75, "followed"), (7, "exit")]
    assert "saved" in node_log(nodes.attempt, 0).read_text()


def test_a_told_node_passes_it_on_and_waits_for_the_end(nodes: Nodes) -> None:
    process = nodes.start(0, 1, POLITE)
    nodes.until_begun(0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 75
    first = read_first_end(nodes.attempt)
    assert first is not None
    assert first.cause == "signal"


def test_what_a_killed_node_started_dies_with_it(nodes: Nodes) -> None:
    process = nodes.start(0, 1, SLEEP)
    nodes.until_begun(0)
    child = psutil.Process(process.pid).children()[0]
    process.kill()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert read_end(nodes.attempt, 0) is None


@pytest.mark.slow
def test_a_node_ends_when_its_time_is_over(nodes: Nodes) -> None:
    assert nodes.start(0, 1, POLITE, "--seconds", "1").wait(20) == 75
    end = read_end(nodes.attempt, 0)
    assert end is not None
    assert end.cause == "deadline"


def test_the_log_is_repeated_for_backends_that_keep_standard_output(nodes: Nodes) -> None:
    process = nodes.start(0, 1, "print('one'); print('two')", "--echo")
    assert process.communicate(timeout=20)[0] == b"one\ntwo\n"


@pytest.mark.slow
def test_a_spot_notice_ends_the_node_and_is_told(nodes: Nodes) -> None:
    with metadata_service() as service:
        process = nodes.start(0, 1, POLITE, "--watch-spot", AWS_EC2_METADATA_SERVICE_ENDPOINT=service.url)
        nodes.until_begun(0)
        assert process.poll() is None
        service.notice = True
        assert process.wait(20) == 75
    first = read_first_end(nodes.attempt)
    assert first is not None
    assert first.cause == "spot"


def test_a_host_that_does_not_know_its_number_says_so(nodes: Nodes) -> None:
    process = nodes.start(5, 2, SLEEP)
    assert process.wait(20) == 2
    assert process.stdout is not None
    assert b"TRAINING_ASSETS_NODE: found 5, expected a number from 0 to 1" in process.stdout.read()


@pytest.mark.slow
def test_a_free_port_that_was_lost_to_somebody_else_is_replaced_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, "127.0.0.1")
    with socket.socket() as somebody:
        somebody.bind(("", taken := free_port()))
        somebody.listen()
        ports = [taken]
        monkeypatch.setattr(run, "free_port", lambda: ports.pop() if ports else free_port())
        plan = Plan(tmp_path / "attempts" / "a1", ("-c", "print('fine')"), ranks=2)
        assert Node(plan, 0).run() == 0
    assert f"port: {taken}" in node_log(plan.attempt_dir, 0).read_text()


def test_the_kernels_oom_killer_is_named_where_its_count_rose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [OomKills(0, 0), OomKills(1, 1)]
    monkeypatch.setattr(run, "oom_kills", counts.pop)
    counts.reverse()
    plan = Plan(tmp_path / "attempts" / "a1", ("-c", "import os; os.kill(os.getpid(), 9)"))
    assert Node(plan, 0).run() == 137
    end = read_end(plan.attempt_dir, 0)
    assert end is not None
    assert "the memory limit of this container was reached" in end.oom
