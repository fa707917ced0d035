"""Checkpoints on disk: complete or not there, written while the training goes on.

``checkpoints/step-00000050-epoch-0001/`` holds the tensors as torch.distributed.checkpoint lays them out
(``__<rank>_<n>.distcp``, ``.metadata``), ``state.json`` with all that is no tensor, and, written last, ``COMPLETE``
with the sha256 of each file. All ranks write into it: the run directory lies on storage that they share.
``best.pt`` beside them is the best model so far with its recipe: what is evaluated, exported and released. Each
checkpoint holds the one of its moment, so that it is whole on a host that has nothing else.
"""

import json
import shutil
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load as load_state
from torch.distributed.checkpoint.state_dict_saver import save as save_state

from trainer.contract.files import atomic_open, sync_directory, write_json, write_text
from trainer.engine.checkpoint_files import (
    BEST,
    MARKER,
    PARTIAL,
    STATE,
    complete_checkpoints,
    damaged_files,
    described,
    leftovers,
    passing,
    remove,
)
from trainer.engine.parallel import Ranks
from trainer.engine.safe_reader import SafeReader

Tensors = dict[str, torch.Tensor]

# One rank alone is what it says on each save and load.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


class Checkpointer:
    """Saves to and restores from one run directory; every rank has one and calls it at the same points.

    ``save`` returns at once. The tensors are copied while the next forward and backward pass runs: whoever is about
    to change one calls :meth:`wait_for_copy` first. Files are written by a thread behind that.

    ``keep_last`` checkpoints are kept, and each whose step ``keep_every`` divides.
    """

    def __init__(self, run_dir: Path, ranks: Ranks, keep_last: int, keep_every: int | None = None) -> None:
        self.run_dir, self.root, self.ranks = run_dir, run_dir / "checkpoints", ranks
        self.keep_last, self.keep_every = keep_last, keep_every
        cuda = ranks.device.type == "cuda"
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=cuda, use_shared_memory=False, use_async_staging=True, use_non_blocking_copy=cuda
            )
        )
        # Its collectives run in the writing thread, beside those of the training: a group of their own.
        self._group = ranks.new_host_group()
        self._copy: Future[Tensors] | None = None
        self._saved: str | None = None
        self._writing: _Background | None = None
        if ranks.leads:
            for leftover in leftovers(self.root):
                shutil.rmtree(leftover)
        ranks.barrier()

    def save(self, name: str, tensors: Tensors, document: dict[str, Any]) -> None:
        """Begin to write the checkpoint ``name``; one that is still being written is waited for.

        The one that was saved last stays as it is when asked for again: it is of the same moment, and to replace it
        would leave none for a while.

        ``tensors``: of this rank, shards included; those that several ranks have are the same on all of them.
        ``document``: the leader's is written.
        """
        self.wait()
        if name == self._saved:
            return
        self._saved = name
        if self.ranks.device.type == "cuda":
            # The copying stream does not know of the optimizer's kernels that may still be queued.
            torch.cuda.current_stream().synchronize()
        if self.ranks.leads:
            _link(self.run_dir / BEST, self.root / f"{name}{PARTIAL}" / BEST)
        copy = self._stager.stage(tensors)
        assert isinstance(copy, Future)
        self._copy = copy
        # Now: what the document refers to goes on changing while the thread writes.
        text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        self._writing = _Background(lambda: self._write(name, copy.result(), text))

    def wait_for_copy(self) -> None:
        """Return once the tensors given to :meth:`save` may change."""
        if self._copy is not None:
            self._copy.result()
            self._copy = None

    def wait(self) -> None:
        """Return once everything saved is complete on disk; raises what went wrong there."""
        self.wait_for_copy()
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        self.wait()
        self._stager.close()

    def _write(self, name: str, tensors: Tensors, document: str) -> None:
        partial = self.root / f"{name}{PARTIAL}"
        alone = self.ranks.world_size == 1
        writer = FileSystemWriter(partial, single_file_per_rank=True, sync_files=True, thread_count=1)
        save_state(tensors, storage_writer=writer, process_group=self._group, no_dist=alone)
        own = {path.name: described(path) for path in partial.glob(f"__{self.ranks.rank}_*")}
        parts = self._gather(own)
        if self.ranks.leads:
            write_text(partial / STATE, document)
            own_files = [path for path in (partial / STATE, partial / ".metadata", partial / BEST) if path.exists()]
            files = {path.name: described(path) for path in own_files}
            for part in parts:
                files |= part
            self._complete(partial, self.root / name, files)

    def _gather(self, value: dict[str, Any]) -> list[dict[str, Any]]:
        if self._group is None:
            return [value]
        values: list[Any] = [None] * self.ranks.world_size
        torch.distributed.all_gather_object(values, value, group=self._group)
        return values

    def _complete(self, partial: Path, directory: Path, files: dict[str, Any]) -> None:
        if directory.exists():
            remove(directory)
        sync_directory(partial)
        partial.rename(directory)
        write_json(directory / MARKER, {"files": files})
        sync_directory(self.root)
        for old in passing([path.name for path in self.complete()], self.keep_last, self.keep_every):
            remove(self.root / old)

    def complete(self) -> list[Path]:
        """The finished checkpoints, the oldest first."""
        return complete_checkpoints(self.root)

    def latest(self) -> Path | None:
        """The newest checkpoint whose files are what its marker says, the same on all ranks; None without one.

        A damaged one is named on standard output and the one before it is used.
        """
        candidates = self.ranks.gather([path.name for path in self.complete()])[0]
        for place, name in reversed([*enumerate(candidates)]):
            # Each rank reads its share of the files.
            share = slice(self.ranks.rank, None, self.ranks.world_size)
            damage = [one for part in self.ranks.gather(damaged_files(self.root / name, share)) for one in part]
            if not damage:
                return self.root / name
            if self.ranks.leads:
                instead = "using the one before it" if place else "there is none before it"
                print(f"checkpoint {self.root / name} is damaged ({'; '.join(damage)}): {instead}", flush=True)
        return None

    def document(self, directory: Path) -> dict[str, Any]:
        """What was no tensor in the checkpoint ``directory``."""
        value: dict[str, Any] = json.loads((directory / STATE).read_text())
        return value

    def load(self, directory: Path, tensors: Tensors) -> None:
        """Read the checkpoint into ``tensors``, in place; what was sharded otherwise is cut anew."""
        if self.ranks.leads:
            _link(directory / BEST, self.run_dir / BEST)
        alone = self.ranks.world_size == 1
        load_state(tensors, storage_reader=SafeReader(directory), process_group=self._group, no_dist=alone)

    def save_best(self, state: dict[str, Any]) -> None:
        """Write ``best.pt``, at once."""
        with atomic_open(self.run_dir / BEST) as stream:
            torch.save(state, stream)


def _link(source: Path, target: Path) -> None:
    """Have ``target`` be the file ``source``, if there is one; either may be replaced later without the other."""
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.link")
        temporary.unlink(missing_ok=True)
        try:
            temporary.hardlink_to(source)
        except OSError:  # a file system without links
            shutil.copyfile(source, temporary)
        temporary.replace(target)


class _Background:
    """One call in a thread that does not keep a dying process alive."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="checkpoint writer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error

    def result(self) -> None:
        self._thread.join()
        if self._error is not None:
            raise self._error
