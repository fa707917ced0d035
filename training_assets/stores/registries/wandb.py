"""Weights & Biases: a model artifact a version, its aliases on it; kept offline until somebody sends them.

Below the store::

    wandb/<project>/<version>/wandb/offline-run-…              the artifact, alias ``v<version>``
    wandb/<project>/<alias>-<sequence>/wandb/offline-run-…     the same artifact again, with the alias

``wandb sync`` on these directories sends them. The same content is the same artifact version to W&B, which then only
gets the alias.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from trainer.contract.files import sync_directory
from training_assets.profiles import Wandb
from training_assets.stores.entries import AliasEntry, RegistryEntry
from training_assets.stores.events import Refused, Unreachable
from training_assets.stores.registries.base import facts_of, scores_of
from training_assets.stores.registry import Registry

LOGGER = Path(__file__).with_name("wandb_offline.py")
TIMEOUT_SECONDS = 120
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL")


class WandbMirror:
    """Offline runs below the store; no account, no network."""

    name = "wandb"

    def __init__(self, settings: Wandb, registry: Registry) -> None:
        self.settings, self.registry = settings, registry
        self.root = registry.root / "wandb"

    def register(self, entry: RegistryEntry) -> None:
        self._log(entry, entry.version, [f"v{entry.version}"])

    def promote(self, entry: RegistryEntry, move: AliasEntry) -> None:
        self._log(entry, f"{move.alias}-{move.sequence}", [f"v{entry.version}", move.alias])

    def _log(self, entry: RegistryEntry, name: str, aliases: list[str]) -> None:
        done, work = self.root / entry.project / name, self.root / entry.project / f".{name}"
        if done.is_dir():
            return
        shutil.rmtree(work, ignore_errors=True)  # what a killed one left
        work.mkdir(parents=True)
        try:
            finished = subprocess.run(  # noqa: S603
                # -I: its own directory is not searched, or this file would be its wandb.
                [sys.executable, "-I", str(LOGGER)],
                input=json.dumps(self._artifact(entry, name, aliases, work)),
                env=_environment(work),
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable(f"wandb cannot be run: {error}") from None
        if finished.returncode:
            raise Refused(f"wandb ended with {finished.returncode}: {finished.stderr.strip()[-500:]}")
        for scratch in ("cache", "data", "config"):
            shutil.rmtree(work / scratch, ignore_errors=True)
        work.rename(done)
        sync_directory(done.parent)

    def _artifact(self, entry: RegistryEntry, name: str, aliases: list[str], work: Path) -> dict[str, object]:
        where = self.registry.where(entry)
        base = where if "://" in where else Path(where).absolute().as_uri()
        return {
            "directory": str(work),
            "project": entry.project,
            "entity": self.settings.entity,
            "run": f"registry-{name.replace('.', '-')}",
            "artifact": entry.project,
            "aliases": aliases,
            "metadata": {**facts_of(entry), "metrics": scores_of(entry), "config": entry.lineage.run.config},
            "files": {file: f"{base}/{file}" for file in entry.files},
        }


def _environment(work: Path) -> dict[str, str]:
    """No key, no settings of the person's own, nothing outside ``work``."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    places = {f"WANDB_{name.upper()}_DIR": str(work / name) for name in ("cache", "data", "config")}
    return {**inherited, **places, "WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
