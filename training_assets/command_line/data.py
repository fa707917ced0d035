"""``deliver`` and ``restore``."""

import argparse
from pathlib import Path

from trainer.contract.exit_codes import BAD_INPUT, FAILED
from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example


def _add_deliver(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="the delivery; it stays as it is")
    parser.add_argument("--name", metavar="NAME", help="its name in the inbox; default: that of DIR")


def _deliver(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.deliver import deliver

    return deliver(arguments.directory, arguments.name)


def _add_restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="DATASET_VERSION", help="its digest, or the first characters of it")
    parser.add_argument("out", type=Path, metavar="OUT", help="a directory that does not exist yet")


def _restore(arguments: argparse.Namespace) -> Answer:
    from training_assets.profiles import load_profile
    from training_assets.stores.dvc import DvcStore

    pin = DvcStore(load_profile().store).restore(arguments.version, arguments.out)
    said = f"restored {pin.version} (DVC {pin.dvc_hash}): {pin.files} files, {pin.bytes:,} bytes in {arguments.out}"
    document = {name: getattr(pin, name) for name in ("version", "dvc_hash", "files", "bytes")}
    return Answer({**document, "directory": arguments.out}, said)


DELIVER = Command(
    "deliver",
    "Check a whole delivery, and put it into the inbox, where the sensor sees it.",
    run=_deliver,
    add=_add_deliver,
    examples=(
        Example("deliver drops/2026-02-16", "all its problems in one report, before anything is copied"),
        Example("deliver /mnt/labels/week7 --name week-7", "under another name than its directory's"),
    ),
    exit_codes={
        BAD_INPUT: "the delivery is not in order, or another one has its name; nothing was delivered",
        FAILED: "the inbox cannot be reached",
    },
)
RESTORE = Command(
    "restore",
    "Bring a pinned dataset version back, byte for byte.",
    run=_restore,
    add=_add_restore,
    examples=(Example("restore 3f1c0a9b deliveries/restored", "the first characters of its digest are enough"),),
)
