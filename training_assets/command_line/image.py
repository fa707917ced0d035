"""``image``."""

import argparse
from pathlib import Path

from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example

FIELDS = ("build_base", "registry", "push", "out", "tool", "pip_config")
DIGEST = "REPOSITORY@sha256:…"


def _add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", required=True, metavar=DIGEST, help="what the trainer's image starts from")
    parser.add_argument("--dagster-base", metavar=DIGEST, help="what Dagster's starts from; default: as the trainer's")
    parser.add_argument("--build-base", metavar=DIGEST, help="what pip runs in; default: the base of each image")
    parser.add_argument("--no-push", dest="push", action="store_false", help="build only; no digest is recorded")
    parser.add_argument("--registry", metavar="HOST", help="default: the one that ECR names for these credentials")
    out = "for images.json and the bills of materials; default: var/images"
    parser.add_argument("--out", type=Path, default=Path("var/images"), metavar="DIR", help=out)
    parser.add_argument("--tool", choices=("docker", "podman"), help="default: the first of them that works")
    parser.add_argument("--pip-config", type=Path, metavar="FILE", help="pip's configuration, as a secret of the build")
    passed = "passed on to the build: --build-option=--network=host; repeat for more"
    parser.add_argument("--build-option", dest="options", action="append", default=[], metavar="OPTION", help=passed)


def _image(arguments: argparse.Namespace) -> Answer:
    from training_assets.commands.image import DAGSTER, TRAINER, Asked, image

    return image(
        Asked(
            **{name: getattr(arguments, name) for name in FIELDS},
            bases={TRAINER: arguments.base, DAGSTER: arguments.dagster_base or arguments.base},
            options=tuple(arguments.options),
        )
    )


IMAGE = Command(
    "image",
    "Build both images from the last commit, push them to ECR, record their digests.",
    run=_image,
    add=_add,
    examples=(
        Example("image --base python@sha256:… --no-push", "build them on this machine, and nothing else"),
        Example("image --base python@sha256:…", "build and push; var/images/images.json has the digests"),
    ),
)
