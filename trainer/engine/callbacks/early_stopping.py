"""Ends a run that more epochs will not help: by patience, and by the median of how earlier runs went."""

from pathlib import Path
from typing import Any

from trainer.contract.curves import epochs_without_improvement, median_of_running_averages
from trainer.contract.history import read_history
from trainer.contract.metrics import direction
from trainer.contract.results import Epoch
from trainer.contract.train_config import EarlyStopping as EarlyStoppingConfig
from trainer.engine.callbacks.gate import Gate
from trainer.engine.loop import Trainer

STOP_REASON = "early_stopping"


class EarlyStopping(Gate):
    """Asked after each epoch with an evaluation. The history is read once and stays with the run's checkpoints."""

    name = "early_stopping"

    def __init__(self, config: EarlyStoppingConfig, monitor: str, history: Path | None) -> None:
        self.config, self.monitor, self.path = config, config.monitor or monitor, history
        self.sign = direction(self.monitor)
        self.series: dict[int, float] = {}
        self.past: list[dict[int, float]] | None = None

    def before_training(self, trainer: Trainer) -> None:
        if self.past is None:
            runs = read_history(self.path) if self.path is not None else ()
            others = [run.values(self.monitor) for run in runs if run.run_id != trainer.run_id]
            self.past = [{epoch: self.sign * v for epoch, v in values.items()} for values in others if values]
        if self.found is None:
            self.conclude(True, f"not stopped early ({self._asked()})", severity="warn")

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        value = epoch.metrics.get(self.monitor)
        if value is None:
            return
        self.series[epoch.epoch] = self.sign * value
        if trainer.progress.stop_reason is not None or len(trainer.progress.epochs) < self.config.first_epoch:
            return
        self._ask_patience(trainer, epoch.epoch)
        self._ask_median(trainer, epoch.epoch)

    def _ask_patience(self, trainer: Trainer, epoch: int) -> None:
        waited = epochs_without_improvement(self.series, self.config.min_delta)
        if self.config.patience is not None and waited >= self.config.patience:
            message = f"stopped after epoch {epoch + 1}: {self.monitor} has not improved by more than "
            self._stop(trainer, True, f"{message}{self.config.min_delta:g} for {waited} epochs", {"waited": waited})

    def _ask_median(self, trainer: Trainer, epoch: int) -> None:
        if not self.config.median_rule:
            return
        limit = median_of_running_averages(self.past or [], epoch, self.config.min_runs)
        best = max(self.series.values())
        if limit is not None and best < limit:
            message = (
                f"stopped after epoch {epoch + 1}: the best {self.monitor} so far, {self.sign * best:.4g}, is worse "
                f"than {self.sign * limit:.4g}, the median of the running averages of "
                f"{len(self.past or [])} earlier runs"
            )
            self._stop(trainer, False, message, {"median": self.sign * limit})

    def _stop(self, trainer: Trainer, passed: bool, message: str, figures: dict[str, float]) -> None:
        trainer.finish(STOP_REASON)
        figures = {"best": self.sign * max(self.series.values()), **figures}
        self.conclude(passed, message, severity="warn", figures=figures)

    def _asked(self) -> str:
        patience = f"patience of {self.config.patience} epochs" if self.config.patience else "no patience"
        rule = f"median of {len(self.past or [])} earlier runs" if self.config.median_rule else "no median rule"
        return f"{patience}, {rule}"

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"series": self.series, "past": self.past}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.series = {int(epoch): value for epoch, value in state["series"].items()}
        past = state["past"]
        self.past = None if past is None else [{int(e): value for e, value in run.items()} for run in past]
