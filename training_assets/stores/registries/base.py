"""How another registry is told of ours: by the outbox's events, at least once, each time to what holds now."""

from typing import Any, Protocol

from training_assets.stores.entries import AliasEntry, RegistryEntry
from training_assets.stores.event_types import Event, ModelPromoted, ModelRegistered
from training_assets.stores.events import Unreachable
from training_assets.stores.objects import StoreUnreachable
from training_assets.stores.registry import Registry


class Mirror(Protocol):
    """Another registry. Both calls change nothing where they were made before.

    Raises:
        Unreachable, Refused: it has not taken it.
    """

    name: str

    def register(self, entry: RegistryEntry) -> None:
        """Have a version of it."""

    def promote(self, entry: RegistryEntry, move: AliasEntry) -> None:
        """Show that ``entry``, which is registered there, is in production, and no other."""


class MirrorSink:
    """A mirror as a sink of the outbox: what it could not be told waits there, and is told again."""

    def __init__(self, mirror: Mirror, registry: Registry) -> None:
        self.mirror, self.registry, self.name = mirror, registry, mirror.name

    def send(self, event: Event) -> None:
        try:
            if isinstance(event, ModelRegistered):
                self.mirror.register(self.registry.find(f"{event.project}@{event.version}"))
            elif isinstance(event, ModelPromoted):
                self._promote(event)
        except StoreUnreachable as error:
            raise Unreachable(str(error)) from None

    def _promote(self, event: ModelPromoted) -> None:
        # Not what the event says: one that waited must not undo what came after it.
        move = self.registry.newest(event.project, event.alias)
        if move is not None:
            entry = self.registry.find(f"{event.project}@{move.version}")
            # The version may be older than the mirror.
            self.mirror.register(entry)
            self.mirror.promote(entry, move)


def facts_of(entry: RegistryEntry) -> dict[str, Any]:
    """What another registry shows of a version: where it comes from. What is not known is left out."""
    lineage = entry.lineage
    facts = {
        "reference": entry.reference,
        "recipe": entry.recipe,
        "run_id": lineage.run.run_id,
        "window": lineage.training_set.window,
        "dataset_version": lineage.dataset.version,
        "dataset_dvc": lineage.dataset.dvc_hash,
        "training_set": lineage.training_set.digest,
        "git_sha": lineage.code.git_sha,
        "git_dirty": lineage.code.dirty,
        "lock_sha256": lineage.code.lock_sha256,
        "image_digest": lineage.code.image_digest,
        "config_digest": lineage.run.config_digest,
        "warm_started_from": lineage.run.warm_started_from,
        "gates": ", ".join(f"{gate.name} {'passed' if gate.passed else 'failed'}" for gate in entry.gates),
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}


def scores_of(entry: RegistryEntry) -> dict[str, float]:
    """``<split>/<metric>`` → value, those of a whole task first."""
    scores = {f"{split}/{name}": value for split, metrics in entry.metrics.items() for name, value in metrics.items()}
    known = {name: value for name, value in scores.items() if value is not None}
    return dict(sorted(known.items(), key=lambda item: (item[0].count("/"), item[0])))
