"""Container images: how they are referred to, and the record of those that ``make image`` built.

An image is always referred to by its digest: a tag may point to another image tomorrow, a digest never does.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from trainer.contract.files import write_json
from trainer.contract.manifest import Sha256

PART = r"[a-z0-9]+([._-]+[a-z0-9]+)*"
REFERENCE = rf"^([a-z0-9][a-z0-9.-]*(:[0-9]{{1,5}})?/)?{PART}(/{PART})*@sha256:[0-9a-f]{{64}}$"
RECORD_FILE = "images.json"

ImageReference = Annotated[str, Field(pattern=REFERENCE, description="repository@sha256:…, never a tag")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Images(_Model):
    """What a profile's launcher runs."""

    trainer: ImageReference


class BuiltImage(_Model):
    """One pushed image. ``revision`` is the commit that it was built from, ``sbom`` its file beside the record."""

    reference: ImageReference
    revision: str
    base: ImageReference
    lock_sha256: Sha256
    sbom: str
    sbom_sha256: Sha256
    built_at: AwareDatetime


class BuiltImages(_Model):
    """``images.json``: the two images of one commit."""

    trainer: BuiltImage
    dagster: BuiltImage

    def write(self, directory: Path) -> Path:
        path = directory / RECORD_FILE
        write_json(path, self.model_dump(mode="json"))
        return path
