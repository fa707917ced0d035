import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, MetadataIndex

from trainer.engine.safe_reader import SafeReader

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


class Order:
    """Makes the directory ``executed`` when it is unpickled freely."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.fixture
def checkpoint(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    dcp.save({"weight": torch.arange(4.0)}, storage_writer=dcp.FileSystemWriter(tmp_path), no_dist=True)
    return tmp_path


def metadata_with(checkpoint: Path, change: Callable[[Metadata], None]) -> None:
    metadata = pickle.loads((checkpoint / ".metadata").read_bytes())  # noqa: S301 - written a moment ago
    change(metadata)
    (checkpoint / ".metadata").write_bytes(pickle.dumps(metadata))


def load(checkpoint: Path, reader: type[dcp.FileSystemReader] = SafeReader) -> torch.Tensor:
    tensors = {"weight": torch.zeros(4)}
    dcp.load(tensors, storage_reader=reader(checkpoint), no_dist=True)
    return tensors["weight"]


def order_in_the_metadata(checkpoint: Path) -> None:
    def change(metadata: Metadata) -> None:
        metadata.planner_data = Order()

    metadata_with(checkpoint, change)


def order_in_place_of_a_tensor(checkpoint: Path) -> None:
    stream = io.BytesIO()
    torch.save(Order(), stream)
    (checkpoint / "__0_0.distcp").write_bytes(stream.getvalue())

    def change(metadata: Metadata) -> None:
        metadata.state_dict_metadata["weight"] = BytesStorageMetadata()
        place = _StorageInfo("__0_0.distcp", 0, len(stream.getvalue()))
        metadata.storage_data = {MetadataIndex("weight"): place}

    metadata_with(checkpoint, change)


def test_tensors_are_read(checkpoint):
    assert torch.equal(load(checkpoint), torch.arange(4.0))


@pytest.mark.parametrize("forge", [order_in_the_metadata, order_in_place_of_a_tensor])
def test_a_forged_checkpoint_is_refused_and_executes_nothing(checkpoint, forge):
    forge(checkpoint)
    with pytest.raises(CheckpointException, match="must not refer to"):
        load(checkpoint)
    assert not Path("executed").exists()


@pytest.mark.parametrize("forge", [order_in_the_metadata, order_in_place_of_a_tensor])
def test_the_forgeries_do_execute_where_nobody_guards(checkpoint, forge):
    forge(checkpoint)
    load(checkpoint, dcp.FileSystemReader)
    assert Path("executed").is_dir()
