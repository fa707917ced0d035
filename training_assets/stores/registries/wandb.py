"""Weights & Biases: a model artifact a version, its aliases on it; sent, or kept offline until somebody sends them.

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

LOGGER = Path(__file__).with_name("wandb_logger.py")
TIMEOUT_SECONDS = 120
KEY = "WANDB_API_KEY"
CANNOT_REACH = 75
ONLINE = (KEY, "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy")
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL")


class WandbMirror:
    """Runs below the store; offline without an account and a network, online through dagster-wandb's client."""

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
        if self.settings.mode == "online" and not os.environ.get(KEY):
            raise Unreachable(f"wandb is online, and there is no {KEY} in the environment")
        shutil.rmtree(work, ignore_errors=True)  # what a killed one left
        work.mkdir(parents=True)
        try:
            finished = subprocess.run(  # noqa: S603
                # -I: its own directory is not searched, or this file would be its wandb.
                [sys.executable, "-I", str(LOGGER)],
                input=json.dumps(self._artifact(entry, name, aliases, work)),
                env=_environment(work, self.settings.mode),
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable(f"wandb cannot be run: {error}") from None
        if finished.returncode == CANNOT_REACH:
            raise Unreachable(f"wandb cannot be reached: {finished.stderr.strip()[-500:]}")
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
            "mode": self.settings.mode,
            "host": self.settings.host,
            "project": entry.project,
            "entity": self.settings.entity,
            "run": f"registry-{name.replace('.', '-')}",
            "artifact": entry.project,
            "aliases": aliases,
            "metadata": {**facts_of(entry), "metrics": scores_of(entry), "config": entry.lineage.run.config},
            "files": {file: f"{base}/{file}" for file in entry.files},
        }


def _environment(work: Path, mode: str) -> dict[str, str]:
    """No key but online, no settings of the person's own, nothing outside ``work``."""
    names = (*INHERITED, *(ONLINE if mode == "online" else ()))
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    places = {f"WANDB_{name.upper()}_DIR": str(work / name) for name in ("cache", "data", "config")}
    # wandb.login keeps the key where it finds netrc: nowhere.
    return {**inherited, **places, "WANDB_MODE": mode, "WANDB_ERROR_REPORTING": "false", "NETRC": os.devnull}
