"""Bringing data onto the fast storage that trainings read, and keeping what they write. One file a way of doing it.

``docs/staging.md`` says what each of them promises, and what could not be tried here.
"""

from training_assets.places import Places
from training_assets.profiles import Profile
from training_assets.profiles.staging import DataSyncStaging, DvcStaging, FsxStaging
from training_assets.stores.dvc import DvcStore
from training_assets.stores.fast_storage.base import Amount, FastStorage, InPlace, Progress, StorageUnavailable, silent
from training_assets.stores.fast_storage.datasync import DataSync
from training_assets.stores.fast_storage.fsx import Fsx
from training_assets.stores.fast_storage.pulled import PulledWithDvc

__all__ = ["Amount", "FastStorage", "InPlace", "Progress", "StorageUnavailable", "fast_storage_of", "silent"]


def fast_storage_of(profile: Profile, places: Places, dvc: DvcStore) -> FastStorage:
    """What the profile's ``staging`` asks for; nothing is reached yet."""
    match profile.staging:
        case FsxStaging() as settings:
            return Fsx(settings)
        case DataSyncStaging() as settings:
            return DataSync(settings)
        case DvcStaging():
            return PulledWithDvc(dvc, places.root / "staged")
    return InPlace()
