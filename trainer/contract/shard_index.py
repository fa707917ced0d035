"""What a shard holds and what a training set is made of, as both sides read it.

``<shards>/<key>.tar`` is a WebDataset shard, ``<shards>/<key>.json`` its :class:`ShardIndex`; the index is
written last, so a shard exists once its index exists. A :class:`DataSpec` (``data.json``) lists the indexes.
"""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from trainer.contract.files import digest_of
from trainer.contract.manifest import Row, Sha256

FORMAT = 1
DATA_FILE = "data.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Member(_Model):
    """Where one file of a sample lies in the shard: ``offset`` and ``length`` in bytes."""

    offset: Annotated[int, Field(ge=0)]
    length: Annotated[int, Field(ge=0)]


class ShardSample(_Model):
    """One sample of a shard: its row and its members by extension (``jpg``, ``semantic.png``, ``json``)."""

    row: Row
    members: dict[str, Member]


class ShardIndex(_Model):
    """The index of one shard. ``key`` is the digest of the rows in it, ``sha256`` that of the tar file."""

    format: int = FORMAT
    key: str
    sha256: Sha256
    bytes: int
    samples: tuple[ShardSample, ...]

    @property
    def tar_name(self) -> str:
        return f"{self.key}.tar"


class DataSpec(_Model):
    """A training set: the index files of the shards of each split, in order; paths relative to ``data.json``."""

    format: int = FORMAT
    splits: dict[str, tuple[str, ...]]
    slices: str = "slices.yaml"

    @property
    def digest(self) -> str:
        """sha256 over the shard keys: the same digest, the same samples in the same order."""
        return digest_of({split: [Path(path).stem for path in paths] for split, paths in self.splits.items()})


def shard_key(rows: list[Row], masks: dict[str, str]) -> str:
    """The content address of a shard of ``rows``; ``masks`` maps a sample to its mask's sha256."""
    content: list[Any] = [[row.to_json(), masks.get(row.sample_id)] for row in rows]
    return digest_of({"format": FORMAT, "rows": content})[:32]


def read_index(path: Path) -> ShardIndex:
    return ShardIndex.model_validate_json(path.read_bytes())


def read_data_spec(directory: Path) -> DataSpec:
    return DataSpec.model_validate_json((directory / DATA_FILE).read_bytes())
