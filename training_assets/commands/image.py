"""``image``: build the trainer's and Dagster's images from the last commit, push them to ECR, record their digests."""

import base64
import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import sha256_of
from trainer.terminal.answers import Answer
from training_assets.container_tool import ContainerTool, container_tool
from training_assets.images import BuiltImage, BuiltImages, ImageReference
from training_assets.in_process import say
from training_assets.profiles import REPOSITORY
from training_assets.stores.source import LOCK_FILE, code_version

TRAINER, DAGSTER = "trainer", "dagster"
REPOSITORIES = "training-assets"
"""In ECR: ``training-assets/trainer`` and ``training-assets/dagster``."""
SBOM_IN_IMAGE = "/app/sbom.cdx.json"
REVISION_LENGTH = 12
GIT_SECONDS = 60


@dataclass(frozen=True)
class Asked:
    """What to build from what. ``bases`` by image; ``build_base`` has pip's ``venv``, None: the base has.

    ``registry`` is the host that is pushed to, None: the one that ECR names. ``options`` are the build's own.
    """

    bases: dict[str, str]
    build_base: str | None
    registry: str | None
    push: bool
    out: Path
    tool: str | None
    pip_config: Path | None
    options: tuple[str, ...]


def image(asked: Asked) -> Answer:
    """Build both images; with ``push``, push them and write ``images.json`` with their digests.

    Raises:
        ContractError: a base that is not named by digest, no commit, no container tool, or one of its commands failed.
    """
    _check_bases(asked)
    revision = code_version(REPOSITORY).git_sha
    if revision is None:
        raise ContractError("images are built from a commit", [Problem(str(REPOSITORY), "no git checkout", "one")])
    tool = container_tool(asked.tool)
    with _source(revision) as source:
        building = _Building(asked, revision, source)
        if not asked.push:
            for name in (TRAINER, DAGSTER):
                building.build(tool, name, f"{REPOSITORIES}/{name}:{building.tag}", trainer_image="")
            return Answer({"tag": building.tag, "revision": revision, "pushed": None})
        record = building.build_and_push(tool)
    path = record.write(asked.out)
    say(f"recorded in {path}; profiles find the trainer's image in the environment of Dagster's, and elsewhere by")
    say(f"TRAINING_ASSETS_TRAINER_IMAGE={record.trainer.reference}")
    return Answer({"tag": building.tag, "revision": revision, "pushed": record, "record": path})


class _Building:
    def __init__(self, asked: Asked, revision: str, source: Path) -> None:
        self.asked, self.revision, self.source = asked, revision, source
        self.built_at = datetime.now(UTC)
        # Another tag for each build, so that repositories can refuse to have tags moved.
        self.tag = f"{revision[:REVISION_LENGTH]}-{self.built_at:%Y%m%d%H%M%S}"

    def build_and_push(self, tool: ContainerTool) -> BuiltImages:
        import boto3

        ecr = boto3.client("ecr")
        host, user, password = _login(ecr)
        host = self.asked.registry or host
        with tool.logged_in(host, user, password) as allowed:
            trainer = self._pushed(allowed, ecr, host, TRAINER, trainer_image="")
            dagster = self._pushed(allowed, ecr, host, DAGSTER, trainer_image=trainer.reference)
        return BuiltImages(trainer=trainer, dagster=dagster)

    def _pushed(self, tool: ContainerTool, ecr: Any, host: str, name: str, trainer_image: str) -> BuiltImage:
        repository = f"{REPOSITORIES}/{name}"
        tagged = f"{host}/{repository}:{self.tag}"
        sbom = self.build(tool, name, tagged, trainer_image)
        say(f"pushing {tagged}")
        tool.push(tagged)
        return BuiltImage(
            reference=f"{host}/{repository}@{_digest(ecr, repository, self.tag)}",
            revision=self.revision,
            base=self.asked.bases[name],
            lock_sha256=sha256_of(self.source / LOCK_FILE),
            sbom=sbom.name,
            sbom_sha256=sha256_of(sbom),
            built_at=self.built_at,
        )

    def build(self, tool: ContainerTool, name: str, tag: str, trainer_image: str) -> Path:
        """The image ``name`` as ``tag``; returns its bill of materials, beside the record."""
        base = self.asked.bases[name]
        say(f"building {tag} from {base} with {tool.name}")
        arguments = {"BASE": base, "BUILD_BASE": self.asked.build_base or base, "REVISION": self.revision}
        if name == DAGSTER:
            arguments["TRAINER_IMAGE"] = trainer_image
        secret = (f"--secret=id=pip,src={self.asked.pip_config.absolute()}",) if self.asked.pip_config else ()
        dockerfile = self.source / "deploy" / "docker" / f"{name}.Dockerfile"
        tool.build(dockerfile, self.source, tag, arguments, (*secret, *self.asked.options))
        sbom = self.asked.out / f"{name}.cdx.json"
        tool.copy_out(tag, SBOM_IN_IMAGE, sbom)
        return sbom


def _check_bases(asked: Asked) -> None:
    named = {**asked.bases, "build": asked.build_base}
    problems = []
    for name, base in named.items():
        try:
            TypeAdapter(ImageReference | None).validate_python(base)
        except ValidationError:
            problems.append(Problem(f"base of {name}", f"'{base}'", "repository@sha256:…; a tag may move"))
    if problems:
        raise ContractError("a base image must be named by its digest", problems)


@contextmanager
def _source(revision: str) -> Iterator[Path]:
    """The files of the commit and no others: nothing that lies about in the checkout gets into an image."""
    command = ["git", "-C", str(REPOSITORY), "archive", "--format=tar", revision]
    done = subprocess.run(command, capture_output=True, check=True, timeout=GIT_SECONDS)  # noqa: S603
    with TemporaryDirectory() as directory:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(directory, filter="data")
        yield Path(directory)


def _login(ecr: Any) -> tuple[str, str, str]:
    """Host, user and password of the account's registry; the password is good for 12 hours."""
    (found,) = ecr.get_authorization_token()["authorizationData"]
    user, _, password = base64.b64decode(found["authorizationToken"]).decode().partition(":")
    return urlsplit(found["proxyEndpoint"]).netloc, user, password


def _digest(ecr: Any, repository: str, tag: str) -> str:
    """The digest that ECR gave to the pushed image: that of the manifest, which pushing may have changed."""
    details = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])["imageDetails"]
    digest: str = details[0]["imageDigest"]
    return digest
