"""The record store: Dagster's I/O manager for the small typed records that assets hand to each other.

One JSON file for each asset and partition, below ``<store>/records``. No tensors, no images, no manifests.
"""

import typing
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
from pydantic import BaseModel, TypeAdapter, ValidationError

from trainer.contract.files import write_text
from training_assets.places import Places
from training_assets.records import DatasetVersion

WHOLE = "whole"
T = TypeVar("T", bound=BaseModel)


class MissingRecord(Exception):
    """An asset is asked for that was not materialised here."""


class RecordStore(dg.IOManager):
    """Writes an asset's record; reads it back as the type that the input is annotated with.

    An input annotated ``dict[str, Record]`` gets one record for each upstream partition that exists: windows that
    were never staged are left out, and the asset decides what that means. Any other input must exist.
    """

    def __init__(self, places: Places) -> None:
        self.places = places

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        if obj is None:
            return
        by_partition = obj if isinstance(obj, dict) else dict.fromkeys(_output_partitions(context), obj)
        for partition, record in by_partition.items():
            self.write(context.asset_key, partition, record)

    def load_input(self, context: dg.InputContext) -> Any:
        wanted = context.dagster_type.typing_type
        keys = list(context.asset_partition_keys) if context.has_asset_partitions else [WHOLE]
        if typing.get_origin(wanted) is dict:
            kind = typing.get_args(wanted)[1]
            return {key: self.read(context.asset_key, key, kind) for key in keys if self.has(context.asset_key, key)}
        if len(keys) != 1:
            raise TypeError(f"{context.asset_key}: {len(keys)} partitions for an input annotated {wanted}, not dict[…]")
        return self.read(context.asset_key, keys[0], wanted)

    def has(self, key: dg.AssetKey, partition: str = WHOLE) -> bool:
        return self.path(key, partition).is_file()

    def read(self, key: dg.AssetKey, partition: str, kind: type[T]) -> T:
        """The record of one asset and partition.

        Raises:
            MissingRecord: never materialised into this store, or written by code that is not compatible.
        """
        path = self.path(key, partition)
        name = key.to_user_string() + ("" if partition == WHOLE else f", partition {partition}")
        if not path.is_file():
            raise MissingRecord(f"{name} has not been materialised: found no {path}. Materialise it first.")
        try:
            return TypeAdapter(kind).validate_json(path.read_bytes())
        except ValidationError as error:
            raise MissingRecord(f"{name} was written by other code ({path}). Materialise it again.\n{error}") from None

    def dataset(self) -> DatasetVersion:
        """The dataset version that was pinned last, for assets that it does not make out of date."""
        return self.read(dg.AssetKey("dataset_version"), WHOLE, DatasetVersion)

    def write(self, key: dg.AssetKey, partition: str, record: BaseModel) -> None:
        write_text(self.path(key, partition), record.model_dump_json(indent=2) + "\n")

    def path(self, key: dg.AssetKey, partition: str = WHOLE) -> Path:
        return self.places.records.joinpath(*key.path) / f"{partition}.json"


def _output_partitions(context: dg.OutputContext) -> list[str]:
    return list(context.asset_partition_keys) if context.has_asset_partitions else [WHOLE]
