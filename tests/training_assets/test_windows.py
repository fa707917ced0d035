"""Windows: late data reaches just the training sets that contain it, and a window with too little is passed over."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from trainer.contract.pinned import NO_ROWS, window_manifest
from trainer.contract.shard_index import read_data_spec
from trainer.contract.windows import window_named
from training_assets.metadata import SKIPPED
from training_assets.records import DatasetVersion, ShardList, TrainingSet
from training_assets.refresh import Refresher

STAGED = dg.AssetKey("staged_shards")
WINDOWS = ("2025-12-29", "2026-01-05", "2026-01-12", "2026-01-19")


@pytest.fixture
def pinned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC takes seconds for each new version, and is tested elsewhere."""
