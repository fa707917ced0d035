"""Writing a delivery: images and masks first, ``slices.yaml``, then the manifests that make it complete.

A directory is ours when it holds the marker; only then is it written over. A journal names each file before it is
written, and nothing else is ever removed: what a user keeps beside them stays. The same input gives the same bytes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.delivery import FILES, manifest_name
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import inside, write_json, write_text
from trainer.contract.manifest import SPLITS, Row
from trainer.contract.slices import SLICES_FILE, parse_slices
from trainer.contract.yaml_io import dump_yaml

MARKER = ".delivery.json"
JOURNAL = ".delivery.files"
"""One JSON string a line: the references of all files that this and earlier outputs wrote and that may be there."""


@dataclass(frozen=True)
class Stored:
    """A file of the delivery: its path relative to the manifests, and the sha256 of its bytes."""

    reference: str
    sha256: str


class DeliveryWriter:
    """Fills the directory ``out``, which is new, empty or an earlier output of this class.

    Raises:
        ContractError: ``out`` is a file or holds something else.
    """

    def __init__(self, out: Path) -> None:
        # Resolved before it is judged: `new/..` is not there until its directories are made, and then is another one.
        self.out = out.resolve()
        self._references: set[str] = set()
        _refuse_foreign(self.out)
        self.out.mkdir(parents=True, exist_ok=True)
        write_json(self.out / MARKER, {"made_by": "trainer.data.delivery_writer", "format": 1})
        self._journalled = _read_journal(self.out / JOURNAL)
        self._write_journal(self._journalled)
        # Without its manifests the directory is no delivery: a killed run leaves nothing that could be trained on.
        for name in FILES:
            (self.out / name).unlink(missing_ok=True)

    def put(self, reference: str, content: bytes) -> Stored:
        """Write ``content`` to ``out / reference``; a file that already holds it is left alone."""
        path = inside(self.out, reference)
        self._journal(reference)
        if not (path.is_file() and path.read_bytes() == content):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(content)
        self._references.add(reference)
        return Stored(reference, hashlib.sha256(content).hexdigest())

    def copy(self, source: Path, reference: str) -> Stored:
        """Copy the file ``source``, byte for byte."""
        return self.put(reference, source.read_bytes())

    def finish(self, rows: Mapping[str, Sequence[Row]], slices: Mapping[str, Any]) -> None:
        """Write ``slices.yaml`` and the three manifests; files of an earlier output that are not used now go.

        Raises:
            ContractError: ``slices`` is not usable.
        """
        parse_slices(slices, SLICES_FILE)
        self._remove_unused()
        write_text(self.out / SLICES_FILE, dump_yaml(dict(slices)))
        for split in SPLITS:
            lines = [json.dumps(row.to_json(), ensure_ascii=False, allow_nan=False) + "\n" for row in rows[split]]
            write_text(self.out / manifest_name(split), "".join(lines))

    def _journal(self, reference: str) -> None:
        if reference not in self._journalled:
            with open(self.out / JOURNAL, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(reference) + "\n")
            self._journalled.add(reference)

    def _remove_unused(self) -> None:
        for reference in self._journalled - self._references:
            inside(self.out, reference).unlink(missing_ok=True)
        self._write_journal(self._references)

    def _write_journal(self, references: set[str]) -> None:
        write_text(self.out / JOURNAL, "".join(json.dumps(name) + "\n" for name in sorted(references)))


def _read_journal(path: Path) -> set[str]:
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    # A killed run may leave a last line without its end; its file was not written yet.
    return {json.loads(line) for line in lines[:-1] if line}


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ContractError(f"cannot write a delivery to {out}", [Problem(str(out), "a file", "a directory")])
    if out.is_dir() and not (out / MARKER).is_file() and (names := sorted(path.name for path in out.iterdir())):
        problem = Problem(str(out), ", ".join(names), f"an empty directory or an earlier output (with {MARKER})")
        raise ContractError(f"cannot write a delivery to {out}", [problem], "Nothing was changed there.")
