"""What the asset graph has to do with a run's experiment tracking: what it knows of it, and where it is to be seen.

The runs themselves are told of by the trainer (``trainer/tracking.py``).
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from trainer.contract.files import write_text
from trainer.contract.names import IDENTITY_FILE, read_identity
from trainer.contract.tracking import (
    PROVENANCE_FILE,
    Made,
    Provenance,
    append,
    is_tracked,
    offline_runs,
    run_url,
    sync_command,
)
from trainer.contract.train_config import read_config
from training_assets.records import TrainingSet
from training_assets.stores.source import CodeVersion

TIMEOUT_SECONDS = 180


def write_provenance(
    directory: Path, training_set: TrainingSet, code: CodeVersion, image: str | None, dataset_directory: Path
) -> None:
    """For the tracking of the run, or of the runs, in ``directory``."""
    dataset = training_set.dataset
    known = Provenance(
        dataset=dataset.version,
        dataset_dvc=dataset.dvc_hash,
        directory=str(dataset_directory),
        manifests=dataset.files,
        training_set=training_set.digest,
        window=training_set.window,
        windows=training_set.windows_found,
        mined_slices=training_set.slices,
        git_sha=code.git_sha,
        git_dirty=code.dirty,
        lock_sha256=code.lock_sha256,
        image=image or code.image_digest,
    )
    write_text(directory / PROVENANCE_FILE, known.model_dump_json(indent=2) + "\n")


def of_run(directory: Path) -> dict[str, Any]:
    """The run at W&B as metadata: its id and address, or where it is kept offline and what sends it."""
    if not is_tracked(directory) or not (directory / IDENTITY_FILE).is_file():
        return {}
    identity = read_identity(directory)
    config = read_config(directory / "train.yaml", environment={})
    url = run_url(config.tracking.entity, config.project, identity.id) if config.tracking.mode == "online" else None
    offline = offline_runs(directory)
    return {
        "wandb_run": identity.id,
        **({"wandb_url": dg.MetadataValue.url(url)} if url else {}),
        **({"wandb_offline": dg.MetadataValue.path(str(offline[-1]))} if offline else {}),
        **({"wandb_sync": dg.MetadataValue.md(f"`{sync_command(directory)}`")} if offline else {}),
    }


def tell_card(directory: Path, card: Path, warn: Callable[[str], None]) -> None:
    """Bring the model card to the run of ``directory``, if that is tracked. What goes wrong is a warning."""
    if not is_tracked(directory):
        return
    try:
        append(directory, Made(what="card", path=str(card.absolute())))
        finished = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "trainer", "track", str(directory)],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        warn(f"experiment tracking was not told of the model card: {error}")
        return
    if finished.returncode:
        warn(f"experiment tracking was not told of the model card: {finished.stdout[-500:]}{finished.stderr[-500:]}")
