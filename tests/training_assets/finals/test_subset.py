"""A small part of a training set: evenly spread, of the size that was asked for."""

from hypothesis import given
from hypothesis import strategies as st

from training_assets.finals.subset import spread


@given(total=st.integers(1, 500), data=st.data())
def test_what_is_chosen_rises_in_steps_that_differ_by_one_at_most(total: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(1, total))
    chosen = spread(range(total), number)
    gaps = [after - before for before, after in zip(chosen, [*chosen[1:], total], strict=True)]
    assert len(chosen) == number
    assert chosen[0] == 0
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1
