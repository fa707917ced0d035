"""Dataset versions pinned with DVC, through its command line: it lives in a virtual environment of its own.

Below the store::

    dvc/                               a DVC repository without version control; holds no data
    dvc-remote/                        its default remote: every file of every pinned version, once
    datasets/<version>/delivery.dvc    what pins one version; ``dvc pull`` on it brings the version back
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from trainer.contract.errors import ContractError, Problem
from trainer.contract.files import write_bytes, write_text
from trainer.contract.yaml_io import read_yaml
from training_assets.profiles import REPOSITORY
from training_assets.stores.exclusive import locked

EXECUTABLE = "TRAINING_ASSETS_DVC"
NAME = "delivery"
PIN_FILE = f"{NAME}.dvc"
# `verify`: DVC trusts a remote, and without it restores a damaged file without a word.
SETTINGS = """\
[core]
    no_scm = True
    analytics = false
    check_update = false
    remote = store
['remote "store"']
    url = {remote}
    verify = true
"""
SHOWN_LINES = 12
OURS_OR_MISLEADING = ("DVC_", "PYTHONPATH", "PYTHONHOME")


class DvcError(ContractError):
    """DVC is not there, or did not do what it was asked; holds its last lines."""


@dataclass(frozen=True)
class Pin:
    """A pinned version: DVC's md5 of the whole directory (``….dir``), and how many files and bytes it has."""

    version: str
    dvc_hash: str
    files: int
    bytes: int
    path: Path


def default_executable(environment: Mapping[str, str] = os.environ) -> Path:
    """What ``make setup`` installs, or ``TRAINING_ASSETS_DVC``."""
    given = environment.get(EXECUTABLE)
    return Path(given).expanduser().absolute() if given else REPOSITORY / ".venv-dvc" / "bin" / "dvc"


class DvcStore:
    """The dataset versions of the store at ``root``. Several processes may use one store at the same time."""

    def __init__(self, root: Path, executable: Path | None = None) -> None:
        self.root = root.absolute()
        self.executable = executable or default_executable()

    def pin(self, delivery_root: Path, version: str) -> Pin:
        """Put every file of ``delivery_root`` into the remote and keep its ``.dvc`` file under ``version``.

        What is pinned already is not read again. Waits while another process pins into the same store.

        Raises:
            DvcError: no DVC, or DVC failed, or the directory holds what DVC would leave out.
        """
        record = self.record(version)
        with locked(self._repository / ".lock"):
            if record.is_file() and self._is_stored(pin := read_pin(record)):
                return pin
            self._prepare()
            with TemporaryDirectory(prefix="pin-", dir=self._repository) as scratch:
                self._add(delivery_root.absolute(), Path(scratch))
                write_bytes(record, (Path(scratch) / PIN_FILE).read_bytes())
            return read_pin(record)

    def restore(self, version: str, out: Path) -> Pin:
        """``dvc pull`` the pinned ``version`` into ``out``, which must not exist yet or be empty.

        Raises:
            DvcError: no DVC, or the remote lost files of the version or holds others than were pinned.
            ContractError: no such version, or ``out`` has something in it.
        """
        pin = self.pinned(version)
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise ContractError(
                "nothing is overwritten", [Problem(str(out), "something", "an empty or a new directory")]
            )
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        # A repository of its own, beside `out`: no lock, no cache to share, and the last step is a rename.
        with TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as scratch:
            self._initialise(Path(scratch))
            shutil.copyfile(pin.path, Path(scratch) / PIN_FILE)
            self._dvc(Path(scratch), "pull", "--quiet", PIN_FILE)
            (Path(scratch) / NAME).replace(out)
        return pin

    def pinned(self, version: str) -> Pin:
        """The pin of ``version``, which may be given by its first characters.

        Raises:
            ContractError: there is none, or more than one begins like this.
        """
        found = [known for known in self.versions() if known.startswith(version)]
        if version in found:
            found = [version]
        if len(found) != 1 or not version:
            expected = (
                f"one of {', '.join(known[:16] for known in found or self.versions()) or '(nothing is pinned yet)'}"
            )
            raise ContractError("no such dataset version", [Problem("version", f"'{version}'", expected)])
        return read_pin(self.record(found[0]))

    def versions(self) -> list[str]:
        return sorted(path.parent.name for path in (self.root / "datasets").glob(f"*/{PIN_FILE}"))

    def record(self, version: str) -> Path:
        if not version or Path(version).name != version or version.startswith("."):
            raise ContractError("no dataset version", [Problem("version", f"'{version}'", "a name of one part")])
        return self.root / "datasets" / version / PIN_FILE

    @property
    def _repository(self) -> Path:
        return self.root / "dvc"

    @property
    def _remote(self) -> Path:
        return self.root / "dvc-remote"

    def _prepare(self) -> None:
        """Make the repository, and take away what killed pins left. Only called under the lock."""
        settings = self._repository / ".dvc" / "config"
        if not settings.is_file() or "remote" not in settings.read_text():
            self._initialise(self._repository)
        for left in self._repository.glob("pin-*"):
            shutil.rmtree(left)

    def _initialise(self, directory: Path) -> None:
        # Left half-made by a killed process: `init --force` begins anew.
        self._dvc(directory, "init", "--no-scm", "--force", "--quiet")
        # Relative to `.dvc`, so that the store can be moved.
        remote = os.path.relpath(self._remote, directory / ".dvc")
        write_text(directory / ".dvc" / "config", SETTINGS.format(remote=Path(remote).as_posix()))

    def _add(self, delivery: Path, scratch: Path) -> None:
        expected = sum(1 for _ in _files(delivery))
        self._dvc(scratch, "add", str(delivery), "--to-remote", "--out", NAME)
        # DVC 3.67 leaves a second copy of each file in a local remote; nobody else writes here, we hold the lock.
        for left in self._remote.glob("files/md5/.*.tmp"):
            left.unlink()
        found = read_pin(scratch / PIN_FILE).files
        if found != expected:
            problem = Problem(str(delivery), f"{found} files pinned", f"{expected}, all files of the directory")
            raise DvcError("the delivery was not pinned", [problem], "Did it change meanwhile? Try again.")

    def _is_stored(self, pin: Pin) -> bool:
        """Whether the remote holds the version's list of files and each file that is on it."""
        listing = self._object(pin.dvc_hash)
        if not listing.is_file():
            return False
        return all(self._object(file["md5"]).is_file() for file in json.loads(listing.read_bytes()))

    def _object(self, md5: str) -> Path:
        return self._remote / "files" / "md5" / md5[:2] / md5[2:]

    def _dvc(self, directory: Path, *arguments: str) -> None:
        command = [str(self.executable), "--cd", str(directory), *arguments]
        try:
            done = subprocess.run(  # noqa: S603
                command, env=self._environment(directory), stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
        except OSError as error:
            problem = Problem(str(self.executable), error.strerror or str(error), "the dvc command")
            raise DvcError("DVC is not installed", [problem], f"Run `make setup`, or set {EXECUTABLE}.") from None
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines()[-SHOWN_LINES:]
            problem = Problem(f"dvc {arguments[0]}", f"exit code {done.returncode}", "0")
            raise DvcError("DVC failed", [problem], "\n".join(["It said:", *(f"  {line}" for line in lines)]))

    def _environment(self, directory: Path) -> dict[str, str]:
        """No telemetry, no settings of the user or the host, nothing kept outside the store."""
        private = self._repository / ".dvc" / "tmp" if directory.is_relative_to(self._repository) else directory
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS_OR_MISLEADING)}
        return {
            **kept,
            "DVC_NO_ANALYTICS": "1",
            "DO_NOT_TRACK": "1",
            "DVC_GLOBAL_CONFIG_DIR": str(private / "no-global-settings"),
            "DVC_SYSTEM_CONFIG_DIR": str(private / "no-system-settings"),
            "DVC_SITE_CACHE_DIR": str(private / "site"),
        }


def read_pin(path: Path) -> Pin:
    """What the ``.dvc`` file at ``path`` says."""
    out = read_yaml(path)["outs"][0]
    return Pin(path.parent.name, str(out["md5"]), int(out["nfiles"]), int(out["size"]), path)


def _files(delivery: Path) -> Iterator[Path]:
    """Every file below ``delivery``.

    Raises:
        DvcError: not a directory, or a link to a directory is in it, which DVC would leave out without a word.
    """
    if not delivery.is_dir():
        raise DvcError("nothing to pin", [Problem(str(delivery), "no directory", "a delivery")])
    for directory, names, files in os.walk(delivery.resolve()):
        links = [str(Path(directory) / name) for name in names if (Path(directory) / name).is_symlink()]
        if links:
            problems = [Problem(link, "a link to a directory", "a directory (DVC leaves links out)") for link in links]
            raise DvcError("the delivery cannot be pinned", problems, "Copy what the links point to.")
        yield from (Path(directory) / name for name in files)
