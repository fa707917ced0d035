"""All that a training changes: the network, the optimizer and their companions, and their state as tensors."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of
from trainer.contract.results import WarmStart
from trainer.contract.train_config import TrainConfig
from trainer.engine.objective import Objective
from trainer.engine.parallel import Ranks
from trainer.engine.rng import restore_rng, rng_state, seed_rng
from trainer.engine.step import TrainStep
from trainer.engine.strategies import strategy_of, whole_tensor
from trainer.models.hydranet import HydraNet
from trainer.models.state import load, sha256_of_tensors
from trainer.tasks import build_tasks

Tensors = dict[str, torch.Tensor]


class Learner:
    """The network of ``config`` with its losses and its optimizer, spread over ``ranks`` as the recipe asks.

    ``before_update`` is called in each step before a parameter moves.
    """

    def __init__(self, config: TrainConfig, ranks: Ranks, total_steps: int, before_update: Callable[[], None]) -> None:
        torch.manual_seed(config.seed)
        self.ranks = ranks
        self.tasks = build_tasks(config.tasks)
        self.model = _network(config, self.tasks, ranks)
        self.objective = Objective(self.model, self.tasks, config, ranks.device)
        if config.training.compile:
            torch.use_deterministic_algorithms(True, warn_only=True)  # tells the compiler too
            self.model.compile()
        strategy = strategy_of(config.launch, ranks)
        self.step = TrainStep(self.objective, strategy, config.optim, total_steps, before_update)
        # From here on each rank draws for itself.
        seed_rng(config.seed * 100_003 + ranks.rank)

    def start_epoch(self, epoch: int, earlier: Sequence[Mapping[str, float]]) -> None:
        self.objective.balancer.start_epoch(epoch, earlier)

    @contextlib.contextmanager
    def for_evaluation(self) -> Iterator[None]:
        """Within: the model is what would be released, the same on all ranks."""
        self.step.before_update()  # the averaged weights take the place of those that may still be copied
        self._share_statistics()
        with self.step.ema.in_place() if self.step.ema is not None else contextlib.nullcontext():
            yield

    def whole_model(self) -> Tensors:
        """The model's tensors, shards put together; all ranks call it."""
        return {name: whole_tensor(value) for name, value in self.model.state_dict().items()}

    def tensors(self) -> Tensors:
        """Every tensor of the training's state for a checkpoint; buffers as copies, since a forward pass moves them."""
        self._share_statistics()
        buffers = {f"model.{name}" for name, _ in self.model.named_buffers()}
        tensors = {
            name: value.clone() if name in buffers else value for name, value in self.objective.state_dict().items()
        }
        return tensors | self._optimizer_tensors() | self._averages() | self._rng(rng_state(self.ranks.device))

    def tensors_to_load(self, document: dict[str, Any]) -> Tensors:
        """Where a checkpoint is read to, made by as many ranks as its ``document`` says."""
        self._make_optimizer_state()
        random = rng_state(self.ranks.device) if self.ranks.rank < document["world_size"] else {}
        self._rng_loaded = random
        return self.objective.state_dict() | self._optimizer_tensors() | self._averages() | self._rng(random)

    def document(self) -> dict[str, Any]:
        """What of the state is no tensor."""
        return {"world_size": self.ranks.world_size, "scaler": self.step.scaler.state_dict()}

    def loaded(self, document: dict[str, Any]) -> None:
        """Take over what was read into :meth:`tensors_to_load`."""
        self.step.scaler.load_state_dict(document["scaler"])
        if self._rng_loaded:
            restore_rng(self._rng_loaded, self.ranks.device)

    def state_sha256(self) -> str:
        """The digest of weights, buffers, averages and optimizer, whole; all ranks call it."""
        self._share_statistics()
        tensors = self.objective.state_dict() | self._optimizer_tensors() | self._averages()
        return sha256_of_tensors({name: whole_tensor(value) for name, value in tensors.items()})

    def warm_start(self, path: Path) -> WarmStart:
        """Take over what fits of the weights in ``path`` (``best.pt``) by name and shape; says what did not.

        Raises:
            ContractError: nothing fits.
        """
        weights = load(path, self.ranks.device)["model"]
        own = self.model.state_dict()
        fitting = {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}
        report = WarmStart(
            sha256=sha256_of(path),
            matched=len(fitting),
            missing=tuple(sorted(own.keys() - weights.keys())),
            unexpected=tuple(sorted(weights.keys() - own.keys())),
            other_shape=tuple(sorted((own.keys() & weights.keys()) - fitting.keys())),
        )
        if not fitting:
            problem = Problem(
                str(path), "no tensor with a name and shape of this model", "a checkpoint of a like model"
            )
            raise ContractError("the warm start does not fit", [problem])
        with torch.no_grad():
            for name, value in fitting.items():
                _fill(own[name], value)
            if self.step.ema is not None:
                for name, shadow in self.step.ema.shadow.items():
                    shadow.copy_(own[name])
        return report

    def _share_statistics(self) -> None:
        """BatchNorm's running statistics differ between ranks, each of which saw batches of its own."""
        ema = self.step.ema
        averaged = [] if ema is None else [ema.shadow[name] for name in ema.statistics]
        self.ranks.share([*self.model.buffers(), *averaged])

    def _optimizer_tensors(self) -> Tensors:
        names: dict[torch.Tensor, str] = {parameter: name for name, parameter in self.objective.named_parameters()}
        return {
            f"optimizer.{names[parameter]}.{key}": value
            for parameter, entries in self.step.optimizer.state.items()
            for key, value in entries.items()
        }

    def _make_optimizer_state(self) -> None:
        # The optimizer makes its state in the first step: one that moves nothing.
        optimizer = self.step.optimizer
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def _averages(self) -> Tensors:
        ema = self.step.ema
        return {} if ema is None else {f"ema.{name}": value for name, value in ema.shadow.items()}

    def _rng(self, state: Tensors) -> Tensors:
        return {f"rng.{self.ranks.rank}.{name}": value for name, value in state.items()}


def _network(config: TrainConfig, tasks: Sequence[Any], ranks: Ranks) -> HydraNet:
    model = HydraNet(config.model, tasks, config.data.camera)
    if config.model.sync_batchnorm and ranks.world_size > 1:
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        assert isinstance(converted, HydraNet)
        return converted
    return model


def _fill(own: torch.Tensor, value: torch.Tensor) -> None:
    own.copy_(distribute_tensor(value, own.device_mesh, own.placements) if isinstance(own, DTensor) else value)
