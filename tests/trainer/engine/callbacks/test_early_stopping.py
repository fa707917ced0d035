"""Early stopping in real runs."""

import json
from pathlib import Path

import pytest

from trainer.contract.errors import ContractError
from trainer.contract.train_config import EarlyStopping as EarlyStoppingConfig
from trainer.engine.callbacks.checkpoints import SaveCheckpoints
from trainer.engine.callbacks.early_stopping import EarlyStopping

METRIC = "segmentation/mIoU"


def history(path: Path, *values: float) -> Path:
    runs = [
        {"run_id": f"earlier{n}", "epochs": [{"epoch": e, "metrics": {METRIC: value}} for e in range(6)]}
        for n, value in enumerate(values)
    ]
    path.write_text(json.dumps(runs))
    return path


@pytest.mark.slow
def test_a_run_that_does_not_rise_ends_early_and_stays_ended_after_a_resume(build):
    config = EarlyStoppingConfig(patience=2, min_delta=10.0, first_epoch=1)

    def start():
        return build([EarlyStopping(config, METRIC, None), SaveCheckpoints(100)], "training.epochs=6")

    result = start().fit()
    assert (result.stop_reason, len(result.epochs)) == ("early_stopping", 3)
    verdict = result.gates[0]
    assert verdict.passed
    assert "has not improved by more than 10 for 2 epochs" in verdict.message
    again = start().fit()
    assert (again.global_step, again.gates) == (result.global_step, result.gates)


@pytest.mark.parametrize(("earlier", "stopped"), [((2.0, 3.0, 0.0), True), ((0.0, 0.0, 3.0), False)])
def test_a_run_below_the_median_of_earlier_runs_ends_and_warns(build, tmp_path, earlier, stopped):
    gate = EarlyStopping(
        EarlyStoppingConfig(median_rule=True, first_epoch=2), METRIC, history(tmp_path / "history.json", *earlier)
    )
    result = build([gate], "training.epochs=3").fit()
    assert (result.stop_reason == "early_stopping") is stopped
    assert result.gates[0].passed is not stopped
    assert len(result.epochs) == (2 if stopped else 3)


def test_a_resumed_run_keeps_the_history_it_began_with(build, tmp_path):
    config = EarlyStoppingConfig(median_rule=True, first_epoch=2)
    path = history(tmp_path / "history.json", 0.0, 0.0, 0.0)
    first = build([EarlyStopping(config, METRIC, path), SaveCheckpoints(4)], "training.epochs=1")
    first.fit()
    resumed = EarlyStopping(config, METRIC, history(path, 2.0, 2.0, 2.0))
    resumed.load_state_dict(first.callbacks[0].state_dict())
    resumed.before_training(first)
    assert resumed.past == first.callbacks[0].past


def test_a_history_that_is_none_is_refused_with_its_path(build, tmp_path):
    path = tmp_path / "history.json"
    path.write_text('[{"run_id": 3}]')
    trainer = build([EarlyStopping(EarlyStoppingConfig(), METRIC, path)])
    with pytest.raises(ContractError, match=r"history\.json is not a history of runs"):
        trainer.fit()
