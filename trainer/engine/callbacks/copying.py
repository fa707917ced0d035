"""Has finished checkpoints copied to the object store while the training goes on."""

from pathlib import Path

from trainer.engine.copier import Copier, CopyPlan
from trainer.engine.loop import Callback, Trainer

LAST_COPY_S = 90.0
"""A spot notice leaves two minutes: so long may the last checkpoint take to the store."""


class CopyCheckpoints(Callback):
    def __init__(self, run_dir: Path, uri: str, plan: CopyPlan) -> None:
        self.run_dir, self.uri, self.plan = run_dir, uri, plan
        self.copier: Copier | None = None

    def before_training(self, trainer: Trainer) -> None:
        if trainer.ranks.leads:
            self.copier = Copier(self.run_dir, self.uri, self.plan)

    def at_end(self, trainer: Trainer) -> None:
        if self.copier is not None and not self.copier.finish(LAST_COPY_S):
            print(f"the last checkpoint was not copied to {self.uri}: see above", flush=True)
