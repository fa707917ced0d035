"""``promote`` and ``rollback``: a person decides on the production model; others are told."""

import getpass
import sys

from training_assets.profiles import load_profile
from training_assets.promotion import Decider
from training_assets.stores.events import Outbox
from training_assets.stores.registry import registry_of
from training_assets.stores.sinks import sinks_of


def promote(reference: str, reason: str) -> int:
    print(_decider().promote(reference, reason))
    return 0


def rollback(project: str, reason: str) -> int:
    print(_decider().roll_back(project, reason))
    return 0


def _decider() -> Decider:
    profile = load_profile()
    outbox = Outbox(profile.store, sinks_of(profile))
    return Decider(registry_of(profile), outbox, getpass.getuser(), warn=_note)


def _note(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)
