"""The distances are Evidently's, and a profile keeps enough of the reference to compute them."""

from collections.abc import Iterator

import numpy as np
import pytest

from trainer.contract.errors import ContractError
from trainer.contract.reference_profile import DISTANCES, KEPT_VALUES, feature_of, psi, read_profile, wasserstein


def samples() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(3)
    yield "shifted", rng.normal(100, 20, 500), rng.normal(110, 25, 64)
    yield "the same", rng.normal(100, 20, 500), rng.normal(100, 20, 256)
    yield "apart", rng.uniform(0, 1, 300), rng.uniform(5, 6, 40)
    yield "counts", rng.poisson(3, 400).astype(float), rng.poisson(4, 80).astype(float)
    yield "a new value", np.repeat([0.0, 1.0], 30), np.repeat([0.0, 1.0, 7.0], 10)
    yield "constant reference", np.full(50, 2.0), np.array([2.0, 2.0, 3.0])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "reference", "current"), samples(), ids=lambda v: v if isinstance(v, str) else "")
def test_wasserstein_and_psi_are_those_of_evidently(name, reference, current):
    import pandas as pd
    from evidently.legacy.calculations.stattests import psi_stat_test, wasserstein_stat_test
    from evidently.legacy.calculations.stattests.registry import get_stattest
    from evidently.legacy.core import ColumnType

    series = pd.Series(reference), pd.Series(current)
    for ours, theirs in ((wasserstein, wasserstein_stat_test), (psi, psi_stat_test)):
        found = get_stattest(*series, ColumnType.Numerical, theirs)(*series, ColumnType.Numerical, 0.1)
        assert ours(reference, current) == pytest.approx(found.drift_score, rel=1e-9), ours.__name__


def test_known_distances():
    # Moved by one standard deviation; and PSI by hand, (0.5 - 0.25) ln 2 + (0.5 - 0.75) ln(2/3).
    reference = np.array([-1.0, 1.0] * 8)
    assert wasserstein(reference, reference + 1.0) == pytest.approx(1.0)
    assert psi(np.array([0.0, 1.0] * 8), np.array([0.0, 1.0, 1.0, 1.0])) == pytest.approx(0.2746531)
    assert all(distance(reference, reference) == 0 for distance in DISTANCES.values())


def test_a_large_reference_is_kept_as_quantiles_that_give_nearly_the_same_distance():
    rng = np.random.default_rng(0)
    large, current = rng.gamma(2.0, 30.0, 50_000), rng.gamma(2.0, 36.0, 256)
    kept = feature_of(list(large))
    assert len(kept.values) == KEPT_VALUES
    assert kept.mean == pytest.approx(large.mean())
    assert wasserstein(np.array(kept.values), current) == pytest.approx(wasserstein(large, current), rel=0.02)


def test_a_file_that_is_no_profile_is_refused(tmp_path):
    with pytest.raises(ContractError, match="trainer profile"):
        read_profile(tmp_path / "absent.json")
    (tmp_path / "other.json").write_text('{"metrics": []}')
    with pytest.raises(ContractError, match="is not a reference profile"):
        read_profile(tmp_path / "other.json")
