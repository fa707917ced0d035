"""Registries of others that are told what is in ours: one file each, one line here.

Ours is the source of truth: nothing is ever read back from them.
"""

from training_assets.profiles import Profile
from training_assets.stores.registries.base import Mirror, MirrorSink
from training_assets.stores.registries.sagemaker import SageMakerMirror
from training_assets.stores.registries.wandb import WandbMirror
from training_assets.stores.registry import Registry, registry_of

__all__ = ["Mirror", "MirrorSink", "SageMakerMirror", "WandbMirror", "mirrors_of"]


def mirrors_of(profile: Profile) -> list[MirrorSink]:
    """The registries that a profile names, as sinks of the outbox."""
    registry = registry_of(profile)
    return [MirrorSink(mirror, registry) for mirror in _mirrors(profile, registry)]


def _mirrors(profile: Profile, registry: Registry) -> list[Mirror]:
    mirrors: list[Mirror] = []
    for named in profile.registries:
        if named.sagemaker is not None:
            mirrors.append(SageMakerMirror(named.sagemaker, registry))
        if named.wandb is not None:
            mirrors.append(WandbMirror(named.wandb, registry))
    return mirrors
