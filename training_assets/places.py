"""Where everything lies below the store. Only paths: nothing here reads or writes."""

from dataclasses import dataclass
from pathlib import Path

from trainer.contract.names import run_directory


@dataclass(frozen=True)
class Places:
    """The directories below one store. Records keep paths relative to ``root``, so a store can be moved."""

    root: Path
    checkpoint_store: str | None = None
    """A URI where running trainings copy their checkpoints to; None: nowhere."""

    @property
    def shards(self) -> Path:
        return self.root / "shards"

    @property
    def records(self) -> Path:
        return self.root / "records"

    def dataset(self, version: str) -> Path:
        return self.root / "datasets" / version

    @property
    def fetched(self) -> Path:
        """Copies of what lies in an inbox or an archive that is not on this machine."""
        return self.root / "fetched"

    def launch(self, what: str, run_id: str) -> Path:
        """Scratch and logs of a launched command that leaves its results elsewhere."""
        return self.root / "launches" / f"{what}-{run_id}"

    def training_set(self, recipe: str, window: str, digest: str) -> Path:
        return self.root / "training_sets" / recipe / f"{window}-{digest[:8]}"

    def slice_evaluation(self, recipe: str, name: str) -> Path:
        return self.root / "slice_evals" / recipe / name

    def evaluation(self, project: str, name: str) -> Path:
        """Of a registered version, asked for by a person."""
        return self.root / "evaluations" / project / name

    def run(self, run_name: str, run_id: str) -> Path:
        return self.root / "runs" / run_directory(run_name, run_id)

    def trial_run(self, tune: str, cv: str, run_name: str, run_id: str) -> Path:
        return self.root / "runs" / run_directory(run_name, run_id, cv, tune)

    def relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def absolute(self, relative: str) -> Path:
        return self.root / relative
