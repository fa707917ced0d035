"""The weights that a training begins with: what was asked for, looked up once for all tries of a run."""

from pathlib import Path

import dagster as dg
from pydantic import BaseModel, ConfigDict

from trainer.contract.files import sha256_of, write_json
from trainer.contract.manifest import Sha256
from trainer.contract.train_config import TrainConfig
from training_assets.policies import reaching_storage
from training_assets.stores.entries import ALIAS, CHECKPOINT, is_version
from training_assets.stores.registry import Registry

WARM_START_FILE = "warm_start.json"


class Choice(BaseModel):
    """``warm_start.json`` of a run: what was asked for, and what it stood for then (no ``path``: nothing yet)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: str
    version: str | None = None
    sha256: Sha256 | None = None
    path: str | None = None


def warm_start(
    context: dg.AssetExecutionContext,
    recipe: TrainConfig,
    registry: Registry,
    directory: Path,
    required: bool = False,
) -> tuple[str, ...]:
    """The weights to begin with, as the trainer's arguments; written down once, so that every try has the same.

    A recipe may name a model that does not exist yet; a run that asks for one (``required``) must get it.

    Raises:
        dg.Failure: there is no such model.
    """
    asked, chosen = recipe.model.warm_start, directory / WARM_START_FILE
    if asked is None:
        return ()
    if not chosen.exists():
        with reaching_storage():
            choice = choice_of(asked, recipe.project, registry)
        if required and choice.path is None:
            known = ", ".join([*registry.versions(recipe.project), *registry.aliases(recipe.project)]) or "nothing yet"
            raise dg.Failure(
                f"warm_start: found no version, alias or checkpoint file '{asked}', expected one of those that project"
                f" {recipe.project} has ({known}), or the absolute path of a checkpoint",
                allow_retries=False,
            )
        write_json(chosen, choice.model_dump())
    kept = _kept(directory)
    if kept.path is None:
        context.log.warning(f"{recipe.project} has no version '{asked}' yet: the training begins without a warm start")
        return ("--no-warm-start",)
    with reaching_storage():
        return ("--warm-start", _file(kept, recipe.project, registry) or kept.path)


def first_weights(
    context: dg.AssetExecutionContext, recipe: TrainConfig, registry: Registry, directory: Path, given: str | None
) -> tuple[str, ...]:
    """Of a sweep's training: the weights it was ``given`` (another trial's), else what the recipe asks for."""
    return ("--warm-start", given) if given else warm_start(context, recipe, registry, directory)


def choice_of(asked: str, project: str, registry: Registry) -> Choice:
    """What ``asked`` stands for now: a checkpoint file, a version or an alias."""
    if Path(asked).is_file():
        return Choice(asked=asked, sha256=sha256_of(Path(asked)), path=asked)
    entry = registry.resolve(project, asked) if is_version(asked) or ALIAS.fullmatch(asked) else None
    if entry is None:
        return Choice(asked=asked)
    weights, sha256 = registry.file(entry, CHECKPOINT), entry.files[CHECKPOINT].sha256
    return Choice(asked=asked, version=entry.version, sha256=sha256, path=str(weights))


def _file(choice: Choice, project: str, registry: Registry) -> str | None:
    """The weights of a version, fetched again where the copy was cleared away since; None for a checkpoint file."""
    entry = registry.entry(project, choice.version) if choice.version else None
    return None if entry is None else str(registry.file(entry, CHECKPOINT))


def _kept(directory: Path) -> Choice:
    return Choice.model_validate_json((directory / WARM_START_FILE).read_bytes())


def warm_started_from(directory: Path, project: str) -> str | None:
    """PROJECT@VERSION, or the sha256 of a checkpoint that was given as a file."""
    if not (directory / WARM_START_FILE).is_file():
        return None
    choice = _kept(directory)
    return f"{project}@{choice.version}" if choice.version else choice.sha256
