"""A sweep that is through: ordered, gated, judged again, registered once, reported; killed and asked again."""

import json
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from training_assets.stores.registry import Registry
from training_assets.sweeps.report import read_summary

RATES = [{"optim.lr": rate} for rate in (0.01, 0.03, 0.02)]
SPACE = {"strategy": "random", "parameters": {"optim.lr": {"min": 0.001, "max": 0.1}}, "budget": {"max_trials": 3}, "top_k": 2}


def test_the_best_trial_is_registered_with_its_sweep(swept: Any) -> None:
    swept.started(SPACE).tried(RATES)
    result = swept.report()
    assert result.success
    entry = Registry(swept.graph.profile.store).find("tests@1.0.0")
    assert entry.lineage.sweep.model_dump() == {"tune": "t", "trial": "t-cv1"}
    assert "optim.lr=0.03" in entry.lineage.run.overrides
    assert {"sweep_summary.json", "sweep_report.md", "sweep.yaml"} <= set(entry.files)
    assert swept.record.best == ("t-cv1", "t-cv2")
    assert read_summary(swept.place.report).outcome.registered.startswith("tests@1.0.0 (candidate/detection/")
