"""Figures of an attempt, out of files that the trainer's own writers wrote."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from trainer.contract.attempts import Heartbeat
from trainer.contract.results import Epoch
from trainer.contract.telemetry import SYSTEM_COLUMNS, gpu_columns, system_file
from trainer.engine.callbacks.progress import Progress
from trainer.engine.telemetry.journal import Journal
from trainer.terminal.progress import Bar
from training_assets.observability.figures import Figures, finished_step, gpu_utilisation, last_loss, read_figures


@pytest.fixture
def attempt(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "attempts" / "a1"
    path.mkdir(parents=True)
    return path


def node(run_dir: Path, name: str, rows: list[tuple[float, float | None]], finish: bool = False) -> None:
    journal = Journal(system_file(run_dir, name, 1), (*SYSTEM_COLUMNS, *gpu_columns(1)))
    journal.append([{"time": at, "cpu_percent": 50.0, "gpu0_percent": gpu} for at, gpu in rows])
    if finish:
        journal.close()


def test_the_step_is_the_one_that_all_ranks_have_finished(attempt: Path) -> None:
    assert finished_step(attempt) is None
    for rank, finished in enumerate((7, 5)):
        Heartbeat(attempt, rank).beat(8, finished)
    assert finished_step(attempt) == 5


def test_the_pace_is_of_all_ranks_between_two_looks(attempt: Path) -> None:
    heart = Heartbeat(attempt, 0)
    heart.beat(1, 0)
    first = read_figures(attempt, 1000.0, batch_size=64)
    assert (first.step, first.samples_per_second) == (0, None)
    heart.beat(31, 30)
    second = read_figures(attempt, 1060.0, batch_size=64, before=first)
    assert second.samples_per_second == 30 * 64 / 60
    assert read_figures(attempt, 1120.0, batch_size=64, before=second).samples_per_second == 0.0


def test_the_gpus_of_all_nodes_count_and_old_samples_do_not(attempt: Path) -> None:
    run_dir, now = attempt.parent.parent, time.time()
    assert gpu_utilisation(run_dir, now) is None
    node(run_dir, "host-1", [(now - 500, 100.0), (now - 20, 40.0), (now - 5, None)])
    node(run_dir, "host-2.domain", [(now - 10, 80.0)], finish=True)
    assert gpu_utilisation(run_dir, now) == 60.0
    assert gpu_utilisation(run_dir, now + 300) is None


def test_without_gpus_there_is_no_utilisation(attempt: Path) -> None:
    journal = Journal(system_file(attempt.parent.parent, "host", 1), SYSTEM_COLUMNS)
    journal.append([{"time": time.time(), "cpu_percent": 50.0}])
    assert gpu_utilisation(attempt.parent.parent, time.time()) is None


def progress_line(attempt: Path, losses: dict[str, float], epoch: bool) -> None:
    """What the trainer's own callback prints, as rank 0's log has it."""
    lines: list[str] = []
    told, bar = Progress(SimpleNamespace(info=lines.append, line=lines.append)), Bar("step", say=lines.append)
    bar._began = bar._told = time.monotonic() - 1000  # a line is due
    told._bar = bar
    tensors = {name: torch.tensor(value) for name, value in losses.items()}
    trainer = SimpleNamespace(
        ranks=SimpleNamespace(leads=True),
        progress=SimpleNamespace(global_step=3),
        total_steps=10,
        last_losses=tensors,
        tasks=[],
        config=SimpleNamespace(training=SimpleNamespace(epochs=2), data=SimpleNamespace(batch_size=4)),
    )
    if epoch:
        told.after_epoch(trainer, Epoch(epoch=0, global_step=3, losses=losses, metrics={}, seconds=1.0))
    else:
        told.after_step(trainer)
    with open(attempt.with_name("a1.log"), "a") as log:
        log.writelines(f"[rank 0] {line}\n" for line in lines)


@pytest.mark.parametrize("epoch", [False, True])
def test_the_loss_is_the_total_of_the_line_that_the_trainer_wrote_last(attempt: Path, epoch: bool) -> None:
    log = attempt.with_name("a1.log")
    assert last_loss(attempt) is None
    progress_line(attempt, {"detection": 9.0, "total": 9.5}, epoch=False)
    progress_line(attempt, {"detection": 0.25, "segmentation": 0.5, "total": 0.75}, epoch=epoch)
    log.open("a").write("[rank 1] something else: loss 12\n")
    assert read_figures(attempt, time.time(), batch_size=1).loss == 0.75


def test_a_loss_that_is_no_number_is_not_told(attempt: Path) -> None:
    progress_line(attempt, {"total": float("nan")}, epoch=False)
    assert read_figures(attempt, 0.0, batch_size=1) == Figures(0.0)
