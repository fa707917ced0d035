"""How many trials keep their constraints: XGBoost on OpenML tasks, a surrogate of YAHPO Gym (``rbv2_xgboost``).

Balanced accuracy is maximised under limits of training time and memory, each at the 25th percentile of what random
configurations take; 100 trials one after the other, all data and repetitions.
"""

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from search_simulator import session_of

from training_assets.sweeps.goals import Constraint, Goals, Objective
from training_assets.sweeps.search import search_of
from training_assets.sweeps.settings import EarlyStop, Pbt, Strategy
from training_assets.sweeps.space import Categorical, IntUniform, LogUniform, Parameter, Space, Uniform
from training_assets.sweeps.trials import Trials

TASKS, SEEDS, TRIALS = ("40981", "1067", "41143"), range(3), 100
QUANTILE, SAMPLE = 0.25, 5000
SPACE = Space(
    tuple(
        Parameter(name, distribution)
        for name, distribution in {
            "nrounds": LogUniform(7, 2981, 1),
            "eta": LogUniform(0.0009118819655545162, 1.0),
            "gamma": LogUniform(4.5399929762484854e-05, 7.38905609893065),
            "lambda": LogUniform(0.0009118819655545162, 1096.6331584284585),
            "alpha": LogUniform(0.0009118819655545162, 1096.6331584284585),
            "subsample": Uniform(0.1, 1.0),
            "max_depth": IntUniform(1, 15),
            "min_child_weight": LogUniform(2.718281828459045, 148.4131591025766),
            "colsample_bytree": Uniform(0.01, 1.0),
            "colsample_bylevel": Uniform(0.01, 1.0),
            "rate_drop": Uniform(0.0, 1.0),
            "skip_drop": Uniform(0.0, 1.0),
            "booster": Categorical(("gblinear", "gbtree", "dart")),
            "num.impute.selected.cpo": Categorical(("impute.mean", "impute.median", "impute.hist")),
        }.items()
    )
)
OF_TREES = {"eta", "gamma", "max_depth", "min_child_weight", "colsample_bytree", "colsample_bylevel"}
OF_DART = {"rate_drop", "skip_drop"}
NUMBERS = [one.name for one in SPACE.parameters if one.distribution.numeric]


class Xgboost:
    def __init__(self, folder: Path, task: str) -> None:
        self.session = session_of(folder / "rbv2_xgboost")
        self.codes = json.loads((folder / "rbv2_xgboost" / "encoding.json").read_text())
        self.task = self.codes["task_id"][task]
        rng = np.random.default_rng(123)
        metrics = self.metrics([SPACE.at(list(rng.random(len(SPACE)))) for _ in range(SAMPLE)])
        self.limits = {name: float(np.quantile([one[name] for one in metrics], QUANTILE)) for name in ("s", "MB")}
        within = [all(one[name] <= limit for name, limit in self.limits.items()) for one in metrics]
        self.by_chance = statistics.mean(within)

    @property
    def goals(self) -> Goals:
        limits = tuple(Constraint(name, "<=", limit) for name, limit in self.limits.items())
        return Goals((Objective("bac"),), limits)

    def metrics(self, configurations: list[Mapping[str, Any]]) -> list[dict[str, float]]:
        numbers = [[*self._numbers(one), 1.0, 10.0] for one in configurations]
        categories = [
            [self.task, *(self.codes[name][one[name]] for name in ("booster", "num.impute.selected.cpo"))]
            for one in configurations
        ]
        inputs = {"x_cont": np.array(numbers, np.float32), "x_cat": np.array(categories, np.int32)}
        outputs = self.session.run(None, inputs)[0]  # acc, bac, auc, brier, f1, logloss, timetrain, timepredict, memory
        return [{"bac": float(row[1]), "s": float(row[6]), "MB": float(row[8])} for row in outputs]

    def _numbers(self, one: Mapping[str, Any]) -> list[float]:
        """What the booster does not have is 0, as YAHPO Gym has it."""
        absent = OF_TREES | OF_DART if one["booster"] == "gblinear" else set() if one["booster"] == "dart" else OF_DART
        return [0.0 if name in absent else float(one[name]) for name in NUMBERS]


def constraints(folder: Path) -> dict[str, Any]:
    """Shares of feasible trials, and the best feasible balanced accuracy on average, of each."""
    problems = [Xgboost(folder, task) for task in TASKS]
    ways = {"ours": _ours, "optuna_tpe": _optuna_tpe, "optuna_tpe4": _optuna_tpe4}
    report: dict[str, Any] = {"random_feasible": round(statistics.mean(one.by_chance for one in problems), 3)}
    for name, way in ways.items():
        runs = [_outcome(problem, way(problem, seed)) for problem in problems for seed in SEEDS]
        report[f"{name}_feasible"] = round(statistics.mean(share for share, _ in runs), 3)
        report[f"{name}_best"] = round(statistics.mean(best for _, best in runs), 4)
    return {**report, "tasks": list(TASKS), "seeds": len(SEEDS), "trials": TRIALS}


def _outcome(problem: Xgboost, metrics: list[dict[str, float]]) -> tuple[float, float]:
    feasible = [one for one in metrics if problem.goals.feasible(one)]
    return len(feasible) / len(metrics), max((one["bac"] for one in feasible), default=0.0)


def _ours(problem: Xgboost, seed: int) -> list[dict[str, float]]:
    trials = Trials()
    strategy = Strategy(name="bayes", seed=seed)
    search = search_of(SPACE, problem.goals, strategy, EarlyStop(first_rung=1), Pbt(), 1, trials, lambda: 0.0)
    for trial_id in range(TRIALS):
        suggestion = search.suggest(trial_id)
        assert suggestion is not None
        search.report(trial_id, 1, problem.metrics([suggestion.params])[0])
        search.finish(trial_id, "completed")
    return [trial.metrics for trial in trials]


def _optuna_tpe(problem: Xgboost, seed: int, **options: Any) -> list[dict[str, float]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed, **options))
    asked = {
        one.name: optuna.distributions.CategoricalDistribution(one.distribution.values)
        if isinstance(one.distribution, Categorical)
        else optuna.distributions.FloatDistribution(0, 1)
        for one in SPACE.parameters
    }
    found = []
    for _ in range(TRIALS):
        trial = study.ask(asked)
        params = {
            one.name: one.distribution.at(trial.params[one.name]) if one.name in NUMBERS else trial.params[one.name]
            for one in SPACE.parameters
        }
        found.append(problem.metrics([params])[0])
        for constraint in problem.goals.constraints:
            trial.set_constraint(constraint.metric, constraint.violation(found[-1]))
        study.tell(trial, found[-1]["bac"])
    return found


def _optuna_tpe4(problem: Xgboost, seed: int) -> list[dict[str, float]]:
    return _optuna_tpe(problem, seed, multivariate=False, constant_liar=False)
