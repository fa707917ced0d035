"""A code location whose trainer only pretends, for daemons that tests start."""

from tests.training_assets.conftest import FakeTrainer
from training_assets.definitions import build_defs

defs = build_defs(resource_overrides={"launcher": FakeTrainer()})
