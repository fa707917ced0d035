"""Both rules of early stopping on small tables."""

import pytest

from trainer.contract.curves import epochs_without_improvement, median_of_running_averages


def test_patience_counts_epochs_since_the_last_rise_above_min_delta():
    series = {0: 0.1, 1: 0.3, 2: 0.3, 3: 0.305, 4: 0.2}
    assert epochs_without_improvement(series, 0.0) == 1
    assert epochs_without_improvement(series, 0.01) == 3
    assert epochs_without_improvement({1: 0.1, 3: 0.1, 5: 0.1}, 0.0) == 4  # evaluated every second epoch
    assert epochs_without_improvement({}, 0.0) == 0


def test_the_median_is_over_running_averages_up_to_the_epoch():
    # Golovin et al., Google Vizier (2017), 3.2.2, by hand: averages after epoch 2 are 0.2, 0.4 and 0.6.
    runs = [{0: 0.1, 1: 0.2, 2: 0.3, 3: 0.9}, {0: 0.4, 1: 0.4, 2: 0.4}, {0: 0.5, 1: 0.6, 2: 0.7}]
    assert median_of_running_averages(runs, 2, 3) == pytest.approx(0.4)
    assert median_of_running_averages(runs, 1, 3) == pytest.approx(0.4)
    assert median_of_running_averages(runs, 0, 3) == pytest.approx(0.4)
    assert median_of_running_averages(runs, 3, 1) == pytest.approx(0.375)  # the others did not come so far
    assert median_of_running_averages(runs, 3, 2) is None
