"""Exact Shapley values of a forest (interventional TreeSHAP; Lundberg et al., 2020), without approximation.

A tree is a set of boxes, its leaves. Where a sample x and a background sample b are both asked, a leaf counts for a
coalition when each of its sides is kept by the one that the coalition takes the feature from. With ``n`` features that
only x keeps and ``m`` that only b keeps (any that neither keeps: nothing), the leaf of value v gives each of the first
v·(n-1)!·m!/(n+m)!, and each of the second -v·n!·(m-1)!/(n+m)!.
"""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def shapley_values(forest: Any, samples: "np.ndarray", background: "np.ndarray", groups: "np.ndarray") -> "np.ndarray":
    """(samples, groups): what each group of columns adds to a sample's prediction, against ``background``'s mean.

    ``forest`` is a fitted forest of scikit-learn's for regression. ``groups`` has each column's group, 0 the first:
    the columns of one category, say, which only make sense together. A row adds up to the prediction of the sample
    less the mean prediction of the background.
    """
    import numpy as np

    total = np.zeros((len(samples), int(groups.max()) + 1))
    for tree in forest.estimators_:
        total += _of_tree(tree.tree_, samples, background, groups)
    return total / len(forest.estimators_)


def _of_tree(tree: Any, samples: "np.ndarray", background: "np.ndarray", groups: "np.ndarray") -> "np.ndarray":
    import numpy as np

    lower, upper, values = _leaves(tree, samples.shape[1])
    ours, theirs = (_kept(rows, lower, upper, groups) for rows in (samples, background))
    gains, losses = _weights(ours.shape[-1])
    result = np.zeros((len(samples), ours.shape[-1]))
    for mine, row in zip(ours, result, strict=True):
        reachable = (mine | theirs).all(axis=-1)
        only_mine, only_theirs = mine & ~theirs, theirs & ~mine
        n, m = only_mine.sum(axis=-1), only_theirs.sum(axis=-1)
        share = values * reachable / len(background)
        row += np.einsum("bl,blg->g", share * gains[n, m], only_mine)
        row -= np.einsum("bl,blg->g", share * losses[n, m], only_theirs)
    return result


def _leaves(tree: Any, columns: int) -> "tuple[np.ndarray, np.ndarray, np.ndarray]":
    """The leaves as boxes ``lower < x <= upper``, (leaves, columns) each, and their values."""
    import numpy as np

    lower, upper, values = [], [], []
    waiting = [(0, np.full(columns, -np.inf), np.full(columns, np.inf))]
    while waiting:
        node, low, high = waiting.pop()
        if tree.children_left[node] < 0:
            lower.append(low)
            upper.append(high)
            values.append(tree.value[node].item())
            continue
        column, limit = tree.feature[node], tree.threshold[node]
        left, right = high.copy(), low.copy()
        left[column], right[column] = min(high[column], limit), max(low[column], limit)
        waiting += [(tree.children_left[node], low, left), (tree.children_right[node], right, high)]
    return np.array(lower), np.array(upper), np.array(values)


def _kept(rows: "np.ndarray", lower: "np.ndarray", upper: "np.ndarray", groups: "np.ndarray") -> "np.ndarray":
    """(rows, leaves, groups): whether all columns of a group are within the leaf. Trees compare in single precision."""
    import numpy as np

    single = rows.astype(np.float32).astype(float)[:, None, :]
    inside = (single > lower) & (single <= upper)
    return np.stack([inside[..., groups == group].all(axis=-1) for group in range(int(groups.max()) + 1)], axis=-1)


def _weights(groups: int) -> "tuple[np.ndarray, np.ndarray]":
    """By n and m: (n-1)!·m!/(n+m)! and n!·(m-1)!/(n+m)!; 0 where n, or m, is."""
    import numpy as np

    gains = np.zeros((groups + 1, groups + 1))
    for n in range(1, groups + 1):
        for m in range(groups + 1):
            gains[n, m] = math.factorial(n - 1) * math.factorial(m) / math.factorial(n + m)
    return gains, gains.T
