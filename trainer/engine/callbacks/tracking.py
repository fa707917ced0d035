"""Tells experiment tracking of each step's losses, each epoch's metrics, the gates and the end."""

import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import torch

from trainer.contract.results import Epoch, TrainResult
from trainer.contract.tracking import Begin, End, Gates, Result, Row
from trainer.contract.train_config import Tracking as Settings
from trainer.contract.train_config import TrackingMode
from trainer.engine.callbacks.stopping import Stop
from trainer.engine.loop import Callback, Trainer
from trainer.engine.step import learning_rate
from trainer.reporting import Reporter
from trainer.tracking import CLOSE_S, Tracker

STOP_S = 10.0
"""A spot notice leaves two minutes, and checkpoints come first."""


@dataclass(frozen=True)
class _Waiting:
    """Figures on their way from the device; without ``arrived`` they are there."""

    step: int
    learning_rate: float
    figures: torch.Tensor
    arrived: torch.cuda.Event | None


class Tracking(Callback):
    """On the leading rank. Steps' losses are of its share of the batch, epochs' the mean of all ranks.

    The host never waits for the device: figures are copied behind the step and looked at once they have arrived.
    """

    def __init__(self, settings: Settings, mode: TrackingMode, run_dir: Path, data_dir: Path, report: Reporter) -> None:
        self.settings, self.mode, self.run_dir, self.data_dir = settings, mode, run_dir, data_dir
        self.report = report
        self.tracker: Tracker | None = None
        self._names: list[str] = []
        self._waiting: deque[_Waiting] = deque()

    def before_training(self, trainer: Trainer) -> None:
        if trainer.ranks.leads:
            self._names = [*(f"train/loss/{name}" for name in trainer.last_losses), "train/grad_norm"]
            self.tracker = Tracker(self.run_dir, self.mode, self.report.info)
            self.tracker.tell(Begin(step=trainer.progress.global_step, data=str(self.data_dir.absolute())))

    def after_step(self, trainer: Trainer) -> None:
        step = trainer.progress.global_step
        if self.tracker is None or step % self.settings.every:
            return
        figures = torch.cat([trainer.losses, trainer.step.grad_norm.reshape(1)]).to("cpu", non_blocking=True)
        rate = learning_rate(trainer.config.optim, step - 1, trainer.total_steps)
        arrived = None
        if trainer.ranks.device.type == "cuda":
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        self._waiting.append(_Waiting(step, rate, figures, arrived))
        self._tell_arrived()

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        if self.tracker is None:
            return
        self._tell_arrived()
        samples = trainer.order.steps_per_epoch * trainer.config.data.batch_size
        figures = {
            "epoch": float(epoch.epoch + 1),
            **{f"epoch/loss/{name}": value for name, value in epoch.losses.items()},
            **{f"val/{name}": value for name, value in epoch.metrics.items() if value is not None},
            "epoch/seconds": epoch.seconds,
            **({"epoch/samples_per_second": samples / epoch.seconds} if epoch.seconds else {}),
        }
        self.tracker.tell(Row(step=epoch.global_step, values=figures))
        self._tell_gates(trainer)

    def at_end(self, trainer: Trainer) -> None:
        error = sys.exc_info()[1]
        if self.tracker is not None and error is not None:
            self._tell_arrived()
            self._tell_gates(trainer)
            stopped = isinstance(error, Stop)
            self.tracker.tell(End(state="stopped" if stopped else "failed", message=str(error)[:1000]))
            self.tracker.close(STOP_S if stopped else CLOSE_S)

    def added_to(self, result: TrainResult) -> TrainResult:
        """The last to be asked: ``result`` is whole."""
        if self.tracker is not None:
            self._tell_arrived()  # of a training that ended within an epoch
            self.tracker.tell(Gates(verdicts=result.gates))
            self.tracker.tell(Result(result=result))
            self.tracker.tell(End(state="finished"))
            self.tracker.close(CLOSE_S)
        return result

    def _tell_gates(self, trainer: Trainer) -> None:
        assert self.tracker is not None
        found = [verdict for callback in trainer.callbacks if (verdict := callback.verdict()) is not None]
        self.tracker.tell(Gates(verdicts=tuple(found)))

    def _tell_arrived(self) -> None:
        assert self.tracker is not None
        while self._waiting and _is_there(self._waiting[0]):
            row = self._waiting.popleft()
            figures = dict(zip(self._names, row.figures.tolist(), strict=True))
            self.tracker.tell(Row(step=row.step, values={**figures, "train/lr": row.learning_rate}))


def _is_there(row: _Waiting) -> bool:
    try:
        return row.arrived is None or bool(row.arrived.query())  # type: ignore[no-untyped-call]
    except RuntimeError:  # the device is lost: the training says so, not its tracking
        return False
