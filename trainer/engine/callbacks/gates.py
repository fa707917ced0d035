"""The gates of a run, as its recipe asks for them."""

from dataclasses import dataclass
from pathlib import Path

from trainer.contract.train_config import TrainConfig
from trainer.engine.callbacks.determinism import Determinism
from trainer.engine.callbacks.drift import Drift
from trainer.engine.callbacks.dry_run import DryRun
from trainer.engine.callbacks.early_stopping import EarlyStopping
from trainer.engine.callbacks.finite import FiniteGuard
from trainer.engine.callbacks.gate import Gate
from trainer.engine.callbacks.loss_spikes import LossSpikes
from trainer.reporting import Reporter

FINITE_EVERY = 10


@dataclass(frozen=True)
class GateInputs:
    """What gates compare a run with: a ``reference_profile.json`` and a ``history.json``."""

    profile: Path | None = None
    history: Path | None = None


def gates(config: TrainConfig, inputs: GateInputs, report: Reporter) -> list[Gate]:
    """In the order in which they are asked; before whatever saves, so that nothing bad is kept."""
    guards = config.guards
    found: list[tuple[bool, Gate]] = [
        (guards.dry_run.enabled, DryRun(guards.dry_run)),
        (guards.determinism.enabled, Determinism(guards.determinism)),
        (True, FiniteGuard(FINITE_EVERY)),
        (guards.loss_spikes.enabled, LossSpikes(guards.loss_spikes, report.info)),
        (guards.drift.enabled, Drift(guards.drift, inputs.profile)),
        (True, EarlyStopping(guards.early_stopping, config.training.monitor, inputs.history)),
    ]
    return [gate for enabled, gate in found if enabled]
