"""The training loop: what happens in which order."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from trainer.contract.metrics import gain
from trainer.contract.results import REVISION, Epoch, TrainResult, Verdict, WarmStart
from trainer.contract.train_config import TrainConfig
from trainer.data.loader import Batch, DataSet, TrainingLoader, TrainingSamples, to_device
from trainer.data.order import Order
from trainer.engine.checkpoint_files import BEST, name_of
from trainer.engine.checkpointer import Checkpointer
from trainer.engine.learner import Learner
from trainer.engine.parallel import Ranks
from trainer.evaluation.evaluate import evaluate, score


@dataclass
class Progress:
    """How far the run is; saved with every checkpoint. ``loss_sums``: of the epoch so far, by rank."""

    epoch: int = 0
    step_in_epoch: int = 0
    global_step: int = 0
    best_metric: float | None = None
    best_step: int = 0
    train_seconds: float = 0.0
    epoch_seconds: float = 0.0
    loss_sums: list[list[float]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    stop_reason: str | None = None

    @property
    def name(self) -> str:
        """The name of the checkpoint of this moment."""
        return name_of(self.global_step, self.epoch)


class Callback:
    """A policy: does nothing at every point of the loop and overrides the points that it needs.

    ``before_training`` comes once the state is restored; ``before_step`` with the rank's batch on the device;
    ``before_save`` before each checkpoint and at each end of an epoch, whose model may be kept as the best;
    ``after_training`` once, when the training ended by itself; ``at_end`` always, whatever ended it.

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

    def at_end(self, trainer: "Trainer") -> None: ...

    def state_dict(self) -> dict[str, Any]:
        """What must survive a resume, as JSON has it; the leader's is saved and given to all ranks."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def verdict(self) -> Verdict | None:
        """What this gate found in the run so far; ``result.json`` has it."""

    def added_to(self, result: TrainResult) -> TrainResult:
        """``result`` with what this callback knows after the training."""
        return result


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
        warm_start: Path | None = None,
    ) -> None:
        self.config, self.data, self.run_id, self.ranks, self.callbacks = config, data, run_id, ranks, callbacks
        self.run_dir = run_dir
        self.order = Order(len(data.readers["train"]), config.data.batch_size, config.seed)
        self.total_steps = self.order.steps_per_epoch * config.training.epochs
        self.checkpointer = Checkpointer(run_dir, ranks, config.training.keep_last, config.training.keep_every)
        self.learner = Learner(config, ranks, self.total_steps, self.checkpointer.wait_for_copy)
        self.tasks, self.model, self.step = self.learner.tasks, self.learner.model, self.learner.step
        samples = TrainingSamples(
            data.readers["train"], config.data, {task.name: task.targets for task in self.tasks}, config.seed
        )
        self.loader = TrainingLoader(samples, self.order, ranks.rank, ranks.world_size, ranks.device.type == "cuda")
        self.phases = self.step.phases
        self.progress = Progress()
        self.losses = torch.zeros(len(self.learner.objective.names), device=ranks.device)
        self.warm_start: WarmStart | None = None
        self.resumed_from = self._restore()
        if self.resumed_from is None and warm_start is not None:
            self.warm_start = self.learner.warm_start(warm_start)

    def fit(self) -> TrainResult:
        try:
            self._call("before_training")
            self.phases.start()
            while self.progress.stop_reason is None:
                self._train_epoch()
                if self.progress.step_in_epoch == self.order.steps_per_epoch:
                    self._finish_epoch()
            self.checkpointer.close()
            self._call("after_training")
            return self._result()
        finally:
            self._call("at_end")

    def finish(self, reason: str) -> None:
        """End the training at this step, because of ``reason``; after an epoch's last step, with its evaluation."""
        self.progress.stop_reason = reason

    @property
    def last_losses(self) -> dict[str, torch.Tensor]:
        """Each loss of the rank's last batch by name, and ``total``: scalars on the device."""
        return dict(zip(self.learner.objective.names, self.losses.unbind(), strict=True))

    def _train_epoch(self) -> None:
        progress = self.progress
        self.learner.start_epoch(progress.epoch, [epoch["losses"] for epoch in progress.epochs])
        self._sums = torch.tensor(self._own_sums(), device=self.ranks.device)
        self._began, self._seconds_before = self.phases.now(), progress.epoch_seconds
        for loaded in self.loader.epoch(progress.epoch, progress.step_in_epoch):
            batch = to_device(loaded, self.ranks.device)
            self.phases.mark("data_wait")
            self._call("before_step", batch)
            self.phases.mark("callbacks")
            self.losses = self.step(batch, progress.global_step)
            self._sums += self.losses
            progress.global_step += 1
            progress.step_in_epoch += 1
            self._call("after_step")
            self.phases.mark("callbacks")
            if progress.stop_reason is not None:
                break
        self._note_epoch()

    def _own_sums(self) -> list[float]:
        """The sums of this rank so far: its own, bit for bit, or the mean where there were other ranks."""
        sums = self.progress.loss_sums
        if len(sums) == self.ranks.world_size:
            return sums[self.ranks.rank]
        return [sum(column) / len(sums) for column in zip(*sums, strict=True)] or [0.0] * len(self.losses)

    def _note_epoch(self) -> None:
        """Bring the epoch's sums into ``progress``, from where they are saved."""
        self.progress.epoch_seconds = self._seconds_before + self.phases.now() - self._began
        self.progress.loss_sums = self.ranks.gather(self._sums.tolist())

    def _finish_epoch(self) -> None:
        self._call("before_save")
        progress, training = self.progress, self.config.training
        last = progress.epoch + 1 == training.epochs
        if last and progress.stop_reason is None:
            self.finish("max_epochs")
        metrics = self._evaluate() if last or (progress.epoch + 1) % training.eval_every == 0 else {}
        totals = [sum(column) / self.ranks.world_size for column in zip(*progress.loss_sums, strict=True)]
        losses = [total / progress.step_in_epoch for total in totals]
        epoch = Epoch(
            epoch=progress.epoch,
            global_step=progress.global_step,
            losses=dict(zip(self.learner.objective.names, losses, strict=True)),
            metrics=metrics,
            seconds=progress.epoch_seconds,
        )
        progress.epochs.append(epoch.model_dump())
        progress.train_seconds += progress.epoch_seconds
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        progress.epoch_seconds, progress.loss_sums = 0.0, []
        self.phases.mark("evaluation")
        self._call("after_epoch", epoch)
        self.phases.mark("callbacks")

    def _evaluate(self) -> dict[str, float | None]:
        """The metrics on val, each rank taking its share of the samples; the leader keeps the best model."""
        reader, ranks = self.data.readers["val"], self.ranks
        with self.learner.for_evaluation():
            share = _equal_share(len(reader), ranks.rank, ranks.world_size)
            own = evaluate(self.model, self.tasks, reader, self.config.data, share, ranks.device)
            parts = ranks.gather(own)
            metrics: dict[str, float | None] = {}
            if ranks.leads:
                together = {one.index: one for part in parts for one in part}
                metrics = score([together[index] for index in sorted(together)], self.tasks)
            metrics = ranks.gather(metrics)[0]
            value = metrics.get(self.config.training.monitor)
            best, monitor = self.progress.best_metric, self.config.training.monitor
            if value is not None and (best is None or gain(monitor, value, best) > 0):
                self.progress.best_metric, self.progress.best_step = value, self.progress.global_step
                self._save_best()
        return metrics

    def save(self) -> None:
        """A checkpoint of this moment, by all ranks together; it is complete some time later."""
        self._call("before_save")
        if self.progress.step_in_epoch:
            self._note_epoch()
        self.phases.mark("callbacks")
        document = {
            "progress": asdict(self.progress),
            "callbacks": {callback.name: callback.state_dict() for callback in self.callbacks if callback.name},
            **self.learner.document(),
        }
        self.checkpointer.save(self.progress.name, self.learner.tensors(), document)
        self.phases.mark("checkpoint")

    def _restore(self) -> int | None:
        directory = self.checkpointer.latest()
        if directory is None:
            return None
        document = self.checkpointer.document(directory)
        self.checkpointer.load(directory, self.learner.tensors_to_load(document))
        self.learner.loaded(document)
        self.progress = Progress(**document["progress"])
        for callback in self.callbacks:
            if callback.name in document["callbacks"]:
                callback.load_state_dict(document["callbacks"][callback.name])
        return self.progress.global_step

    def _save_best(self) -> None:
        model = self.learner.whole_model()
        if self.ranks.leads:
            self.checkpointer.save_best(
                {
                    "config": self.config.model_dump_json(),
                    "run_id": self.run_id,
                    "global_step": self.progress.global_step,
                    "model": model,
                }
            )

    def _result(self) -> TrainResult:
        progress = self.progress
        if progress.best_metric is None:
            # The monitored metric was never defined (no ground truth in val, or no evaluation before the wall):
            # the last model is the best known.
            progress.best_step = progress.global_step
            with self.learner.for_evaluation():
                self._save_best()
        samples = progress.global_step * self.config.data.batch_size
        seconds = progress.train_seconds + progress.epoch_seconds
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
            samples_per_second=samples / seconds if seconds else 0.0,
            train_seconds=seconds,
            resumed_from_step=self.resumed_from,
            warm_start=self.warm_start,
            state_sha256=self.learner.state_sha256(),
            stop_reason=progress.stop_reason or "",
            gates=tuple(verdict for callback in self.callbacks if (verdict := callback.verdict()) is not None),
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            best_checkpoint=BEST,
            last_checkpoint=next((f"checkpoints/{path.name}" for path in self.checkpointer.complete()[-1:]), None),
            revision=os.environ.get(REVISION) or None,
        )

    def _call(self, point: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, point)(self, *arguments)


def _equal_share(size: int, rank: int, world_size: int) -> list[int]:
    """Every ``world_size``-th sample, the same number for each rank: a sharded model is run by all ranks together.

    Where the samples do not go round, the last ones are given out twice.
    """
    longest = -(-size // world_size)
    return [min(rank + number * world_size, size - 1) for number in range(longest)]
