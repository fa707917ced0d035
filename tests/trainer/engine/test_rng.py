import random

import numpy as np
import torch

from trainer.engine.rng import restore_rng, rng_state, seed_rng

CPU = torch.device("cpu")


def draws() -> list[float]:
    return [float(torch.rand(())), random.random(), random.gauss(0, 1), np.random.rand(), np.random.normal()]


def test_every_generator_goes_on_where_it_was():
    draws()  # an odd number of normals: the second of a pair is kept by two of the generators
    state = rng_state(CPU)
    first = [draws() for _ in range(3)]
    restore_rng(state, CPU)
    assert [draws() for _ in range(3)] == first


def test_a_seed_is_every_generators_seed():
    states = []
    for seed in (2**40 + 1, 2**40 + 1, 2**40 + 2):
        seed_rng(seed)
        states.append({name: value.clone() for name, value in rng_state(torch.device("cpu")).items()})
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert [name for name in first if not torch.equal(first[name], other[name])] == ["torch", "python", "numpy"]
