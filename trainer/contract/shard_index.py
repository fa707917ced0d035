"""What a shard holds and what a training set is made of, as both sides read it.

``<shards>/<key>.tar`` is a WebDataset shard, ``<shards>/<key>.json`` its :class:`ShardIndex`; the index is
written last, so a shard exists once its index exists. A :class:`DataSpec` (``data.json``) lists the indexes.

An index is one JSON object, whose first line is all but the samples: what a training must know of a shard before it
reads from it costs one short read, however many shards there are.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.files import digest_of
from trainer.contract.manifest import LABEL_FIELDS, Row, Sha256

FORMAT = 2
DATA_FILE = "data.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Member(_Model):
    """Where one file of a sample lies in the shard: ``offset`` and ``length`` in bytes."""

    offset: Annotated[int, Field(ge=0)]
    length: Annotated[int, Field(ge=0)]


class ShardSample(_Model):
    """One sample of a shard: its row and its members by extension (``jpg``, ``semantic.png``, …, ``json``)."""

    row: Row
    members: dict[str, Member]


class ShardHead(_Model):
    """What is known of a shard as a whole. ``key`` is the digest of the rows in it, ``sha256`` that of the tar file.

    ``count`` is the number of samples, ``labels`` how many of them have each kind of label; None in an index of
    format 1, which does not say.
    """

    format: int = FORMAT
    key: str
    sha256: Sha256
    bytes: int
    count: int | None = None
    labels: dict[str, int] | None = None

    @property
    def tar_name(self) -> str:
        return f"{self.key}.tar"


class ShardIndex(ShardHead):
    """The index of one shard, with its samples."""

    samples: tuple[ShardSample, ...]


class Selection(_Model):
    """Which samples of a split's shards belong to it: numbers that count through all its shards, in order.

    ``labels`` is how many of them have each kind of label.
    """

    samples: tuple[Annotated[int, Field(ge=0)], ...]
    labels: dict[str, int]


class DataSpec(_Model):
    """A training set: the index files of the shards of each split, in order; paths relative to ``data.json``.

    A split with a ``selection`` has only those samples of its shards; the others have all.
    """

    format: int = FORMAT
    splits: dict[str, tuple[str, ...]]
    slices: str = "slices.yaml"
    selection: dict[str, Selection] | None = None

    @property
    def digest(self) -> str:
        """sha256 over the shard keys: the same digest, the same samples in the same order."""
        keys = {split: [Path(path).stem for path in paths] for split, paths in self.splits.items()}
        if not self.selection:
            return digest_of(keys)
        return digest_of({"splits": keys, "samples": {split: one.samples for split, one in self.selection.items()}})

    @property
    def text(self) -> str:
        """``data.json``."""
        return self.model_dump_json(indent=2, exclude_none=True) + "\n"

    def selected(self, split: str) -> Selection | None:
        return (self.selection or {}).get(split)


def shard_key(rows: list[Row], masks: Mapping[str, str | None]) -> str:
    """The content address of a shard of ``rows``; ``masks`` maps a sample to its mask's sha256."""
    content: list[Any] = [[row.to_json(), masks.get(row.sample_id)] for row in rows]
    return digest_of({"format": FORMAT, "rows": content})[:32]


def index_text(index: ShardIndex) -> str:
    """``index`` as its file has it: the head on the first line, then each sample on its own."""
    labels = Counter(kind for sample in index.samples for kind in LABEL_FIELDS if sample.row.has_label(kind))
    head = ShardHead(**index.model_dump(include=set(ShardHead.model_fields))).model_copy(
        update={"count": len(index.samples), "labels": {kind: labels[kind] for kind in LABEL_FIELDS}}
    )
    samples = ",\n".join(sample.model_dump_json(by_alias=True, exclude_none=True) for sample in index.samples)
    return f'{head.model_dump_json()[:-1]},\n"samples":[\n{samples}\n]}}\n'


def read_index(path: Path) -> ShardIndex:
    return ShardIndex.model_validate_json(path.read_bytes())


def read_head(path: Path) -> ShardHead:
    """The head of the index at ``path``, always with ``count`` and ``labels``.

    Raises:
        ContractError: there is no index, or its head is not one.
    """
    try:
        with open(path, "rb") as stream:
            line = stream.readline()
        if not line.endswith(b",\n"):  # format 1: all on one line, without the counts
            text = index_text(read_index(path))
            line = text[: text.index("\n") + 1].encode()
        return ShardHead.model_validate_json(line[:-2] + b"}")
    except OSError as error:
        problem = Problem(str(path), error.strerror or str(error), "the index of a shard")
        raise ContractError("a shard has no index", [problem], "Stage the data again.") from None
    except ValidationError as error:
        raise ContractError(f"{path} is not a shard index", problems_of(error, str(path))) from None


def read_members(path: Path) -> list[dict[str, Member]]:
    """The members of each sample of the index at ``path``, without looking at the rows."""
    samples = json.loads(path.read_bytes())["samples"]
    return [{name: Member.model_construct(**span) for name, span in sample["members"].items()} for sample in samples]


def read_data_spec(directory: Path) -> DataSpec:
    return DataSpec.model_validate_json((directory / DATA_FILE).read_bytes())
