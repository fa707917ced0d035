"""The search's own time and memory: 1,000 trials of 50 epochs, eight at a time, recorded in a journal on disk.

Every trial is reported to its last epoch, also where the search would stop it: the most that there can be to do.
"""

import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.journal import journal_of
from training_assets.sweeps.search import search_of
from training_assets.sweeps.search.base import Search
from training_assets.sweeps.settings import EarlyStop, Pbt, Strategy
from training_assets.sweeps.space import Categorical, IntUniform, LogUniform, Parameter, Space, Uniform
from training_assets.sweeps.trials import Params

TRIALS, EPOCHS, PARALLEL = 1000, 50, 8
SPACE = Space(
    (
        Parameter("optim.lr", LogUniform(1e-5, 1e-1)),
        Parameter("optim.weight_decay", LogUniform(1e-6, 1e-2)),
        Parameter("optim.warmup_epochs", IntUniform(0, 5)),
        Parameter("data.batch_size", Categorical((8, 16, 32, 64))),
        Parameter("data.augmentation.jitter", Uniform(0.0, 0.5)),
        Parameter("loss.lane_weight", LogUniform(0.1, 10)),
        Parameter("model.backbone", Categorical(("resnet18", "resnet34", "convnext"))),
        Parameter("ema", Categorical((True, False))),
    )
)


def controller() -> dict[str, Any]:
    """Wall and processor seconds in the search and its journal, and the process's peak memory by quarters."""
    with tempfile.TemporaryDirectory() as folder, journal_of(Path(folder)) as journal:
        goals = Goals((Objective("mAP"),))
        search = search_of(SPACE, goals, Strategy(), EarlyStop(), Pbt(), EPOCHS, journal, time.time)
        wall, processor, peaks = time.perf_counter(), time.process_time(), []
        for first in range(0, TRIALS, PARALLEL):
            _batch(search, range(first, min(first + PARALLEL, TRIALS)))
            if first % (TRIALS // 4) < PARALLEL:
                peaks.append(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
        return {
            "controller_1000x50_s": round(time.perf_counter() - wall, 1),
            "controller_1000x50_processor_s": round(time.process_time() - processor, 1),
            "controller_peak_mb_by_quarter": peaks,
        }


def _batch(search: Search, trial_ids: range) -> None:
    qualities = {}
    for trial_id in trial_ids:
        suggestion = search.suggest(trial_id)
        assert suggestion is not None
        qualities[trial_id] = quality(suggestion.params)
    for epoch in range(1, EPOCHS + 1):
        for trial_id in trial_ids:
            search.report(trial_id, epoch, {"mAP": qualities[trial_id] * (1 - 0.8**epoch), "loss": 0.8**epoch})
    for trial_id in trial_ids:
        search.finish(trial_id, "completed")


def quality(params: Params) -> float:
    rate, decay = float(params["optim.lr"]), float(params["optim.weight_decay"])  # type: ignore[arg-type]
    return 1 / (1 + abs(rate - 3e-3) * 100 + decay * 30 + (params["model.backbone"] == "resnet18"))
