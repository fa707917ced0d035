"""A table that grows on disk and outlives its writer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.contract.files import atomic_open
from trainer.contract.telemetry import FINAL, JOURNAL, read_table


class Journal:
    """Appends rows of numbers to ``file`` (a path without suffix); a killed writer loses only what was not appended.

    ``close`` leaves a parquet file in the journal's place.
    """

    def __init__(self, file: Path, columns: Sequence[str], whole: Sequence[str] = ()) -> None:
        self.file = file
        self.path = file.with_name(file.name + JOURNAL)
        self.schema = pa.schema([(name, pa.int64() if name in whole else pa.float64()) for name in columns])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A journal is never written over: it would be the one thing left of an attempt.
        self._stream = open(self.path, "xb")  # noqa: SIM115
        self._writer = pa.ipc.new_stream(self._stream, self.schema)
        self._stream.flush()

    def append(self, rows: Sequence[Mapping[str, float | None]]) -> None:
        """Put ``rows`` on disk; a column that a row lacks is null."""
        if rows:
            columns = [_array([row.get(column.name) for row in rows], column.type) for column in self.schema]
            self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self.schema))
            self._stream.flush()

    def close(self) -> None:
        """Nothing more comes: write ``file.parquet`` and drop the journal."""
        self._writer.close()
        self._stream.close()
        table = read_table(self.file)
        with atomic_open(self.file.with_name(self.file.name + FINAL)) as stream:
            pq.write_table(self.schema.empty_table() if table is None else table, stream)
        self.path.unlink()


def _array(values: Sequence[float | None], kind: pa.DataType) -> pa.Array:
    # By its buffers: every other constructor imports pandas, for a second and in the middle of the training.
    known = np.packbits([value is not None for value in values], bitorder="little")
    dtype = np.int64 if kind == pa.int64() else np.float64
    numbers = np.array([0 if value is None else value for value in values], dtype)
    return pa.Array.from_buffers(kind, len(values), [pa.py_buffer(known), pa.py_buffer(numbers)])
