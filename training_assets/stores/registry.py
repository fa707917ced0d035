"""The embedded model registry: versions and aliases as objects that are created once and never changed.

In the archive, by default the store itself::

    registry/<project>/claims/<semver>.json                whose number it is: taken before the first file is sent
    registry/<project>/versions/<semver>.json              one entry a version
    registry/<project>/aliases/<alias>/<sequence>.json     the alias's history; the newest entry is where it points
    models/<project>/<semver>/…                            the version's files

A version is there once its entry is there; its files come before. Of two that want the same name one gets through:
that is all that this rests on, and there is no lock. An alias may contain slashes (``candidate/<task>/<date>``):
each part is a directory.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of
from trainer.contract.names import model_directory
from training_assets.places import Places
from training_assets.profiles import Profile
from training_assets.stores.claims import Claim, as_json, claimed, files_digest, numbers, read_all
from training_assets.stores.entries import (
    PRODUCTION,
    PROJECT,
    AliasEntry,
    Draft,
    FileRecord,
    Overtaken,
    RegistryEntry,
    check_alias,
    check_project,
    check_ref,
    is_version,
    parse_reference,
    version_before,
)
from training_assets.stores.objects import CorruptObject, LocalObjects, ObjectStore, store_at


class Registry:
    """The registry of the store at ``root``, kept in ``archive``. Any number of processes and machines may use it."""

    def __init__(self, root: Path, archive: ObjectStore | None = None) -> None:
        self.root = root
        self.archive = archive or LocalObjects(root)

    def register(self, draft: Draft, files: Mapping[str, Path]) -> RegistryEntry:
        """Put ``files`` (name in the version → where it lies now) into a new version of ``draft.project``.

        The same run with the same files is registered once: its version is returned again. After a kill it goes on
        where it was.

        Raises:
            ContractError: a blocking gate is not passed, or a file is missing or changed while it was stored.
            StoreUnreachable: the archive cannot be reached.
        """
        _refuse_blocked(draft)
        records = {name: _record(path) for name, path in sorted(files.items())}
        known = self._same(draft.lineage.run.run_id, draft.project, records)
        if known is not None:
            return known
        now = datetime.now(UTC).replace(microsecond=0)
        # Validated before anything is written: the files' names are what they must be.
        entry = RegistryEntry(**dict(draft), version="0.0.0", created_at=now, files=records)
        claim = Claim(run_id=draft.lineage.run.run_id, files_digest=files_digest(records))
        version = claimed(self.archive, self._project(draft.project), claim, self.versions(draft.project))
        entry = entry.model_copy(update={"version": version})
        for name, record in records.items():
            self._place(files[name], _file(entry, name), record)
        # The entry last: whoever finds it finds all of its files.
        try:
            self.archive.create(self._version(entry.project, entry.version), as_json(entry))
        except FileExistsError:  # the same run, registered by another process at the same time
            return self._entry(entry.project, entry.version)
        return entry

    def promote(self, project: str, version: str, alias: str = PRODUCTION, *, by: str, reason: str = "") -> AliasEntry:
        """Let ``alias`` point to ``version`` from now on; where it points there already, nothing is written.

        Raises:
            ContractError: no such version, or not the name of an alias.
            Overtaken: somebody let it point elsewhere at the same time.
        """
        check_alias(alias)
        if self.entry(project, version) is None:
            expected = f"one of {', '.join(self.versions(project)) or '(no versions yet)'}"
            raise ContractError("no such version", [Problem(f"project {project}", f"'{version}'", expected)])
        newest = self.newest(project, alias)
        if newest is not None and newest.version == version:
            return newest
        return self._move(project, alias, version, newest, by, reason)

    def roll_back(self, project: str, alias: str = PRODUCTION, *, by: str, reason: str) -> AliasEntry:
        """Let ``alias`` point to the version before again; it is a step of its history like any other.

        Raises:
            ContractError: there is no version before.
            Overtaken: somebody let it point elsewhere at the same time.
        """
        history = self.history(project, alias)
        before = version_before(history)
        if before is None:
            found = f"{history[-1].version}, and nothing before it" if history else "nothing"
            advice = f"Promote another version: python -m training_assets promote {project}@VERSION"
            raise ContractError(
                "there is no version to go back to", [Problem(f"{project}@{alias}", found, "a version before")], advice
            )
        return self._move(project, alias, before, history[-1], by, reason, rolled_back=True)

    def _move(
        self,
        project: str,
        alias: str,
        version: str,
        newest: AliasEntry | None,
        by: str,
        reason: str,
        *,
        rolled_back: bool = False,
    ) -> AliasEntry:
        """The next step of the alias's history, behind ``newest``."""
        move = AliasEntry(
            sequence=newest.sequence + 1 if newest else 1,
            alias=alias,
            version=version,
            previous=newest.version if newest else None,
            by=by,
            reason=reason,
            at=datetime.now(UTC).replace(microsecond=0),
            rolled_back=rolled_back,
        )
        name = f"{self._alias(project, alias)}/{move.sequence:06d}.json"
        try:
            self.archive.create(name, as_json(move))
        except FileExistsError:
            winner = AliasEntry.model_validate_json(self._read(name))
            if winner.version == version:
                return winner
            raise Overtaken(project, f"{project}@{version}", winner) from None
        return move

    def follow(self, project: str, version: str, alias: str, *, by: str, reason: str = "") -> AliasEntry:
        """As :meth:`promote`, but after whoever was faster: for an alias that nobody decides on.

        Raises:
            ContractError: no such version, or not the name of an alias.
        """
        while True:
            try:
                return self.promote(project, version, alias, by=by, reason=reason)
            except Overtaken:
                continue

    def resolve(self, project: str, ref: str) -> RegistryEntry | None:
        """The version that ``ref``, a semantic version or an alias, stands for; ``None`` when there is none.

        Raises:
            ContractError: neither the form of a version nor of an alias.
        """
        check_ref(ref)
        if is_version(ref):
            return self.entry(project, ref)
        newest = self.newest(project, ref)
        return self.entry(project, newest.version) if newest else None

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
        names = {name.split("/")[1] for name in self.archive.list("registry")}
        return sorted(name for name in names if PROJECT.fullmatch(name))

    def versions(self, project: str) -> list[str]:
        """All versions of ``project``, the oldest first."""
        return numbers(self.archive, f"{self._project(project)}/versions")

    def entry(self, project: str, version: str) -> RegistryEntry | None:
        try:
            return self._entry(project, version)
        except FileNotFoundError:
            return None

    def newest(self, project: str, alias: str) -> AliasEntry | None:
        """Where ``alias`` points now."""
        moves = self._moves(project, alias)
        return AliasEntry.model_validate_json(self._read(moves[-1])) if moves else None

    def history(self, project: str, alias: str) -> list[AliasEntry]:
        """Every move of ``alias``, the oldest first."""
        return [
            AliasEntry.model_validate_json(content) for content in read_all(self.archive, self._moves(project, alias))
        ]

    def aliases(self, project: str) -> dict[str, AliasEntry]:
        """Where each alias of ``project`` points now."""
        top = f"{self._project(project)}/aliases"
        moves: dict[str, list[str]] = defaultdict(list)
        for name in self.archive.list(top):
            moves[name.removeprefix(f"{top}/").rpartition("/")[0]].append(name)
        newest = read_all(self.archive, [max(names, key=_number) for _, names in sorted(moves.items())])
        return dict(zip(sorted(moves), map(AliasEntry.model_validate_json, newest), strict=True))

    def documents(self) -> Iterator[bytes]:
        """Every entry and every move of an alias, of all projects, as JSON."""
        names = self.archive.list("registry")
        yield from read_all(self.archive, [name for name in names if name.split("/")[2] != "claims"])

    def where(self, entry: RegistryEntry) -> str:
        """Where the files of ``entry`` lie: a directory, or a URI."""
        return self.archive.at(str(model_directory(entry.project, entry.version)))

    def file(self, entry: RegistryEntry, name: str) -> Path:
        """A file of ``entry`` on this machine, with the digest that was registered; one from elsewhere is a copy.

        Raises:
            CorruptObject: it is another one than was registered.
            FileNotFoundError: it is gone.
        """
        stored, record = _file(entry, name), entry.files[name]
        here = self.archive.path(stored)
        if here is None:
            here = Places(self.root).fetched / f"{entry.project}-{entry.version}" / name
            self.archive.download(stored, here, record.sha256)
            os.utime(here)  # in use: clearing the store goes by this
        elif (found := sha256_of(here)) != record.sha256:
            raise CorruptObject(str(here), found, record.sha256)
        return here

    def verify(self, entry: RegistryEntry) -> list[Problem]:
        """Each file of ``entry`` that is missing or is not what was registered; in a bucket by what S3 knows of it."""
        problems = []
        for name, expected in entry.files.items():
            stored = self.archive.stat(_file(entry, name))
            found = "nothing" if stored is None else stored.sha256 or "a file without a sha256"
            if stored is None or (stored.sha256, stored.bytes) != (expected.sha256, expected.bytes):
                at = self.archive.at(_file(entry, name))
                problems.append(Problem(at, found, f"the registered sha256 {expected.sha256}"))
        return problems

    def _project(self, project: str) -> str:
        check_project(project)
        return f"registry/{project}"

    def _version(self, project: str, version: str) -> str:
        check_ref(version)
        return f"{self._project(project)}/versions/{version}.json"

    def _alias(self, project: str, alias: str) -> str:
        check_alias(alias)
        return f"{self._project(project)}/aliases/{alias}"

    def _refs(self, project: str) -> Iterator[str]:
        yield from self.versions(project)
        yield from self.aliases(project)

    def _entry(self, project: str, version: str) -> RegistryEntry:
        return RegistryEntry.model_validate_json(self._read(self._version(project, version)))

    def _moves(self, project: str, alias: str) -> list[str]:
        """The objects of an alias's history, the oldest first; not those of an alias inside its name."""
        top = self._alias(project, alias)
        names = (name for name in self.archive.list(top) if name.rpartition("/")[0] == top)
        return sorted(names, key=_number)

    def _read(self, name: str) -> bytes:
        return self.archive.read(name).content

    def _same(self, run_id: str, project: str, files: Mapping[str, FileRecord]) -> RegistryEntry | None:
        names = [self._version(project, version) for version in reversed(self.versions(project))]
        entries = map(RegistryEntry.model_validate_json, read_all(self.archive, names))
        return next((e for e in entries if e.lineage.run.run_id == run_id and e.files == files), None)

    def _place(self, path: Path, name: str, record: FileRecord) -> None:
        if self.archive.upload(path, name).sha256 != record.sha256:
            problem = Problem(str(path), "other bytes than a moment ago", "a file that nobody writes to")
            raise ContractError("a file changed while it was registered", [problem])


def registry_of(profile: Profile) -> Registry:
    """The registry of a profile.

    Raises:
        ContractError: its archive is neither a directory nor in S3.
    """
    return Registry(profile.store, store_at(profile.archive))


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


def _file(entry: RegistryEntry, name: str) -> str:
    """A file of a version, as an object of the archive."""
    return f"{model_directory(entry.project, entry.version)}/{name}"


def _number(name: str) -> int:
    """Of a move in an alias's history."""
    return int(name.rpartition("/")[2].removesuffix(".json"))
