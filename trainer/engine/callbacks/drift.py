"""Compares what a run trains on with the reference profile: severe drift of the images ends it.

The features are those of the source images, before augmentation, which changes brightness on purpose: a thread
decodes a few samples of every so many steps once more. Which ones is arithmetic, so a resumed run sees the same.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from trainer.contract.reference_profile import DISTANCES, ReferenceProfile, read_profile
from trainer.contract.train_config import Drift as DriftConfig
from trainer.data.features import IMAGE_FEATURES, Features, column, sample_features
from trainer.data.loader import Batch, image_member, read_image, read_mask
from trainer.engine.callbacks.gate import Gate
from trainer.engine.loop import Trainer

TOLD = 5


class Drift(Gate):
    """Each rank looks at its part of the chosen samples; all ranks judge the newest ``window`` of all."""

    name = "drift"

    def __init__(self, config: DriftConfig, profile: Path | None) -> None:
        self.config, self.path = config, profile
        self.reference: dict[str, np.ndarray] = {}
        self.window: list[Features] = []
        self.worst: dict[str, float] = {}
        self.seen = 0
        self._threads = ThreadPoolExecutor(1, "drift")
        self._looking: Future[list[Features]] | None = None

    def before_training(self, trainer: Trainer) -> None:
        if self.path is None:
            self.conclude(True, "no reference profile: nothing was compared (train --profile FILE)", severity="warn")
        else:
            self.reference = reference_values(read_profile(self.path))

    def before_step(self, trainer: Trainer, batch: Batch) -> None:
        if self.reference and trainer.progress.global_step % self.config.every == 0:
            self._collect(trainer)
            chosen = self._chosen(trainer)[trainer.ranks.rank :: trainer.ranks.world_size]
            self._looking = self._threads.submit(self._look, trainer, chosen)

    def before_save(self, trainer: Trainer) -> None:
        self._collect(trainer)

    def after_training(self, trainer: Trainer) -> None:
        self._threads.shutdown()

    def _chosen(self, trainer: Trainer) -> list[int]:
        """Samples of the step that comes; the first time of as many steps as ``min_samples`` needs."""
        progress, order = trainer.progress, trainer.order
        count = self.config.samples if progress.global_step else self.config.min_samples
        chosen: list[int] = []
        for batch in order.batches(progress.epoch, progress.step_in_epoch, 0, 1):
            chosen += [sample for _, sample in batch]
            if progress.global_step or len(chosen) >= count:
                break
        return chosen[:count]

    def _look(self, trainer: Trainer, samples: Sequence[int]) -> list[Features]:
        reader, slices = trainer.data.readers["train"], trainer.data.slices
        return [
            sample_features(
                read_image(reader, index) if image_member(reader, index) else None,
                read_mask(reader, index),
                reader.row(index),
                slices,
            )
            for index in samples
        ]

    def _collect(self, trainer: Trainer) -> None:
        """Take what the threads of all ranks found, in the same order on every rank, and judge."""
        if self._looking is None:
            return
        parts = trainer.ranks.gather(self._looking.result())
        self._looking = None
        found = [features for part in parts for features in part]
        self.seen += len(found)
        self.window = [*self.window, *found][-self.config.window :]
        distances = distances_of(self.window, self.reference, self.config.statistic)
        self.worst = {name: max(value, self.worst.get(name, 0.0)) for name, value in distances.items()}
        self._judge(distances)

    def _judge(self, now: dict[str, float]) -> None:
        limit = self.config.abort
        severe = [name for name in IMAGE_FEATURES if limit is not None and now.get(name, 0.0) >= limit]
        far = sorted(
            (name for name in self.worst if self.worst[name] >= self.config.warn), key=lambda n: -self.worst[n]
        )
        told = f"{self.seen} samples against the reference profile ({self.config.statistic})"
        figures = {"samples": float(self.seen), **self.worst}
        if severe:
            message = (
                f"{told}: {self._listed(severe)}, at least guards.drift.abort ({limit:g}). Look at the newest windows' "
                "images; when they are as they should be, raise guards.drift.abort or renew reference_profile."
            )
            self.conclude(False, message, figures=figures)
        elif far:
            message = f"{told}: {self._listed(far)}, at least guards.drift.warn ({self.config.warn:g})"
            self.conclude(False, message, severity="warn", figures=figures)
        else:
            highest = max(self.worst, key=lambda name: self.worst[name])
            self.conclude(True, f"{told}: the largest is {self._listed([highest])}", figures=figures)

    def _listed(self, names: Sequence[str]) -> str:
        more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
        return ", ".join(self._described(name) for name in names[:TOLD]) + more

    def _described(self, name: str) -> str:
        values = column(self.window, name)
        mean = float(np.mean(values)) if values else float("nan")
        reference = float(np.mean(self.reference[name]))
        return f"{name} {self.worst[name]:.3g} (mean now {mean:.4g}, reference {reference:.4g})"

    def state_dict(self) -> dict[str, Any]:
        kept = ("window", "worst", "seen")
        return super().state_dict() | {name: getattr(self, name) for name in kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.window, self.worst, self.seen = state["window"], state["worst"], state["seen"]


def reference_values(profile: ReferenceProfile) -> dict[str, np.ndarray]:
    return {name: np.array(feature.values) for name, feature in profile.features.items()}


def distances_of(rows: Sequence[Features], reference: dict[str, np.ndarray], statistic: str) -> dict[str, float]:
    """How far the samples are from the reference in each feature that they have."""
    columns = {name: np.array(column(rows, name)) for name in reference}
    return {name: DISTANCES[statistic](reference[name], values) for name, values in columns.items() if len(values)}
