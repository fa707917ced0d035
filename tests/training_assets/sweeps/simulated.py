"""A sweep that never was: curves that rise to what a known function of the parameters allows, and ASHA's rungs."""

import math
import random
from datetime import UTC, datetime

from trainer.contract.train_config import TrainConfig
from training_assets.sweeps.goals import Constraint, Goals, Objective
from training_assets.sweeps.report.summarise import summarise
from training_assets.sweeps.report.summary import (
    Baseline,
    BudgetFacts,
    Cap,
    Outcome,
    Package,
    Spent,
    SweepFacts,
    SweepSummary,
    TrialFacts,
)
from training_assets.sweeps.space import Categorical, LogUniform, Parameter, Space, Uniform
from training_assets.sweeps.trials import Decision, Suggestion, Trial, Trials

IOU, AP, LATENCY = "segmentation/mIoU", "detection/AP50", "latency_p95_ms"
RUNGS, EPOCHS = (3, 9), 27
SPACE = Space(
    (
        Parameter("optim.lr", LogUniform(1e-4, 1e-1)),
        Parameter("optim.weight_decay", LogUniform(1e-5, 1e-1)),
        Parameter("tasks.detection.weight", Uniform(0.2, 2.0)),
        Parameter("data.augmentation.brightness", Uniform(0.0, 0.6)),
        Parameter("model.width", Categorical((16, 24, 32))),
        Parameter("optim.schedule", Categorical(("cosine", "poly", "constant"))),
    )
)
RECIPE = TrainConfig.model_validate(
    {
        "name": "scenes_multitask",
        "project": "scenes",
        "data": {"image_size": [128, 160], "augmentation": {"brightness": 0.2}},
        "model": {"width": 16},
        "tasks": {"detection": {"classes": ["vehicle"]}, "segmentation": {"classes": ["road", "sky"]}},
        "optim": {"lr": 4.0e-3, "weight_decay": 0.01},
        "training": {"monitor": IOU},
    }
)
TWO = Goals((Objective(IOU), Objective(AP)), (Constraint(LATENCY, "<=", 30.0),))
ONE = Goals((Objective(IOU),), (Constraint(LATENCY, "<=", 30.0),))


def sweep(count: int = 40, seed: int = 0, *, asha: bool = True) -> Trials:
    """``count`` trials, one in twelve of them failed."""
    rng, trials = random.Random(seed), Trials()
    rungs: dict[int, list[float]] = {rung: [] for rung in RUNGS}
    for number in range(count):
        trials.asked(number, Suggestion(SPACE.at([rng.random() for _ in SPACE.parameters])), 60.0 * number)
        _train(trials, trials[number], rng, rungs if asha else {})
    return trials


def _train(trials: Trials, trial: Trial, rng: random.Random, rungs: dict[int, list[float]]) -> None:
    iou, ap = _best(trial, rng)
    for epoch in range(1, EPOCHS + 1):
        share = 1 - math.exp(-epoch / 6)
        metrics = {IOU: iou * share + rng.gauss(0, 0.006), AP: ap * share + rng.gauss(0, 0.008)}
        if trial.id % 12 == 7 and epoch == 5:
            trials.reported(trial.id, epoch, {IOU: math.nan}, 0.0)
            trials.decided(trial.id, epoch, Decision("stop", f"{IOU} is not finite", "non-finite"), 0.0)
            trials.became(trial.id, "failed", 0.0)
            return
        if epoch == EPOCHS:
            metrics[LATENCY] = {16: 14.0, 24: 22.0, 32: 33.0}[trial.params["model.width"]] + rng.gauss(0, 1)
        trials.reported(trial.id, epoch, metrics, 0.0)
        if epoch in rungs and not _goes_on(trials, trial, epoch, metrics[IOU], rungs[epoch]):
            return
    trials.became(trial.id, "completed", 0.0)


def _best(trial: Trial, rng: random.Random) -> tuple[float, float]:
    """The learning rate matters most by far, then the width; weight decay and the schedule hardly do."""
    params = trial.params
    rate = (math.log10(params["optim.lr"]) + 2.3) ** 2
    width = {16: 0.0, 24: 0.05, 32: 0.08}[params["model.width"]]
    weight = params["tasks.detection.weight"]
    iou = 0.62 - 0.11 * rate + width - 0.04 * (weight - 0.5) + 0.01 * (params["optim.schedule"] == "cosine")
    return iou + rng.gauss(0, 0.01), 0.35 - 0.07 * rate + width + 0.09 * math.sqrt(weight) + rng.gauss(0, 0.01)


def _goes_on(trials: Trials, trial: Trial, epoch: int, value: float, reached: list[float]) -> bool:
    """ASHA with eta 3."""
    reached.append(value)
    threshold = sorted(reached, reverse=True)[max(0, math.ceil(len(reached) / 3) - 1)]
    if value >= threshold or len(reached) < 3:
        trials.decided(trial.id, epoch, Decision("continue", "", "asha", epoch, threshold, len(reached)), 0.0)
        return True
    reason = f"{value:.4g} is below {threshold:.4g}, the best third of {len(reached)} trials"
    trials.decided(trial.id, epoch, Decision("stop", reason, "asha", epoch, threshold, len(reached)), 0.0)
    trials.became(trial.id, "stopped", 0.0)
    return False


def facts_of(trials: Trials) -> dict[int, TrialFacts]:
    return {
        trial.id: TrialFacts(
            name=f"quiet-otter-cv{trial.id}",
            gpu_hours=trial.epoch * 0.05,
            cost_usd=trial.epoch * 0.05 * 1.2,
            seconds=trial.epoch * 180.0,
            error="loss is not finite at step 412" if trial.state == "failed" else None,
        )
        for trial in trials
    }


def summary(count: int = 40, goals: Goals = TWO, seed: int = 0, *, asha: bool = True) -> SweepSummary:
    trials = sweep(count, seed, asha=asha)
    facts = facts_of(trials)
    spent, total = [], 0.0
    for trial in trials:
        total += facts[trial.id].cost_usd or 0.0
        spent.append(Spent(hours=0.25 * (trial.id + 1), total=total))
    ended = Outcome(
        ended="completed",
        reason="all trials are through",
        stability="the winner is first with 3 of 3 further seeds, effect size 1.9",
        packages=tuple(
            Package(trial=one, path=f"packages/cv{one}", holdout={IOU: 0.6, AP: 0.4}, smoke={IOU: 0.5})
            for one in range(min(2, count))
        ),
        registered="candidate/detection/2026-11-30",
        proposal="proposal/",
    )
    return summarise(
        SweepFacts(
            name="quiet-otter",
            recipe="scenes_multitask",
            project="scenes",
            strategy="bayes+asha (own)",
            seed=0,
            started_at=datetime(2026, 11, 29, 20, 0, tzinfo=UTC),
            ended_at=datetime(2026, 11, 30, 6, 0, tzinfo=UTC),
            data_digest="a" * 64,
            git_sha="d" * 40,
        ),
        goals,
        SPACE,
        trials,
        facts=facts,
        recipe=RECIPE,
        baseline=Baseline(name="production", metrics={IOU: 0.55, AP: 0.41}),
        budget=BudgetFacts(
            caps=(
                Cap(what="trials", used=count, limit=50, forecast=count),
                Cap(what="USD", used=total, limit=40.0, forecast=total * 1.1),
                Cap(what="hours", used=10.0, limit=12.0),
            ),
            unit="USD",
            spent=tuple(spent),
        ),
        outcome=ended,
    )
