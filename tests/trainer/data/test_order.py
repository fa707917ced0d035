from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.data.order import Order, sample_at, sample_rng, spread

SEEDS = st.integers(0, 2**32 - 1)


@given(size=st.integers(1, 3000), seed=SEEDS, epoch=st.integers(0, 1000))
def test_every_epoch_is_a_permutation(size, seed, epoch):
    assert sorted(sample_at(np.arange(size), size, seed, epoch)) == list(range(size))


def test_a_position_is_found_without_those_before_it_even_among_a_hundred_million():
    size = 100_000_000
    positions = np.array([0, 17, 99_999_999])
    together = sample_at(positions, size, 42, 3)
    assert [int(sample_at(np.array([p]), size, 42, 3)[0]) for p in positions] == together.tolist()
    assert together.max() < size


def test_epochs_and_seeds_differ():
    orders = {tuple(sample_at(np.arange(100), 100, seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}
    assert len(orders) == 4


@pytest.mark.slow
def test_the_order_is_uniform_enough():
    """Chi-square of where sample 0 lands over 2,000 epochs, 20 cells: below the 99.9 % quantile of 19 degrees."""
    places = [int(np.flatnonzero(sample_at(np.arange(20), 20, 7, epoch) == 0)[0]) for epoch in range(2_000)]
    counts = np.bincount(places, minlength=20)
    assert ((counts - 100) ** 2 / 100).sum() < 43.8


@given(
    size=st.integers(1, 500),
    share=st.integers(1, 8),
    world=st.sampled_from([1, 2, 4]),
    seed=SEEDS,
    epoch=st.integers(0, 50),
    data=st.data(),
)
def test_global_batches_do_not_depend_on_world_size_or_on_where_the_epoch_is_entered(
    size, share, world, seed, epoch, data
):
    order = Order(size, share * 4, seed)
    first = data.draw(st.integers(0, order.steps_per_epoch - 1))
    alone = list(order.batches(epoch, 0, 0, 1))[first:]
    ranks = [list(order.batches(epoch, first, rank, world)) for rank in range(world)]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == alone


def test_an_epoch_sees_each_sample_at_most_once_when_there_are_enough():
    seen = [sample for batch in Order(103, 10, 5).batches(2, 0, 0, 1) for _, sample in batch]
    assert len(seen) == len(set(seen)) == 100


def test_augmentation_numbers_belong_to_the_sample():
    assert sample_rng(1, 2, 3).random() == sample_rng(1, 2, 3).random()
    assert len({sample_rng(s, e, i).random() for s in (1, 2) for e in (0, 1) for i in (0, 1, 2)}) == 12


@given(total=st.integers(0, 500), most=st.integers(1, 300))
def test_chosen_samples_are_as_many_as_may_be_and_evenly_apart(total, most):
    chosen = spread(total, most)
    assert len(chosen) == min(total, most)
    assert set(chosen) <= set(range(total))
    gaps = {b - a for a, b in pairwise(chosen)}
    assert len(gaps) <= 2
    assert max(gaps, default=1) - min(gaps, default=1) <= 1
    assert min(gaps, default=1) >= 1


def test_where_all_may_be_chosen_all_are():
    assert spread(10, 5) == [0, 2, 4, 6, 8]
    assert spread(10, 20) == list(range(10))
