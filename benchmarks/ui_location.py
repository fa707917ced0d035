"""The code location with as many windows as ``ui.py`` asks for."""

import os
from datetime import UTC, datetime, timedelta

from training_assets.definitions import build_defs
from training_assets.profiles import Windows, load_profile

MANY = int(os.environ["BENCHMARK_WINDOWS"])
_today = datetime.now(UTC).date()
START = _today - timedelta(days=_today.weekday(), weeks=MANY - 1)

profile = load_profile().model_copy(update={"windows": Windows(start=START)})
defs = build_defs(profile=profile)
