"""``promote`` and ``rollback``: a person decides on the production model; others are told."""

import getpass
import sys
from collections.abc import Callable

from trainer.terminal.answers import Answer
from training_assets.profiles import load_profile
from training_assets.promotion import Decider
from training_assets.stores.entries import PRODUCTION
from training_assets.stores.events import Outbox
from training_assets.stores.registry import registry_of
from training_assets.stores.sinks import sinks_of


def promote(reference: str, reason: str) -> Answer:
    project = reference.partition("@")[0]
    return _answer(project, lambda decider: decider.promote(reference, reason))


def rollback(project: str, reason: str) -> Answer:
    return _answer(project, lambda decider: decider.roll_back(project, reason))


def _answer(project: str, decide: Callable[[Decider], str]) -> Answer:
    profile = load_profile()
    registry = registry_of(profile)
    said = decide(Decider(registry, Outbox(profile.store, sinks_of(profile)), getpass.getuser(), warn=_note))
    move = registry.history(project, PRODUCTION)[-1]
    document = {"project": project, "alias": PRODUCTION, "version": move.version, "previous": move.previous}
    return Answer(document, said)


def _note(line: str) -> None:
    print(f"note: {line}", file=sys.stderr)
