"""The training loops that are compared: the project's own, and the peers', on the same model and tensors."""

from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from common import ROOT
from torch import nn
from turns import Batches

from trainer.contract.train_config import TrainConfig, read_config
from trainer.data.loader import Batch, DataSet, TrainingSamples, open_data
from trainer.data.order import Order
from trainer.data.scenes import make_scenes
from trainer.data.staging import data_directory
from trainer.engine.callbacks.gates import GateInputs
from trainer.engine.loop import Callback, Trainer
from trainer.engine.parallel import join
from trainer.engine.run import callbacks_of
from trainer.engine.step import build_optimizer, learning_rate
from trainer.models.hydranet import HydraNet, of_task
from trainer.process import keep_freed_memory
from trainer.reporting import reporter
from trainer.tasks import build_tasks

RECIPE = ROOT / "benchmarks" / "recipes" / "scenes.yaml"
DIFFERENT_BATCHES = 8
STEPS = 10**9
"""Of an epoch: no contestant comes to its end."""


def own(
    connection: Connection,
    config: TrainConfig,
    data_dir: Path,
    run_dir: Path,
    copy_to: str | None,
    also: Sequence[Callback] = (),
) -> None:
    """The project's own training with everything on: ``Trainer.fit``, every callback of a run, and ``also``."""
    with join(config.launch) as ranks, reporter(False) as report:
        data = open_data(data_dir, ("train", "val"))
        callbacks = [*callbacks_of(config, run_dir, copy_to, GateInputs(), ranks, report), *also]
        trainer = Trainer(config, data, run_dir, "benchmrk", ranks, callbacks)
        trainer.order = Order(STEPS, 1, config.seed)
        share = config.data.batch_size // ranks.world_size
        trainer.loader = _Source(trainer, Batches(connection, make_batches(config, data, share, ranks.rank)))  # type: ignore[assignment]
        trainer.fit()


class _Source:
    """Stands in for the loader; when the competition is over the training ends as at its wall."""

    def __init__(self, trainer: Trainer, batches: Batches) -> None:
        self.trainer, self.batches = trainer, batches

    def epoch(self, epoch: int, first_step: int) -> Iterator[Batch]:
        yield from self.batches
        self.trainer.finish("max_run_seconds")
        self.trainer.save()


def bare(connection: Connection, config: TrainConfig, data_dir: Path, keep_memory: bool = False) -> None:
    """What one writes by hand; with ``keep_memory`` by someone who knows of malloc what the engine knows."""
    if keep_memory:
        keep_freed_memory()
    torch.set_num_threads(config.launch.threads)
    network = Network(config)
    optimizer = build_optimizer(network, config.optim)
    schedule = schedule_of(optimizer, config)
    for batch in Batches(connection, make_batches(config, open_data(data_dir, ("train",)), config.data.batch_size)):
        optimizer.zero_grad(set_to_none=True)
        network(batch).backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.optim.clip_norm)
        optimizer.step()
        schedule.step()


def bare_ddp(connection: Connection, config: TrainConfig, data_dir: Path) -> None:
    """The same under plain DistributedDataParallel."""
    torch.set_num_threads(config.launch.threads)
    torch.distributed.init_process_group("gloo")
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    network = nn.parallel.DistributedDataParallel(Network(config))
    optimizer = build_optimizer(network, config.optim)
    schedule = schedule_of(optimizer, config)
    batches = make_batches(config, open_data(data_dir, ("train",)), config.data.batch_size // world_size, rank)
    for batch in Batches(connection, batches):
        optimizer.zero_grad(set_to_none=True)
        network(batch).backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.optim.clip_norm)
        optimizer.step()
        schedule.step()
    torch.distributed.destroy_process_group()


def all_reduce(connection: Connection, config: TrainConfig) -> None:
    """Nothing but the exchange of the gradients: one all-reduce of their bytes a step."""
    torch.set_num_threads(config.launch.threads)
    torch.distributed.init_process_group("gloo")
    gradients = torch.zeros(sum(parameter.numel() for parameter in Network(config).parameters()))
    for _ in Batches(connection, [None]):
        torch.distributed.all_reduce(gradients)
    torch.distributed.destroy_process_group()


def lightning(connection: Connection, config: TrainConfig, data_dir: Path) -> None:
    """Lightning's automatic optimisation in the mode that it offers for measuring speed."""
    from lightning.pytorch import LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = Network(config)

        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            return self.network(batch)

        def configure_optimizers(self) -> Any:
            optimizer = build_optimizer(self.network, config.optim)
            return [optimizer], [{"scheduler": schedule_of(optimizer, config), "interval": "step"}]

    torch.set_num_threads(config.launch.threads)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        gradient_clip_val=config.optim.clip_norm,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        barebones=True,
    )
    batches = make_batches(config, open_data(data_dir, ("train",)), config.data.batch_size)
    trainer.fit(Module(), Batches(connection, batches))


def accelerate(connection: Connection, config: TrainConfig, data_dir: Path) -> None:
    """Accelerate as its guide has it, over tensors that need no loader."""
    from accelerate import Accelerator

    torch.set_num_threads(config.launch.threads)
    accelerator = Accelerator(cpu=True)
    network: Any = Network(config)
    optimizer: Any = build_optimizer(network, config.optim)
    network, optimizer, schedule = accelerator.prepare(network, optimizer, schedule_of(optimizer, config))
    for batch in Batches(connection, make_batches(config, open_data(data_dir, ("train",)), config.data.batch_size)):
        optimizer.zero_grad()
        accelerator.backward(network(batch))
        accelerator.clip_grad_norm_(network.parameters(), config.optim.clip_norm)
        optimizer.step()
        schedule.step()


def prepare(folder: Path, overrides: list[str]) -> tuple[TrainConfig, Path]:
    """The default recipe, and a small staged set of the synthetic scenes that it is made for."""
    make_scenes(folder / "scenes", windows=2)
    config = read_config(RECIPE, ["launch.accelerator=cpu", *overrides])
    return config, data_directory(folder / "scenes", folder / "staged", lambda text: None)


class Network(nn.Module):
    """The recipe's HydraNet: a batch becomes the weighted sum of its tasks' losses."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        torch.manual_seed(config.seed)
        self.tasks = build_tasks(config.tasks)
        self.model = HydraNet(config.model, self.tasks)

    def forward(self, batch: Batch) -> torch.Tensor:
        outputs = self.model(batch)
        losses = {task: task.loss(of_task(outputs, task.name), of_task(batch, task.name)) for task in self.tasks}
        return torch.stack([task.weight * loss for task, loss in losses.items()]).sum()


def schedule_of(optimizer: torch.optim.Optimizer, config: TrainConfig) -> torch.optim.lr_scheduler.LambdaLR:
    """The recipe's learning rate, over as many steps as :func:`own` believes to do."""
    total = STEPS * config.training.epochs
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(config.optim, step, total) / config.optim.lr
    )


def make_batches(config: TrainConfig, data: DataSet, size: int, rank: int = 0) -> list[Batch]:
    """``DIFFERENT_BATCHES`` batches of the first samples, in memory; each rank has its own."""
    targets = {task.name: task.targets for task in build_tasks(config.tasks)}
    samples = TrainingSamples(data.readers["train"], config.data, targets, config.seed)
    count = len(data.readers["train"])
    first = rank * DIFFERENT_BATCHES * size
    return [
        torch.utils.data.default_collate([samples[0, (first + number * size + index) % count] for index in range(size)])
        for number in range(DIFFERENT_BATCHES)
    ]
