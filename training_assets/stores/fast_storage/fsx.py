"""FSx for Lustre: directories linked to S3 prefixes, what lies there brought, exported and released by FSx itself."""

from collections.abc import Mapping
from pathlib import Path

from trainer.contract.errors import Problem
from training_assets.profiles.staging import FsxStaging, Link
from training_assets.stores.fast_storage.associations import Associations
from training_assets.stores.fast_storage.aws import asking, client, objects_below
from training_assets.stores.fast_storage.base import Progress, StagingError, lacking, refuse_lacking, silent
from training_assets.stores.fast_storage.preload import preload
from training_assets.stores.fast_storage.tasks import EXPORT, IMPORT, RELEASE, Tasks

REPORTS = ".task-reports"
"""Below each link's URI; no delivery begins with a dot."""


class Fsx:
    """The file system of the profile, mounted on this machine."""

    def __init__(self, settings: FsxStaging, poll_seconds: float = 5.0) -> None:
        self.settings, self.poll_seconds = settings, poll_seconds
        self._tasks = Tasks(settings.file_system_id, poll_seconds)
        self._associations = Associations(settings.file_system_id, poll_seconds)

    def brings(self, source: str) -> bool:
        return any(link.holds(source) for link in self.settings.links)

    def bring(self, source: str, progress: Progress = silent) -> Path:
        link = next(link for link in self.settings.links if link.holds(source))
        self._ready(link, progress)
        wanted, place = objects_below(source), link.place_of(source)
        self._import(link, source, wanted, progress)
        preload(place, wanted, progress, self.poll_seconds)
        return place

    def export(self, place: Path, progress: Progress = silent) -> str | None:
        link = next((link for link in self.settings.links if link.covers(place)), None)
        if link is None:
            return None
        self._ready(link, progress)
        self._tasks.run(EXPORT, [self.settings.relative(place)], f"{link.uri}/{REPORTS}", progress)
        return link.uri_of(place)

    def release(self, unused_days: int, progress: Progress = silent) -> None:
        """FSx counts from the last access or change, and leaves what was not exported or imported."""
        paths = sorted(self.settings.relative(link.directory) for link in self.settings.links)
        unused = {"DurationSinceLastAccess": {"Unit": "DAYS", "Value": unused_days}}
        self._tasks.run(RELEASE, paths, None, progress, ReleaseConfiguration=unused)

    def _import(self, link: Link, source: str, wanted: Mapping[str, int], progress: Progress) -> None:
        """Import the metadata of ``source``: the files are there then, and their content is where it is needed.

        A task that was under way already may have begun before the last objects came: then there is another one.
        """
        place = link.place_of(source)
        for _ in range(2):
            self._tasks.run(IMPORT, [f"{source.rstrip('/')}/"], f"{link.uri}/{REPORTS}", progress)
            if not (missing := lacking(wanted, place)):
                return
        refuse_lacking(source, missing, place)

    def _ready(self, link: Link, progress: Progress) -> None:
        if not self.settings.mount.is_dir():
            problem = Problem(
                "profile", f"no directory {self.settings.mount}", "the file system", field="staging.mount"
            )
            raise StagingError("the fast storage is not mounted here", [problem], "Mount it on this machine.")
        _refuse_unfit(self.settings)
        path = "/" + self.settings.relative(link.directory).removeprefix("/")
        self._associations.ensure(link, path, progress)


def _refuse_unfit(settings: FsxStaging) -> None:
    """
    Raises:
        StagingError: there is no such file system, it is not usable, or not what the profile says it is.
    """
    name = settings.file_system_id
    with asking(f"fsx:DescribeFileSystems {name}"):
        (found,) = client("fsx").describe_file_systems(FileSystemIds=[name])["FileSystems"]
    lustre = found.get("LustreConfiguration", {})
    seen = {
        "FileSystemType": (found["FileSystemType"], "LUSTRE"),
        "Lifecycle": (found.get("Lifecycle", "AVAILABLE"), "AVAILABLE"),
        "MountName": (lustre.get("MountName", settings.mount_name), settings.mount_name),
    }
    if wrong := [Problem(name, is_, wanted, field=field) for field, (is_, wanted) in seen.items() if is_ != wanted]:
        said = found.get("FailureDetails", {}).get("Message", "")
        raise StagingError("the FSx file system cannot be used", wrong, said or "Correct the profile, or mend it.")
