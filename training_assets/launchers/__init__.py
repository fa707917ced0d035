"""Launchers: how a trainer command becomes processes. One file a backend, one line here."""

from collections.abc import Callable

from training_assets.launchers.base import Handle, Launcher, LaunchSpec, Status
from training_assets.launchers.local import LocalLauncher

LAUNCHERS: dict[str, Callable[..., Launcher]] = {"local": LocalLauncher}

__all__ = ["LAUNCHERS", "Handle", "LaunchSpec", "Launcher", "LocalLauncher", "Status", "launcher_named"]


def launcher_named(name: str, network_interface: str | None = None) -> Launcher:
    """A new launcher, whose ranks talk over ``network_interface`` if one is given.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in LAUNCHERS:
        raise ValueError(f"profile field 'launcher': found '{name}', expected one of {sorted(LAUNCHERS)}")
    return LAUNCHERS[name](network_interface=network_interface)
