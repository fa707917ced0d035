"""Windows: late data reaches just the training sets that contain it, and a window with too little is passed over."""

import dagster as dg
import pytest

STAGED = dg.AssetKey("staged_shards")
WINDOWS = ("2025-12-29", "2026-01-05", "2026-01-12", "2026-01-19")


@pytest.fixture
def pinned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC takes seconds for each new version, and is tested elsewhere."""
