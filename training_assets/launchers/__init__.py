"""Launchers: how a trainer command becomes processes. One module or folder a backend, one line here."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from trainer.contract.errors import ContractError, Problem
from training_assets.launchers.base import Handle, Launcher, LaunchSpec, Status
from training_assets.launchers.local import LocalLauncher

if TYPE_CHECKING:
    from training_assets.profiles import Profile

Factory = Callable[["Profile"], Launcher]


def _cloud(module: str, name: str) -> Factory:
    """Imported when it is used: the clients of the clouds take their time."""

    def factory(profile: "Profile") -> Launcher:
        launcher: Launcher = getattr(import_module(f"training_assets.launchers.{module}.launcher"), name).of(profile)
        return launcher

    return factory


LAUNCHERS: dict[str, Factory] = {
    "local": lambda profile: LocalLauncher(network_interface=profile.network_interface),
    "ecs": _cloud("ecs", "EcsLauncher"),
    "eks": _cloud("eks", "EksLauncher"),
    "sagemaker": _cloud("sagemaker", "SageMakerLauncher"),
}

__all__ = ["LAUNCHERS", "Handle", "LaunchSpec", "Launcher", "LocalLauncher", "Status", "launcher_for"]


def launcher_for(profile: "Profile") -> Launcher:
    """A new launcher, as ``profile`` has it.

    Raises:
        ContractError: there is none of this name, or the profile does not say what it must know.
    """
    if profile.launcher not in LAUNCHERS:
        problem = Problem(
            f"profile {profile.name}", f"'{profile.launcher}'", f"one of {sorted(LAUNCHERS)}", field="launcher"
        )
        raise ContractError("no such launcher", [problem])
    return LAUNCHERS[profile.launcher](profile)
