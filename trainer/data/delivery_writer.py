"""Writing a delivery: images and masks first, ``slices.yaml``, then the manifests that make it complete.

A directory is ours when it holds the marker; only then is it written over. The same input gives the same bytes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.contract.delivery import FILES, SLICES_FILE, manifest_name
from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import inside, write_json, write_text
from trainer.contract.manifest import SPLITS, Row
from trainer.contract.slices import parse_slices
from trainer.contract.yaml_io import dump_yaml

MARKER = ".delivery.json"


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
        self.out = out
        self._references: set[str] = set()
        _refuse_foreign(out)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / MARKER, {"made_by": "trainer.data.delivery_writer", "format": 1})
        # Without its manifests the directory is no delivery: a killed run leaves nothing that could be trained on.
        for name in FILES:
            (out / name).unlink(missing_ok=True)

    def put(self, reference: str, content: bytes) -> Stored:
        """Write ``content`` to ``out / reference``; a file that already holds it is left alone."""
        path = inside(self.out, reference)
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

    def _remove_unused(self) -> None:
        kept = {self.out / reference for reference in (*self._references, MARKER)}
        for path in sorted(self.out.rglob("*")):
            if (path.is_file() or path.is_symlink()) and path not in kept:
                path.unlink()


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ContractError(f"cannot write a delivery to {out}", [Problem(str(out), "a file", "a directory")])
    if out.is_dir() and not (out / MARKER).is_file() and (names := sorted(path.name for path in out.iterdir())):
        problem = Problem(str(out), ", ".join(names), f"an empty directory or an earlier output (with {MARKER})")
        raise ContractError(f"cannot write a delivery to {out}", [problem], "Nothing was changed there.")
