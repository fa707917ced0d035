"""The local Dagster instance: one home for the demo, the web page and the command line, so that all see the same."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from training_assets.profiles import REPOSITORY

if TYPE_CHECKING:
    import dagster as dg

HOME = REPOSITORY / "var" / "dagster_home"
SETTINGS = REPOSITORY / "deploy" / "dagster.yaml"
VARIABLE = "DAGSTER_HOME"


def prepare_home() -> Path:
    """Make the home of ``DAGSTER_HOME``, by default ``var/dagster_home``, with the settings of ``deploy/``."""
    home = Path(os.environ.setdefault(VARIABLE, str(HOME)))
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").is_file():
        shutil.copyfile(SETTINGS, home / "dagster.yaml")
    return home


def instance() -> "dg.DagsterInstance":
    import dagster as dg

    prepare_home()
    return dg.DagsterInstance.get()
