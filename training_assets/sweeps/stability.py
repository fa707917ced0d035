"""Whether the ranking of the best few trials holds under other seeds.

The winner under one seed is often not the winner. So the best few are trained again under the same few seeds, and the
ranking is believed where the difference is larger than what seeds do: Bouthillier et al., "Accounting for Variance in
Machine Learning Benchmarks", MLSys 2021, and Colas et al., "A Hitchhiker's Guide to Statistical Comparisons of
Reinforcement Learning Algorithms", 2019.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from trainer.contract.errors import ContractError, Problem

MEDIUM_EFFECT = 0.5
"""Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988: 0.2 is small, 0.5 medium, 0.8 large."""


@dataclass(frozen=True)
class Comparison:
    """The winner against another trial, seed by seed: larger is better for the winner.

    ``difference`` is the mean over seeds, ``low`` and ``high`` its t interval, ``effect`` Cohen's d of paired samples
    (the mean difference in standard deviations of the differences; infinite where they are all the same). ``distinct``:
    the effect is large enough; ``certain``: the interval lies above 0 too, for which few seeds are seldom enough.
    """

    other: int
    difference: float
    low: float
    high: float
    effect: float
    distinct: bool
    certain: bool


@dataclass(frozen=True)
class Stability:
    """``winner`` has the best mean, ``changed`` if it is not who won before; the rest is of it against every other."""

    winner: int
    before: int
    seeds: int
    comparisons: tuple[Comparison, ...]
    distinct: bool
    certain: bool
    sentence: str

    @property
    def changed(self) -> bool:
        return self.winner != self.before


def stability(
    scores: Mapping[int, Sequence[float]],
    before: int | None = None,
    confidence: float = 0.95,
    min_effect: float = MEDIUM_EFFECT,
) -> Stability:
    """Compare trials by their scores under the same seeds.

    Args:
        scores: of each trial by its number, in the order of their ranking so far; a score for each seed, in the same
            order for all, larger is better. A score that is not finite is a training that failed: its trial cannot win.
        before: who won so far; the first of ``scores`` unless given.
        confidence: of each interval, shared out among the comparisons (Bonferroni), so that all hold together.
        min_effect: the effect size from which on a winner is distinct.

    Raises:
        ContractError: fewer than two trials or seeds, trials with different numbers of seeds, or none that is finite.
    """
    _check(scores)
    before = next(iter(scores)) if before is None else before
    sound = {trial: values for trial, values in scores.items() if all(map(math.isfinite, values))}
    winner = max(sound, key=lambda trial: fmean(sound[trial]))
    others = [trial for trial in sound if trial != winner]
    level = 1 - (1 - confidence) / max(1, len(others))
    pairs = [(other, [a - b for a, b in zip(sound[winner], sound[other], strict=True)]) for other in others]
    comparisons = tuple(_comparison(other, differences, level, min_effect) for other, differences in pairs)
    distinct = all(comparison.distinct for comparison in comparisons)
    certain = all(comparison.certain for comparison in comparisons)
    seeds = len(sound[winner])
    sentence = _sentence(winner, before, seeds, comparisons, sorted(set(scores) - set(sound)))
    return Stability(winner, before, seeds, comparisons, distinct, certain, sentence)


def _comparison(other: int, differences: Sequence[float], level: float, min_effect: float) -> Comparison:
    mean, spread = fmean(differences), stdev(differences)
    half = _t_quantile((1 + level) / 2, len(differences) - 1) * spread / math.sqrt(len(differences))
    effect = mean / spread if spread else math.copysign(math.inf, mean) if mean else 0.0
    return Comparison(other, mean, mean - half, mean + half, effect, effect >= min_effect, mean - half > 0)


def _t_quantile(probability: float, freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def _sentence(winner: int, before: int, seeds: int, comparisons: Sequence[Comparison], failed: Sequence[int]) -> str:
    won = "still wins" if winner == before else f"wins, not trial {before},"
    said = f"Trial {winner} {won} over {seeds} seeds"
    if close := [comparison for comparison in comparisons if not comparison.distinct]:
        nearest = min(close, key=lambda one: one.effect)
        said += (
            f", but is not distinct from {_listed([one.other for one in close])}: ahead of trial {nearest.other} by "
            f"{nearest.difference:.4g} (between {nearest.low:.4g} and {nearest.high:.4g}, effect {nearest.effect:.2g})"
        )
    elif comparisons:
        least = min(comparisons, key=lambda one: one.effect)
        said += f" and is distinct from every other, by an effect of {least.effect:.2g} at least"
        if unsure := [comparison.other for comparison in comparisons if not comparison.certain]:
            said += f"; more seeds are needed to be certain of {_listed(unsure)}"
    return said + (f"; {_listed(failed)} failed under a seed." if failed else ".")


def _listed(trials: Sequence[int]) -> str:
    names = [str(trial) for trial in trials]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"trial{'s' if len(names) > 1 else ''} {listed}"


def _check(scores: Mapping[int, Sequence[float]]) -> None:
    counts = {trial: len(values) for trial, values in scores.items()}
    problems = []
    if len(counts) < 2:
        problems.append(Problem("scores", f"{len(counts)} trials", "two at least, to compare"))
    if len(set(counts.values())) > 1:
        problems.append(Problem("scores", f"seeds by trial {counts}", "the same seeds for every trial"))
    if min(counts.values(), default=2) < 2:
        problems.append(Problem("scores", "one seed", "two seeds at least: a spread is needed"))
    if counts and not any(all(map(math.isfinite, values)) for values in scores.values()):
        problems.append(Problem("scores", "no trial whose scores are all finite", "one at least"))
    if problems:
        raise ContractError("the stability of a ranking cannot be judged", problems)
