"""Learning back: what a sweep found, as a change of the recipe and of its library that a person reviews and applies.

A proposal says which files it changes, what they were when it was made, and what they become. Applying it to files
that have changed since is refused; applying it twice is the same as once.
"""

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, JsonValue, ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.files import OutsideRoot, inside, write_bytes, write_text
from trainer.contract.manifest import Sha256
from trainer.contract.train_config import Augmentation, Balancing, TrainConfig
from trainer.contract.yaml_io import dump_yaml, parse_yaml
from training_assets.sweeps.report.summarise import value_at
from training_assets.sweeps.report.summary import SweepSummary, TrialRow
from training_assets.sweeps.yaml_edit import with_values

PROPOSAL_FILE = "proposal.json"
LIBRARY = "library"
"""The folder beside the recipes; the graph reads only the recipes."""
LEARNT = ("data.augmentation.", "tasks.", "balancing.")
"""What is worth knowing beyond the recipe that it was found with."""
LIBRARY_HEAD = """\
# Augmentation policies and loss weights that sweeps found, and where each came from: to be copied into recipes.
entries:
"""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldChange(_Model):
    field: str
    before: JsonValue
    after: JsonValue


class FileChange(_Model):
    """A file (relative to the root) before and after; it is new where there was none before."""

    path: str
    before_sha256: Sha256 | None
    after_sha256: Sha256
    content: str
    diff: str


class Proposal(_Model):
    """What a sweep's best trial says about its recipe."""

    format: Literal[1] = 1
    sweep: str
    trial: str
    recipe: str
    changes: tuple[FieldChange, ...]
    files: tuple[FileChange, ...]


class LibraryEntry(_Model):
    """A tuned policy: found by ``trial`` of ``sweep`` on ``recipe``, for ``slices`` if it was meant for some.

    ``baseline`` are the scores that it was compared with.
    """

    name: str
    recipe: str
    sweep: str
    trial: str
    date: str | None
    slices: tuple[str, ...] = ()
    scores: dict[str, FiniteFloat]
    baseline: dict[str, FiniteFloat] = {}
    data_digest: str | None = None
    augmentation: Augmentation | None = None
    loss_weights: dict[str, FiniteFloat] = {}
    balancing: Balancing | None = None


class Library(_Model):
    """``recipes/library/<project>.yaml``."""

    entries: tuple[LibraryEntry, ...] = Field(default=())


def propose(
    summary: SweepSummary,
    winner: TrialRow,
    recipe: Path,
    root: Path,
    slices: Sequence[str] = (),
    recipe_sha256: str | None = None,
) -> Proposal:
    """The changes that make the recipe (a file below ``root``) train as ``winner`` did, and its entry in the library.

    ``slices`` are those that the sweep was to help, ``recipe_sha256`` is the file that it was started with. Without a
    difference there are no files.

    Raises:
        ContractError: the file is no recipe, is not that of the sweep, or cannot be changed in place.
    """
    before = _text(recipe)
    if recipe_sha256 is not None and _digest(before.encode()) != recipe_sha256:
        found = _named(_digest(before.encode()))
        problem = Problem(str(recipe), found, f"{_named(recipe_sha256)}, with which the sweep was started")
        advice = "What was found may not hold for what it is now: see the winner's settings in the report."
        raise ContractError("the recipe was changed while the sweep was at work", [problem], advice)
    config = _config(before, str(recipe))
    if config.name != summary.sweep.recipe:
        problem = Problem(str(recipe), config.name, summary.sweep.recipe, field="name")
        raise ContractError("this is not the sweep's recipe", [problem])
    values = config.model_dump(mode="json")
    changes = [
        FieldChange(field=field, before=value_at(values, field), after=after)
        for field, after in winner.params.items()
        if value_at(values, field) != after
    ]
    after = with_values(before, {change.field: change.after for change in changes}, str(recipe))
    tuned = _config(after, str(recipe))
    files = [_change(recipe, before, after, root)] if after != before else []
    learnt = [change for change in changes if change.field.startswith(LEARNT)]
    library = recipe.parent / LIBRARY / f"{config.project}.yaml"
    if learnt:
        entry = _entry(summary, winner, tuned, slices, [change.field for change in learnt])
        files += _added_to_library(library, entry, root)
    return Proposal(
        sweep=summary.sweep.name, trial=winner.name, recipe=config.name, changes=tuple(changes), files=tuple(files)
    )


def write_proposal(proposal: Proposal, directory: Path) -> Path:
    """``proposal.json``, which is applied, and a ``.diff`` of each file, which is read; returns the former."""
    for file in proposal.files:
        write_text(directory / f"{file.path.replace('/', '.')}.diff", file.diff)
    path = directory / PROPOSAL_FILE
    write_text(path, proposal.model_dump_json(indent=1) + "\n")
    return path


def read_proposal(path: Path) -> Proposal:
    """
    Raises:
        ContractError: not there, or not a proposal.
    """
    try:
        return Proposal.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ContractError(f"{path} cannot be read", [Problem(str(path), str(error), "a proposal")]) from None
    except ValidationError as error:
        raise ContractError(f"{path} is not a proposal", problems_of(error, str(path))) from None


def apply(proposal: Proposal, root: Path) -> list[Path]:
    """Change the files below ``root``; returns those that were. All are looked at before the first is written.

    A file that already is what it shall become is left alone, so that an apply that was killed is simply repeated.

    Raises:
        ContractError: a file is not what the proposal was made from, or would not be usable.
    """
    ready = list(_ready(proposal, root))
    for path, file in ready:
        write_bytes(path, file.content.encode())
    return [path for path, _ in ready]


def _ready(proposal: Proposal, root: Path) -> Iterator[tuple[Path, FileChange]]:
    problems = []
    for file in proposal.files:
        try:
            path = inside(root, file.path)
        except OutsideRoot:
            problems.append(Problem(PROPOSAL_FILE, file.path, f"a path below {root}", field="files.path"))
            continue
        found = _digest(path.read_bytes()) if path.is_file() else None
        if _digest(file.content.encode()) != file.after_sha256:
            problems.append(Problem(PROPOSAL_FILE, "another content", "that of after_sha256", field="files.content"))
        elif found != file.after_sha256 and found != file.before_sha256:
            problems.append(Problem(str(path), _named(found), f"{_named(file.before_sha256)}, as proposed from"))
        elif found != file.after_sha256:
            _check(file, str(path))
            yield path, file
    if problems:
        advice = "Propose again from the sweep's summary, or make the change by hand: the .diff files show it."
        raise ContractError("the proposal cannot be applied", problems, advice)


def _check(file: FileChange, name: str) -> None:
    """A library is told from a recipe by its folder."""
    if Path(file.path).parent.name == LIBRARY:
        parse_library(file.content, name)
    else:
        _config(file.content, name)


def parse_library(text: str, name: str) -> Library:
    """
    Raises:
        ContractError: names each field that is wrong.
    """
    try:
        return Library.model_validate(parse_yaml(text, name))
    except ValidationError as error:
        raise ContractError(f"{name} is not a library", problems_of(error, name)) from None


def _entry(
    summary: SweepSummary, winner: TrialRow, tuned: TrainConfig, slices: Sequence[str], fields: Sequence[str]
) -> LibraryEntry:
    """Whole policies, not only what was searched of them: the rest was part of what was found to work."""
    augmentation = any(field.startswith("data.augmentation.") for field in fields)
    balancing = any(field.startswith("balancing.") for field in fields)
    weights = balancing or any(field.startswith("tasks.") and field.endswith(".weight") for field in fields)
    sweep = summary.sweep
    return LibraryEntry(
        name=f"{sweep.name}/{winner.name}",
        recipe=sweep.recipe,
        sweep=sweep.name,
        trial=winner.name,
        date=None if sweep.ended_at is None else f"{sweep.ended_at:%Y-%m-%d}",
        slices=tuple(slices),
        scores=winner.objectives,
        baseline={} if summary.baseline is None else _of(winner.objectives, summary.baseline.metrics),
        data_digest=sweep.data_digest,
        augmentation=tuned.data.augmentation if augmentation else None,
        loss_weights={name: task.weight for name, task in tuned.tasks.items()} if weights else {},
        balancing=tuned.balancing if balancing else None,
    )


def _of(names: Mapping[str, float], values: Mapping[str, float]) -> dict[str, float]:
    return {name: values[name] for name in names if name in values}


def _added_to_library(path: Path, entry: LibraryEntry, root: Path) -> list[FileChange]:
    """As the last entry; nothing where it is in it, or holds no policy."""
    if entry.augmentation is None and not entry.loss_weights and entry.balancing is None:
        return []
    before = _text(path) if path.is_file() else None
    if before is not None and entry.name in {one.name for one in parse_library(before, str(path)).entries}:
        return []
    start = LIBRARY_HEAD if before is None else before.removesuffix("\n") + "\n"
    after = start + dump_yaml([entry.model_dump(mode="json", exclude_defaults=True)])
    parse_library(after, str(path))
    return [_change(path, before, after, root)]


def _change(path: Path, before: str | None, after: str, root: Path) -> FileChange:
    name = path.relative_to(root).as_posix()
    lines = difflib.unified_diff(
        (before or "").splitlines(keepends=True),
        after.splitlines(keepends=True),
        "/dev/null" if before is None else f"a/{name}",
        f"b/{name}",
    )
    return FileChange(
        path=name,
        before_sha256=None if before is None else _digest(before.encode()),
        after_sha256=_digest(after.encode()),
        content=after,
        diff="".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines),
    )


def _config(text: str, name: str) -> TrainConfig:
    try:
        return TrainConfig.model_validate(parse_yaml(text, name))
    except ValidationError as error:
        raise ContractError(f"{name} is not a usable recipe", problems_of(error, name)) from None


def _text(path: Path) -> str:
    """With its own line breaks."""
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"{path} cannot be read", [Problem(str(path), str(error), "a file in UTF-8")]) from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _named(digest: str | None) -> str:
    return "no file" if digest is None else f"sha256 {digest[:12]}"
