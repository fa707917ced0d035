"""Sensors: what starts by itself. What a run does is in ``assets/``, how it is asked for in ``control.py``.

Each tick can be repeated: what it asks for has a run key, and Dagster starts a key once. Its cursor is a mark up to
which everything was seen, whatever became of it; so no tick grows with what is known.
"""

from collections.abc import Mapping, Sequence

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from trainer.contract.train_config import TrainConfig
from training_assets.profiles import Profile
from training_assets.sensors.deliveries import delivery_sensor
from training_assets.sensors.follow_up import follow_up_sensor
from training_assets.sensors.slices import slice_sensor
from training_assets.sensors.sweeps import sweep_sensor


def sensors(
    recipes: Mapping[str, TrainConfig],
    profile: Profile,
    following: Sequence[UnresolvedAssetJobDefinition],
    tuning: Sequence[UnresolvedAssetJobDefinition],
) -> list[dg.SensorDefinition]:
    """``following`` are the jobs that may come after another run, ``tuning`` those of sweeps."""
    seconds = profile.sensor_seconds
    return [
        delivery_sensor(seconds),
        slice_sensor(recipes, seconds),
        follow_up_sensor(recipes, following, seconds),
        *([sweep_sensor(tuning, seconds)] if tuning else []),
    ]
