import random

import numpy as np
import torch

from trainer.engine.rng import restore_rng, rng_state

CPU = torch.device("cpu")


def draws() -> list[float]:
    return [float(torch.rand(())), random.random(), random.gauss(0, 1), np.random.rand(), np.random.normal()]


def test_every_generator_goes_on_where_it_was():
    draws()  # an odd number of normals: the second of a pair is kept by two of the generators
    state = rng_state(CPU)
    first = [draws() for _ in range(3)]
    restore_rng(state, CPU)
    assert [draws() for _ in range(3)] == first
