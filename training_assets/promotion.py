"""Making a version the production model, and going back to the one before: a person's decision, told to others.

The command line and Dagster's jobs both do it here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from trainer.contract.errors import ContractError, Problem
from training_assets.stores.entries import AliasEntry
from training_assets.stores.events import Outbox, promotion_events
from training_assets.stores.registry import Registry


@dataclass(frozen=True)
class Decider:
    """Who decides (``by``), on which registry; ``warn`` gets a line for what could not be told to others now."""

    registry: Registry
    outbox: Outbox
    by: str
    warn: Callable[[str], object]

    def promote(self, reference: str, reason: str) -> str:
        """Make ``reference`` (``PROJECT@VERSION`` or ``PROJECT@ALIAS``) the production model; says what is now.

        Raises:
            ContractError: there is no such version.
            Overtaken: somebody else moved the alias at the same time.
        """
        entry = self.registry.find(reference)
        return self._told(entry.project, self.registry.promote(entry.project, entry.version, by=self.by, reason=reason))

    def roll_back(self, project: str, reason: str) -> str:
        """Make the version before the production model of ``project`` again; says what is now.

        Raises:
            ContractError: there is none, or no reason.
            Overtaken: somebody else moved the alias at the same time.
        """
        if not reason.strip():
            problem = Problem("reason", "nothing", "why production goes back; it is kept in the alias's history")
            raise ContractError(f"production of {project} stays as it is", [problem])
        return self._told(project, self.registry.roll_back(project, by=self.by, reason=reason))

    def _told(self, project: str, move: AliasEntry) -> str:
        self.outbox.emit(promotion_events(self.registry, project), self.warn)
        return f"{project}@{move.alias} is {move.version} (before: {move.previous or 'nothing'})"
