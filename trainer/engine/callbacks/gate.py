"""What the gates inside a run share: a verdict that survives a resume, and rehearsals that leave no trace."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch

from trainer.contract.results import Verdict
from trainer.data.loader import Batch
from trainer.engine.loop import Callback, GateFailed, Trainer


class Gate(Callback):
    """A callback that has found something, or nothing yet; ``name`` is its name in ``result.json``."""

    found: Verdict | None = None

    def verdict(self) -> Verdict | None:
        return self.found

    def conclude(
        self,
        passed: bool,
        message: str,
        *,
        severity: Literal["abort", "warn"] = "abort",
        figures: Mapping[str, float] | None = None,
        error: type[GateFailed] = GateFailed,
    ) -> None:
        """Keep the verdict; one that is not passed and of severity ``abort`` ends the run.

        Raises:
            GateFailed: on every rank that concludes so: let all ranks conclude the same.
        """
        finite = {name: value for name, value in (figures or {}).items() if abs(value) < float("inf")}
        self.found = Verdict(gate=self.name, passed=passed, severity=severity, message=message, figures=finite)
        if not passed and severity == "abort":
            raise error(self.found)

    def state_dict(self) -> dict[str, Any]:
        return {"verdict": None if self.found is None else self.found.model_dump()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["verdict"] is not None:
            self.found = Verdict.model_validate(state["verdict"])


@contextlib.contextmanager
def rehearsal(trainer: Trainer, *, moves: bool = False) -> Iterator[list[torch.nn.Parameter]]:
    """The trainable parameters, without gradients, to try something with: all that it changes is put back.

    Gradients, buffers (BatchNorm's statistics) and random numbers always, the parameters where the block ``moves``
    them. Call ``trainer.learner.objective`` in it: DistributedDataParallel's wrapper would count the pass as a step of
    its own.
    """
    objective, device = trainer.learner.objective, trainer.ranks.device
    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    gradients = [parameter.grad for parameter in parameters]
    changing = [*objective.buffers(), *(parameters if moves else [])]
    kept = [tensor.detach().clone() for tensor in changing]
    for parameter in parameters:
        parameter.grad = None
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield parameters
    finally:
        with torch.no_grad():
            for tensor, value in zip(changing, kept, strict=True):
                tensor.copy_(value)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient


def first_samples(batch: Batch, count: int) -> Batch:
    return {name: value[:count] for name, value in batch.items()}
