"""Reads checkpoints of torch.distributed.checkpoint without ever running what a pickle asks for."""

import pickle
from typing import Any

from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta

ALLOWED = {
    "torch.distributed.checkpoint.metadata": {
        # Not BytesStorageMetadata: torch unpickles such an entry freely, also where a tensor is asked for.
        "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
        "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch": {"Size", "device"},
    "torch.serialization": {"_get_layout"},
    "pathlib": {"PosixPath", "PurePosixPath"},
    "collections": {"OrderedDict"},
}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in ALLOWED.get(module, ()) or (module == "torch" and name in _dtypes()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a checkpoint's metadata must not refer to {module}.{name}")


def _dtypes() -> set[str]:
    import torch

    return {name for name, value in vars(torch).items() if isinstance(value, torch.dtype)}


class SafeReader(FileSystemReader):
    """torch's reader unpickles ``.metadata`` freely; this one knows the few classes that belong there.

    Tensors are read with ``weights_only=True`` by torch itself.
    """

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with self.fs.create_stream(self._get_metadata_path(kwargs.get("rank")), "rb") as stream:
            metadata: Metadata = _Unpickler(stream).load()
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata
