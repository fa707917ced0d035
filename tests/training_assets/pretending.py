"""A code location whose trainer only pretends, for daemons that tests start.

Files in the directory that ``PRETENDING`` names let a test come in between: while ``hold-<what>`` is there, ``<what>``
(``look``: reading a delivery in a tick; ``train``) does not go on, and says so by ``held-<what>``.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from tests.training_assets.conftest import FakeTrainer
from trainer.contract.eval_report import Comparison
from trainer.contract.files import sha256_of
from trainer.contract.reference_profile import PROFILE_FILE, ReferenceProfile, feature_of
from training_assets.definitions import build_defs
from training_assets.launchers import LaunchSpec
from training_assets.profiles import load_profile
from training_assets.stores.inbox import DeliveryFound, Incomplete, LocalInbox

LONGEST_HOLD = 120.0


def hold(what: str) -> None:
    directory = Path(os.environ.get("PRETENDING", "nowhere"))
    deadline = time.monotonic() + LONGEST_HOLD
    while (directory / f"hold-{what}").exists() and time.monotonic() < deadline:
        (directory / f"held-{what}").touch()
        time.sleep(0.1)


class PretendedTrainer(FakeTrainer):
    """Each run is a process of its own that remembers nothing: production scored as the candidate does."""

    def train(self, spec: LaunchSpec) -> None:
        hold("train")
        super().train(spec)

    def profile(self, spec: LaunchSpec) -> None:
        out = Path(spec.arguments[spec.arguments.index("--out") + 1])
        features = {"luma_mean": feature_of([1.0, 2.0])}
        profile = ReferenceProfile(samples=2, features=features, distances={"val": {}, "test": {}})
        (out / PROFILE_FILE).write_text(profile.model_dump_json())

    def _compared(self, parts: dict[str, dict[str, float]], reference: Path, splits: Iterable[str]) -> Comparison:
        self.scored.setdefault(sha256_of(reference), parts)
        return super()._compared(parts, reference, splits)


class HeldInbox(LocalInbox):
    def look(self, name: str) -> DeliveryFound | Incomplete:
        hold("look")
        return super().look(name)


resources = {"launcher": PretendedTrainer(), "inbox": HeldInbox(Path(load_profile().inbox))}
defs = build_defs(resource_overrides=resources)
