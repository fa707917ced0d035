"""Terraform and the emulator of AWS, where this machine has them."""

import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from trainer.contract.ports import free_port

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
EMULATORS = ROOT / ".venv-emulators" / "bin" / "python"
PROVIDER = "registry.terraform.io/hashicorp/aws"
PLUGINS = "TERRAFORM_PLUGIN_DIR"
"""The variable that names a directory with the AWS provider, laid out as Terraform's mirrors are. Without it the places
are searched that Terraform itself looks into, and every directory of ``/opt``."""

CREDENTIALS = {
    "region_name": "us-east-1",
    "aws_access_key_id": "123456789012",
    "aws_secret_access_key": "none",
}
"""A client's; the emulator takes the key's id for the account."""
ANYBODY = {"AWS_ACCESS_KEY_ID": "123456789012", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}


def plugins() -> Path | None:
    home = Path.home() / ".terraform.d" / "plugins"
    implied = [home, Path("/usr/local/share/terraform/plugins"), Path("/usr/share/terraform/plugins")]
    named = [Path(os.environ[PLUGINS])] if PLUGINS in os.environ else [*implied, *Path("/opt").glob("*")]
    return next((place for place in named if (place / PROVIDER).is_dir()), None)


@dataclass(frozen=True)
class Terraform:
    """Terraform on a copy of ``deploy``: nothing is left in the working tree, nothing comes from a registry."""

    deploy: Path
    plugins: Path
    environment: Mapping[str, str]

    def __call__(self, directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["terraform", f"-chdir={directory}", *arguments],
            env={**os.environ, **self.environment, **variables},
            capture_output=True,
            text=True,
        )

    def must(self, directory: Path, *arguments: str, **variables: str) -> str:
        done = self(directory, *arguments, **variables)
        assert done.returncode == 0, f"terraform {' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def init(self, directory: Path) -> None:
        self.must(directory, "init", "-input=false", "-no-color", f"-plugin-dir={self.plugins}")

    def root(self, name: str) -> Path:
        """A root whose state is a file beside it, and whose buckets are paths as the emulator wants them."""
        place = self.deploy / "terraform" / "roots" / name
        (place / "here_override.tf").write_text(
            'terraform {\n  backend "local" {}\n}\n\nprovider "aws" {\n  s3_use_path_style = true\n}\n'
        )
        self.init(place)
        return place


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    found = plugins()
    if shutil.which("terraform") is None:
        pytest.skip("needs terraform on the PATH")
    if found is None:
        pytest.skip(f"needs Terraform's AWS provider in a local mirror ({PLUGINS} names it)")
    place = tmp_path_factory.mktemp("terraform")
    shutil.copytree(DEPLOY, place / "deploy", ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    settings = place / "settings.tfrc"
    settings.write_text("disable_checkpoint = true\n")
    quiet = {"TF_CLI_CONFIG_FILE": str(settings), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1", **ANYBODY}
    return Terraform(place / "deploy", found, quiet)


@pytest.fixture(scope="module")
def ministack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an AWS emulator of its own."""
    if not EMULATORS.exists():
        pytest.skip("needs the emulator's environment (make .venv-emulators/installed)")
    port, place = free_port(), tmp_path_factory.mktemp("ministack")
    environment = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "LOG_LEVEL": "WARNING"}
    with (place / "log").open("w") as log:
        server = subprocess.Popen(
            [str(EMULATORS), "-m", "ministack"], env=environment, cwd=place, stdout=log, stderr=log
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(address, server, place / "log")
            yield address
        finally:
            server.terminate()
            server.wait(timeout=20)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/_ministack/health", timeout=2).read()  # noqa: S310
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"ministack did not start: {log.read_text()}")
