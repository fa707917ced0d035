"""The embedded model registry: versions and aliases as files that are created once and never changed.

Below the store::

    registry/<project>/versions/<semver>.json              one entry a version
    registry/<project>/aliases/<alias>/<sequence>.json     the alias's history; the newest entry is where it points
    models/<project>/<semver>/…                            the version's files

A version is there once its entry is there; its files come before. An alias may contain slashes
(``candidate/<task>/<date>``): each part is a directory.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of, sync_directory
from trainer.contract.names import model_directory, next_version
from training_assets.stores.entries import (
    PRODUCTION,
    PROJECT,
    AliasEntry,
    Draft,
    FileRecord,
    RegistryEntry,
    check_alias,
    check_project,
    check_ref,
    is_version,
    parse_reference,
)
from training_assets.stores.exclusive import create_exclusively, locked

INCOMING = ".incoming"


class Registry:
    """The registry of the store at ``root``. Several processes may use one store at the same time."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def register(self, draft: Draft, files: Mapping[str, Path]) -> RegistryEntry:
        """Copy ``files`` (name in the version → where it lies now) into a new version of ``draft.project``.

        The same run with the same files is registered once: its version is returned again.

        Raises:
            ContractError: a blocking gate is not passed, or a file is missing or changed while it was copied.
        """
        _refuse_blocked(draft)
        records = {name: _record(path) for name, path in sorted(files.items())}
        with locked(self._project(draft.project) / ".lock"):
            known = self._same(draft.lineage.run.run_id, draft.project, records)
            if known is not None:
                return known
            version = next_version([*self.versions(draft.project), *self._claimed(draft.project)])
            entry = RegistryEntry(
                **dict(draft), version=version, created_at=datetime.now(UTC).replace(microsecond=0), files=records
            )
            self._place(entry, files)
            # The entry last: whoever finds it finds all of its files.
            create_exclusively(self._version(draft.project, version), _json(entry))
            return entry

    def promote(self, project: str, version: str, alias: str = PRODUCTION, *, by: str, reason: str = "") -> AliasEntry:
        """Let ``alias`` point to ``version`` from now on; where it points there already, nothing is written.

        Raises:
            ContractError: no such version, or not the name of an alias.
        """
        check_alias(alias)
        if self.entry(project, version) is None:
            expected = f"one of {', '.join(self.versions(project)) or '(no versions yet)'}"
            raise ContractError("no such version", [Problem(f"project {project}", f"'{version}'", expected)])
        while True:
            history = self.history(project, alias)
            newest = history[-1] if history else None
            if newest is not None and newest.version == version:
                return newest
            entry = AliasEntry(
                sequence=newest.sequence + 1 if newest else 1,
                alias=alias,
                version=version,
                previous=newest.version if newest else None,
                by=by,
                reason=reason,
                at=datetime.now(UTC).replace(microsecond=0),
            )
            try:
                create_exclusively(self._alias(project, alias) / f"{entry.sequence:06d}.json", _json(entry))
                return entry
            except FileExistsError:
                continue  # Another process moved the alias in between: this move comes after that one.

    def resolve(self, project: str, ref: str) -> RegistryEntry | None:
        """The version that ``ref``, a semantic version or an alias, stands for; ``None`` when there is none.

        Raises:
            ContractError: neither the form of a version nor of an alias.
        """
        check_ref(ref)
        if is_version(ref):
            return self.entry(project, ref)
        history = self.history(project, ref)
        return self.entry(project, history[-1].version) if history else None

    def find(self, text: str) -> RegistryEntry:
        """The version that ``PROJECT@VERSION`` or ``PROJECT@ALIAS`` stands for.

        Raises:
            ContractError: there is none; names those that there are.
        """
        reference = parse_reference(text)
        entry = self.resolve(reference.project, reference.ref)
        if entry is None:
            known = [f"{project}@{ref}" for project in self.projects() for ref in self._refs(project)]
            expected = f"one of {', '.join(known)}" if known else "a registered model; there is none yet: make demo"
            raise ContractError("no such model", [Problem("reference", f"'{text}'", expected)])
        return entry

    def projects(self) -> list[str]:
        return sorted(path.name for path in _listed(self.root / "registry") if PROJECT.fullmatch(path.name))

    def versions(self, project: str) -> list[str]:
        """All versions of ``project``, the oldest first."""
        names = [path.stem for path in _listed(self._project(project) / "versions") if path.suffix == ".json"]
        return sorted(filter(is_version, names), key=_number)

    def entry(self, project: str, version: str) -> RegistryEntry | None:
        path = self._version(project, version)
        return RegistryEntry.model_validate_json(path.read_bytes()) if path.is_file() else None

    def history(self, project: str, alias: str) -> list[AliasEntry]:
        """Every move of ``alias``, the oldest first."""
        paths = [path for path in _listed(self._alias(project, alias)) if path.suffix == ".json"]
        entries = [AliasEntry.model_validate_json(path.read_bytes()) for path in paths]
        return sorted(entries, key=lambda entry: entry.sequence)

    def aliases(self, project: str) -> dict[str, AliasEntry]:
        """Where each alias of ``project`` points now."""
        top = self._project(project) / "aliases"
        names = sorted({path.parent.relative_to(top).as_posix() for path in top.rglob("*.json")})
        return {name: self.history(project, name)[-1] for name in names}

    def directory(self, entry: RegistryEntry) -> Path:
        """Where the files of ``entry`` lie."""
        return self.root / model_directory(entry.project, entry.version)

    def verify(self, entry: RegistryEntry) -> list[Problem]:
        """Hash the files of ``entry`` again: each one that is missing or is not what was registered."""
        problems = []
        for name, expected in entry.files.items():
            path = self.directory(entry) / name
            found = sha256_of(path) if path.is_file() else "nothing"
            if found != expected.sha256:
                problems.append(Problem(str(path), found, f"the registered sha256 {expected.sha256}"))
        return problems

    def _project(self, project: str) -> Path:
        check_project(project)
        return self.root / "registry" / project

    def _version(self, project: str, version: str) -> Path:
        check_ref(version)
        return self._project(project) / "versions" / f"{version}.json"

    def _alias(self, project: str, alias: str) -> Path:
        check_alias(alias)
        return self._project(project) / "aliases" / alias

    def _refs(self, project: str) -> Iterator[str]:
        yield from self.versions(project)
        yield from self.aliases(project)

    def _same(self, run_id: str, project: str, files: Mapping[str, FileRecord]) -> RegistryEntry | None:
        entries = (self.entry(project, version) for version in reversed(self.versions(project)))
        return next((e for e in entries if e and e.lineage.run.run_id == run_id and e.files == files), None)

    def _claimed(self, project: str) -> list[str]:
        """Version numbers whose directory exists: one that a killed writer left without an entry is not used again."""
        directory = self.root / model_directory(project, INCOMING).parent
        return [path.name for path in _listed(directory) if is_version(path.name)]

    def _place(self, entry: RegistryEntry, files: Mapping[str, Path]) -> None:
        """Copy the files beside their place, then move them there in one step. Only called under the lock."""
        incoming = self.root / model_directory(entry.project, INCOMING)
        shutil.rmtree(incoming, ignore_errors=True)  # what a killed writer left
        incoming.mkdir(parents=True)
        for name, record in entry.files.items():
            _copy(files[name], incoming / name, record)
        incoming.rename(self.directory(entry))
        sync_directory(incoming.parent)


def _refuse_blocked(draft: Draft) -> None:
    blocking = [gate for gate in draft.gates if gate.blocks]
    if blocking:
        problems = [
            Problem(f"gate {gate.name}", f"{row.metric} on {row.slice}: {row.value}", f"{row.limit} ({row.verdict})")
            for gate in blocking
            for row in gate.rows
            if row.passed is False
        ]
        raise ContractError(f"run {draft.lineage.run.run_id} is not registered", problems, "All gates must be passed.")


def _record(path: Path) -> FileRecord:
    if not path.is_file():
        raise ContractError("a model is not complete", [Problem(str(path), "nothing", "a file to register")])
    return FileRecord(sha256=sha256_of(path), bytes=path.stat().st_size)


def _copy(source: Path, target: Path, record: FileRecord) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    with open(target, "rb") as stream:
        os.fsync(stream.fileno())
    if sha256_of(target) != record.sha256:
        problem = Problem(str(source), "other bytes than a moment ago", "a file that nobody writes to")
        raise ContractError("a file changed while it was registered", [problem])


def _listed(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _json(value: BaseModel) -> bytes:
    text = json.dumps(value.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()
