"""Which sample stands at which position of which epoch, computed rather than stored; and which stand for all.

A training can therefore begin at any position at once, with any number of ranks and loader workers.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

ROUNDS = 6
AHEAD = 64
MASK32 = np.uint64(0xFFFFFFFF)


def sample_at(positions: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """The samples (int64, 0…size-1) at ``positions`` of the epoch's permutation of ``size`` samples.

    A balanced Feistel network over the next even number of bits with cycle walking (Black and Rogaway, Ciphers
    with Arbitrary Finite Domains, 2002): a bijection in O(1) memory for each position.
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    keys = np.random.Philox(key=[seed, epoch]).random_raw(ROUNDS)
    values = _encrypt(np.asarray(positions, dtype=np.uint64) % np.uint64(size), half, keys)
    while (outside := values >= size).any():
        values[outside] = _encrypt(values[outside], half, keys)
    return values.astype(np.int64)


def _encrypt(values: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    low_bits = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & low_bits
    for key in keys:
        left, right = right, left ^ (_mix(right, key) & low_bits)
    return (left << half) | right


def _mix(values: np.ndarray, key: np.uint64) -> np.ndarray:
    """SplitMix64's finaliser (Steele et al., 2014) of the value under the round's key."""
    with np.errstate(over="ignore"):
        z = values + key
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def sample_rng(seed: int, epoch: int, sample: int) -> np.random.Generator:
    """The random numbers that augment ``sample`` in ``epoch``, whoever loads it."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, 0, sample + 1]))


@dataclass(frozen=True)
class Order:
    """The batches of each epoch, cut the same for every world size.

    Global batch ``b`` of an epoch holds the positions ``[b·batch_size, (b+1)·batch_size)``; rank ``r`` takes the
    ``r``-th equal part. What does not fill a last batch waits for the next epoch's permutation; a set smaller
    than one batch is gone through again.
    """

    size: int
    batch_size: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return max(1, self.size // self.batch_size)

    def batches(self, epoch: int, first_step: int, rank: int, world_size: int) -> Iterator[list[tuple[int, int]]]:
        """``(epoch, sample)`` of each of the rank's batches from ``first_step`` of ``epoch`` on."""
        share = self.batch_size // world_size
        own = np.arange(rank * share, (rank + 1) * share)
        for begin in range(first_step, self.steps_per_epoch, AHEAD):
            steps = np.arange(begin, min(begin + AHEAD, self.steps_per_epoch))
            positions = steps[:, None] * self.batch_size + own
            for samples in sample_at(positions, self.size, self.seed, epoch).tolist():
                yield [(epoch, sample) for sample in samples]


def spread(total: int, most: int) -> list[int]:
    """Up to ``most`` numbers below ``total``, evenly apart: the samples that are looked at where not all can be."""
    count = min(total, most)
    return [place * total // count for place in range(count)]
