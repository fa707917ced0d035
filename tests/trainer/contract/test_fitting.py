"""What a person is told when a recipe does not fit its ranks or their memory."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from trainer.contract.fitting import memory_advice, refuse_uneven_batch, shared_memory_advice
from trainer.contract.train_config import TrainConfig, read_config


def config(recipe: Path, *overrides: str) -> TrainConfig:
    return read_config(recipe, overrides, {})


@pytest.mark.parametrize(
    ("size", "accumulate", "ranks", "nearest"),
    [(7, 1, 2, "6 or 8"), (3, 1, 8, "8"), (14, 4, 2, "8 or 16"), (100, 3, 4, "96 or 108")],
)
def test_the_nearest_batch_sizes_that_work_are_named(
    recipe: Path, size: int, accumulate: int, ranks: int, nearest: str
) -> None:
    uneven = config(recipe, f"data.batch_size={size}", f"optim.accumulate={accumulate}")
    with pytest.raises(ContractError, match=rf"nearest that work: data\.batch_size {nearest}\."):
        refuse_uneven_batch(uneven, ranks)


@given(size=st.integers(1, 64), accumulate=st.integers(1, 4), ranks=st.integers(1, 8))
def test_a_batch_is_accepted_exactly_where_all_shares_of_it_are_equal(
    recipe: Path, size: int, accumulate: int, ranks: int
) -> None:
    shares = {len(part) for part in np.array_split(np.arange(size), ranks * accumulate)}
    refused = False
    try:
        refuse_uneven_batch(config(recipe, f"data.batch_size={size}", f"optim.accumulate={accumulate}"), ranks)
    except ContractError:
        refused = True
    assert refused == (len(shares) > 1)


def test_advice_leaves_out_what_is_in_use_already(recipe: Path) -> None:
    advice = memory_advice(config(recipe, "training.precision=bf16", "data.workers=0"), host=True)
    assert "data.batch_size (now 8)" in advice
    assert "bf16" not in advice
    assert "workers" not in advice
    assert "data.workers (now 1 a rank)" in memory_advice(config(recipe), host=True)
    assert "workers" not in memory_advice(config(recipe))


def test_advice_can_be_given_before_the_recipe_is_read() -> None:
    assert "data.batch_size" in memory_advice(None)
    assert "--shm-size" in shared_memory_advice(None)
