"""``promote``: a person makes a registered version the production model; others are told."""

import getpass
import sys

from trainer.terminal.answers import Answer
from training_assets.profiles import load_profile
from training_assets.stores.events import Outbox, promotion_events
from training_assets.stores.registry import registry_of
from training_assets.stores.sinks import sinks_of


def promote(reference: str, reason: str) -> Answer:
    profile = load_profile()
    registry = registry_of(profile)
    entry = registry.find(reference)
    move = registry.promote(entry.project, entry.version, by=getpass.getuser(), reason=reason)
    events = promotion_events(registry, entry.project)
    Outbox(profile.store, sinks_of(profile)).emit(events, lambda line: print(f"note: {line}", file=sys.stderr))
    said = f"{entry.project}@{move.alias} is {move.version} (before: {move.previous or 'nothing'})"
    document = {"project": entry.project, "alias": move.alias, "version": move.version, "previous": move.previous}
    return Answer(document, said)
