"""Which of several are not dominated: no other is at least as good in everything and better in something."""

from collections.abc import Sequence


def pareto_layers(scores: Sequence[Sequence[float]]) -> list[int]:
    """The front that each of ``scores`` (finite, larger is better) lies on: 0 is dominated by none, 1 only by 0, ….

    Non-dominated sorting as NSGA-II has it (Deb et al., 2002).
    """
    import numpy as np

    values = np.asarray(scores, float)
    if not len(values):
        return []
    at_least, better = np.ones((len(values), len(values)), bool), np.zeros((len(values), len(values)), bool)
    for column in values.T:
        at_least &= column[:, None] >= column[None, :]
        better |= column[:, None] > column[None, :]
    dominates = at_least & better
    layers, left = np.full(len(values), -1), np.ones(len(values), bool)
    layer = 0
    while left.any():
        front = left & ~dominates[left].any(axis=0)
        layers[front] = layer
        left &= ~front
        layer += 1
    return [int(one) for one in layers]
