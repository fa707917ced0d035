"""The training loop: what happens in which order."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer.contract.results import Epoch, TrainResult, Verdict
from trainer.contract.train_config import TrainConfig
from trainer.data.loader import Batch, DataSet, TrainingLoader, TrainingSamples, to_device
from trainer.data.order import Order
from trainer.engine.checkpointer import BEST, Checkpointer
from trainer.engine.parallel import Ranks
from trainer.engine.step import TrainStep, build_optimizer
from trainer.evaluation.evaluate import evaluate, score
from trainer.models.hydranet import HydraNet
from trainer.models.state import state_sha256
from trainer.tasks import build_tasks


@dataclass
class Progress:
    """How far the run is; saved with every checkpoint."""

    epoch: int = 0
    step_in_epoch: int = 0
    global_step: int = 0
    best_metric: float | None = None
    best_step: int = 0
    train_seconds: float = 0.0
    epoch_seconds: float = 0.0
    loss_sums: dict[str, float] = field(default_factory=dict)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    stop_reason: str | None = None


class Callback:
    """A policy: does nothing at every point of the loop and overrides the points that it needs.

    ``before_training`` comes once the state is restored; ``before_step`` with the rank's batch on the device;
    ``before_save`` before each checkpoint and at each end of an epoch, whose model may be kept as the best;
    ``after_training`` once, when the training ended by itself.

    A callback that has a ``name`` and overrides ``state_dict`` finds its state again after a resume; one that is a
    gate overrides ``verdict``.
    """

    name: str = ""

    def before_training(self, trainer: "Trainer") -> None: ...

    def before_step(self, trainer: "Trainer", batch: Batch) -> None: ...

    def after_step(self, trainer: "Trainer") -> None: ...

    def before_save(self, trainer: "Trainer") -> None: ...

    def after_epoch(self, trainer: "Trainer", epoch: Epoch) -> None: ...

    def after_training(self, trainer: "Trainer") -> None: ...

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume, as JSON has it; the leader's is saved and given to all ranks."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def verdict(self) -> Verdict | None:
        """What this gate found in the run so far; ``result.json`` has it."""


class GateFailed(Exception):
    """A gate inside the run that aborts it."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.gate}: {verdict.message}")
        self.verdict = verdict


class Trainer:
    """One run of one recipe on one data set, in ``run_dir``; goes on from the last checkpoint there."""

    def __init__(
        self,
        config: TrainConfig,
        data: DataSet,
        run_dir: Path,
        run_id: str,
        ranks: Ranks,
        callbacks: Sequence[Callback],
    ) -> None:
        torch.manual_seed(config.seed)
        self.config, self.data, self.run_id, self.ranks, self.callbacks = config, data, run_id, ranks, callbacks
        self.tasks = build_tasks(config.tasks)
        self.model = HydraNet(config.model, {task.name: task.head for task in self.tasks}).to(ranks.device)
        self.order = Order(len(data.readers["train"]), config.data.batch_size, config.seed)
        self.total_steps = self.order.steps_per_epoch * config.training.epochs
        samples = TrainingSamples(
            data.readers["train"], config.data, {task.name: task.targets for task in self.tasks}, config.seed
        )
        self.loader = TrainingLoader(samples, self.order, ranks.rank, ranks.world_size, ranks.device.type == "cuda")
        optimizer = build_optimizer(self.model, config.optim)
        self.step = TrainStep(ranks.wrap(self.model), self.tasks, optimizer, config.optim, self.total_steps)
        self.checkpointer = Checkpointer(run_dir, config.training.keep_last)
        self.progress = Progress()
        self.phases = self.step.phases
        self.last_losses: dict[str, torch.Tensor] = {}
        self._loss_sums: dict[str, torch.Tensor] = {}
        self.resumed_from = self._restore()

    def fit(self) -> TrainResult:
        self._call("before_training")
        self.phases.start()
        while self.progress.stop_reason is None:
            self._train_epoch()
            epoch = self._finish_epoch()
            if self.progress.epoch == self.config.training.epochs:
                self.finish("max_epochs")
            self._call("after_epoch", epoch)
            self.phases.mark("callbacks")
        self._call("after_training")
        return self._result()

    def finish(self, reason: str) -> None:
        """End the training after this epoch, because of ``reason``."""
        self.progress.stop_reason = reason

    def _train_epoch(self) -> None:
        progress, clock = self.progress, time.perf_counter()
        sums = {name: torch.tensor(value, device=self.ranks.device) for name, value in progress.loss_sums.items()}
        for loaded in self.loader.epoch(progress.epoch, progress.step_in_epoch):
            batch = to_device(loaded, self.ranks.device)
            self.phases.mark("data_wait")
            self._call("before_step", batch)
            self.phases.mark("callbacks")
            self.last_losses = self.step(batch, progress.global_step)
            sums = {name: loss + sums.get(name, 0.0) for name, loss in self.last_losses.items()}
            progress.global_step += 1
            progress.step_in_epoch += 1
            self._loss_sums = sums
            progress.epoch_seconds += time.perf_counter() - clock
            self._call("after_step")
            self.phases.mark("callbacks")
            clock = time.perf_counter()

    def _finish_epoch(self) -> Epoch:
        self._call("before_save")
        progress, training = self.progress, self.config.training
        losses = {
            name: float(self.ranks.mean(total)) / progress.step_in_epoch for name, total in self._loss_sums.items()
        }
        last = progress.epoch + 1 == training.epochs
        metrics = self._evaluate() if last or (progress.epoch + 1) % training.eval_every == 0 else {}
        self.phases.mark("evaluation")
        epoch = Epoch(
            epoch=progress.epoch,
            global_step=progress.global_step,
            losses=losses,
            metrics=metrics,
            seconds=progress.epoch_seconds,
        )
        progress.epochs.append(epoch.model_dump())
        progress.train_seconds += progress.epoch_seconds
        progress.epoch, progress.step_in_epoch, progress.epoch_seconds = progress.epoch + 1, 0, 0.0
        self._loss_sums = {}
        return epoch

    def _evaluate(self) -> dict[str, float | None]:
        """The metrics on val, each rank taking its share of the samples; the leader keeps the best model."""
        reader, ranks = self.data.readers["val"], self.ranks
        ranks.share_buffers(self.model)
        share = range(ranks.rank, len(reader), ranks.world_size)
        own = evaluate(self.model, self.tasks, reader, self.config.data, share, ranks.device)
        parts = ranks.gather(own)
        metrics: dict[str, float | None] = {}
        if ranks.leads:
            together = sorted((one for part in parts for one in part), key=lambda one: one.index)
            metrics = score(together, self.tasks)
        metrics = ranks.gather(metrics)[0]
        value = metrics.get(self.config.training.monitor)
        if value is not None and (self.progress.best_metric is None or value > self.progress.best_metric):
            self.progress.best_metric, self.progress.best_step = value, self.progress.global_step
            self._save_best()
        return metrics

    def save(self) -> None:
        """A checkpoint of this moment, written by the leader while the others wait."""
        self._call("before_save")
        self.phases.mark("callbacks")
        self.progress.loss_sums = {
            name: float(self.ranks.mean(total.clone())) for name, total in self._loss_sums.items()
        }
        if self.ranks.leads:
            state = {
                "model": self.model.state_dict(),
                "optimizer": self.step.optimizer.state_dict(),
                "progress": asdict(self.progress),
                "callbacks": {callback.name: callback.state_dict() for callback in self.callbacks if callback.name},
            }
            self.checkpointer.save(self.progress.global_step, state)
        self.ranks.barrier()
        self.phases.mark("checkpoint")

    def _restore(self) -> int | None:
        state = self.checkpointer.load_latest(self.ranks.device)
        if state is None:
            return None
        self.model.load_state_dict(state["model"])
        self.step.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        for callback in self.callbacks:
            if callback.name in state["callbacks"]:
                callback.load_state_dict(state["callbacks"][callback.name])
        return self.progress.global_step

    def _save_best(self) -> None:
        if self.ranks.leads:
            self.checkpointer.save_best(
                {
                    "config": self.config.model_dump_json(),
                    "run_id": self.run_id,
                    "global_step": self.progress.global_step,
                    "model": self.model.state_dict(),
                }
            )

    def _result(self) -> TrainResult:
        progress = self.progress
        if progress.best_metric is None:
            # The monitored metric was never defined (no ground truth in val): the last model is the best known.
            progress.best_step = progress.global_step
            self._save_best()
        samples = progress.global_step * self.config.data.batch_size
        return TrainResult(
            run_id=self.run_id,
            recipe=self.config.name,
            config_digest=self.config.digest,
            data_digest=self.data.spec.digest,
            seed=self.config.seed,
            world_size=self.ranks.world_size,
            global_step=progress.global_step,
            epochs=tuple(Epoch.model_validate(epoch) for epoch in progress.epochs),
            monitor=self.config.training.monitor,
            best_metric=progress.best_metric,
            best_step=progress.best_step,
            samples_per_second=samples / progress.train_seconds if progress.train_seconds else 0.0,
            train_seconds=progress.train_seconds,
            resumed_from_step=self.resumed_from,
            state_sha256=state_sha256(self.model, self.step.optimizer),
            stop_reason=progress.stop_reason or "",
            gates=tuple(verdict for callback in self.callbacks if (verdict := callback.verdict()) is not None),
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            best_checkpoint=BEST,
            last_checkpoint=f"checkpoints/step-{progress.global_step:08d}",
        )

    def _call(self, point: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, point)(self, *arguments)
