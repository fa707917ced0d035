"""`make image` for real: both images from a Debian root, pushed to an emulated ECR, run as a user without rights.

Not in `make test`: it takes many minutes. `make test-image` runs it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import boto3
import pytest

from trainer.contract.ports import free_port
from trainer.contract.results import TrainResult
from training_assets.images import BuiltImages

ROOT = Path(__file__).parents[2]
EMULATORS = ROOT / ".venv-emulators" / "bin" / "python"
NEEDED = ("podman", "runc", "debootstrap", "git")
SUITE = "bookworm"
FOR_VENV = ("python3.11-venv", "python3-pip-whl", "python3-setuptools-whl", "python3-distutils", "python3-lib2to3")
USER = 10001
# Resource limits of a shared machine may be lower than podman's defaults, and it may have cgroups that crun refuses.
CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
"""
REGISTRIES_CONF = '[[registry]]\nlocation = "{}"\ninsecure = true\n'

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
if "TEST_IMAGE" not in os.environ:
    pytest.skip("builds images for minutes: run it by make test-image", allow_module_level=True)
if missing := [name for name in NEEDED if not shutil.which(name)]:
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)
if not EMULATORS.is_file():
    pytest.skip("needs the emulators that make setup installs", allow_module_level=True)
if os.geteuid():
    pytest.skip("debootstrap and podman's root file systems need root", allow_module_level=True)


def command(*arguments: str) -> str:
    return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An emulated ECR with both repositories, and podman with settings and a store of its own."""
    home, port = tmp_path_factory.mktemp("podman"), free_port()
    registry = f"127.0.0.1:{port}"
    (home / "containers.conf").write_text(CONTAINERS_CONF)
    (home / "registries.conf").write_text(REGISTRIES_CONF.format(registry))
    places = f'driver = "overlay"\ngraphroot = "{home}/store"\nrunroot = "{home}/run"\n'
    (home / "storage.conf").write_text(f"[storage]\n{places}")
    given = {
        "CONTAINERS_CONF": str(home / "containers.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(home / "registries.conf"),
        "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
        "AWS_ENDPOINT_URL": f"http://{registry}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        emulator = {**os.environ, "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
        with open(home / "ministack.log", "w") as log:
            server = subprocess.Popen([EMULATORS, "-m", "ministack"], env=emulator, stdout=log, stderr=log)
        try:
            _until(_repositories_made, 60)
            yield {"registry": registry}
        finally:
            server.terminate()
            server.wait(30)
            subprocess.run(["podman", "system", "reset", "--force"], check=False, capture_output=True)


def _repositories_made() -> bool:
    ecr = boto3.client("ecr")
    try:
        for name in ("trainer", "dagster"):
            ecr.create_repository(repositoryName=f"training-assets/{name}")
    except ecr.exceptions.RepositoryAlreadyExistsException:
        return True
    except Exception:
        return False
    return True


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def bases(environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two Debian roots as images, by digest: ``build`` with Python's venv, ``run`` without it and pip's wheel."""
    folder = tmp_path_factory.mktemp("debian")
    root = folder / "root"
    targets = command("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages")
    mirrors = [line.split()[0] for line in targets.splitlines() if line.split()[1] == SUITE]
    packages = ",".join(("python3.11", "ca-certificates", *FOR_VENV))
    command("debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(root), *mirrors[:1])
    found = {"build": _imported(root, "build")}
    command("chroot", str(root), "dpkg", "--purge", *FOR_VENV)
    found["run"] = _imported(root, "run")
    shutil.rmtree(root)
    return found


def _imported(root: Path, name: str) -> str:
    archive = subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE)
    subprocess.run(["podman", "import", "-", f"localhost/{name}"], stdin=archive.stdout, check=True)
    assert archive.wait() == 0
    return f"localhost/{name}@{command('podman', 'image', 'inspect', '--format', '{{.Digest}}', f'localhost/{name}')}"


@pytest.fixture(scope="module")
def pip_config(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """This machine's pip configuration as one file, and mounts for the files and directories that it names."""
    listed = command(sys.executable, "-m", "pip", "config", "list").splitlines()
    settings = {name.rsplit(".", 1)[1]: value.strip("'") for name, _, value in (line.partition("=") for line in listed)}
    path = tmp_path_factory.mktemp("pip") / "pip.conf"
    path.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    # The files of an index on disk lie beside its pages.
    indices = [str(Path(one).parent) for one in re.findall(r"file://(/[^\s,']+)", "\n".join(settings.values()))]
    named = [*indices, *(value for value in settings.values() if value.startswith("/"))]
    return path, [f"--build-option=--volume={one}:{one}:ro" for one in named if Path(one).exists()]


@pytest.fixture(scope="module")
def revision() -> str:
    """The commit that is built; another one may come while it is."""
    return command("git", "-C", str(ROOT), "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def made(
    environment: Mapping[str, str],
    bases: Mapping[str, str],
    pip_config: tuple[Path, list[str]],
    revision: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[BuiltImages, Path]:
    """What ``make image`` built and pushed, and where it recorded it. Nothing of it is left on this machine: whoever
    runs an image has to pull it.
    """
    out = tmp_path_factory.mktemp("images")
    settings, mounts = pip_config
    given = ["--base", bases["run"], "--build-base", bases["build"], "--registry", environment["registry"]]
    options = ["--build-option=--network=host", "--build-option=--layers=false", *mounts]
    asked = [*given, "--tool", "podman", "--pip-config", str(settings), "--out", str(out), *options]
    subprocess.run([sys.executable, "-m", "training_assets", "image", *asked], check=True, cwd=ROOT)
    command("podman", "rmi", "--all", "--force")
    return BuiltImages.model_validate_json((out / "images.json").read_bytes()), out


def run(image: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
    """The output of a container without a network, whose root file system cannot be written."""
    hardened = ("--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=all", "--security-opt=no-new-privileges")
    return command("podman", "run", "--rm", *hardened, *options, image, *arguments)


def python(image: str, code: str) -> str:
    return run(image, "-c", code, options=("--entrypoint=python",))


def test_the_recorded_digests_are_those_that_the_registry_serves(
    made: tuple[BuiltImages, Path], environment: Mapping[str, str], revision: str
) -> None:
    for name, image in dict(made[0]).items():
        repository, _, digest = image.reference.partition("@")
        path = repository.removeprefix(environment["registry"])
        address = f"http://{environment['registry']}/v2{path}/manifests/{digest}"
        with urllib.request.urlopen(address) as answer:
            assert answer.headers["Docker-Content-Digest"] == digest
        assert path == f"/training-assets/{name}"
        assert image.revision == revision
        command("podman", "pull", image.reference)


def test_the_trainer_is_the_entry_point_and_runs_as_nobody_special(made: tuple[BuiltImages, Path]) -> None:
    image = made[0].trainer.reference
    assert "usage: python -m trainer" in run(image)
    assert run(image, "-u", options=("--entrypoint=id",)) == str(USER)
    (about,) = json.loads(command("podman", "image", "inspect", image))
    assert about["Labels"]["org.opencontainers.image.revision"] == made[0].trainer.revision
    assert about["Labels"]["org.opencontainers.image.base.name"] == made[0].trainer.base


@pytest.mark.parametrize(
    ("name", "there", "not_there"),
    [
        ("trainer", ["torch", "onnxscript", "dagster_pipes"], ["dagster", "boto3", "pip", "ensurepip"]),
        ("dagster", ["dagster", "dagster_webserver", "dagster_postgres", "boto3"], ["torch", "pip", "ensurepip"]),
    ],
)
def test_an_image_has_what_it_needs_and_no_more(
    made: tuple[BuiltImages, Path], name: str, there: list[str], not_there: list[str]
) -> None:
    image = getattr(made[0], name).reference
    code = f"from importlib.util import find_spec as f; print([n for n in {there + not_there} if f(n)])"
    assert python(image, code) == str(there)
    tools = "import shutil; print([n for n in ('gcc', 'cc', 'make', 'pip', 'pip3', 'git') if shutil.which(n)])"
    assert python(image, tools) == "[]"


def test_pips_configuration_is_in_no_layer(made: tuple[BuiltImages, Path], pip_config: tuple[Path, list[str]]) -> None:
    values = [line.partition(" = ")[2] for line in pip_config[0].read_text().splitlines()[1:]]
    for image in dict(made[0]).values():
        about = command("podman", "image", "inspect", image.reference) + command(
            "podman", "history", "--no-trunc", "--format={{.CreatedBy}}", image.reference
        )
        assert not [value for value in values if "/" in value and value in about]
        exists = "import pathlib; print([str(p) for p in pathlib.Path('/').glob('**/pip.conf')])"
        assert python(image.reference, exists) == "[]"


def test_the_bill_of_materials_in_the_image_is_the_one_beside_the_record(made: tuple[BuiltImages, Path]) -> None:
    record, out = made
    for name, known in (("trainer", "pkg:pypi/torch@"), ("dagster", "pkg:pypi/dvc@")):
        inside = python(getattr(record, name).reference, "print(open('/app/sbom.cdx.json').read(), end='')")
        beside = (out / getattr(record, name).sbom).read_text()
        assert inside == beside.strip()
        purls = [one["purl"] for one in json.loads(beside)["components"]]
        assert [one for one in purls if one.startswith(known)]
        assert [one for one in purls if one.startswith("pkg:deb/debian/libc6@")]


def test_the_trainer_trains_in_its_image_and_its_result_says_of_which_commit_it_is(
    made: tuple[BuiltImages, Path], delivery: Path, recipe: Path, tmp_path: Path
) -> None:
    shutil.copytree(delivery, tmp_path / "delivery")
    shutil.copyfile(recipe, tmp_path / "recipe.yaml")
    runs = tmp_path / "runs"
    runs.mkdir()
    os.chown(runs, USER, USER)
    command("chmod", "-R", "a+rX", str(tmp_path))
    asked = ("--data", "/work/delivery", "--run-dir", "/work/runs/one", "--set", "training.epochs=1")
    volume = (f"--volume={tmp_path}:/work", "--shm-size=256m")
    run(made[0].trainer.reference, "train", "/work/recipe.yaml", *asked, "--set", "data.batch_size=24", options=volume)
    result = TrainResult.model_validate_json((runs / "one" / "result.json").read_bytes())
    assert result.revision == made[0].trainer.revision
    assert result.global_step == 2
    assert (runs / "one" / "result.json").stat().st_uid == USER


def test_dagsters_image_carries_the_trainers_loads_the_graph_and_finds_dvc(made: tuple[BuiltImages, Path]) -> None:
    image = made[0].dagster.reference
    code = (
        "import os, subprocess\nfrom training_assets.definitions import defs\n"
        "from training_assets.profiles import REPOSITORY\nfrom training_assets.stores.source import code_version\n"
        "print(len(defs.resolve_asset_graph().get_all_asset_keys()) > 10, code_version(REPOSITORY).git_sha)\n"
        "print(subprocess.run([os.environ['TRAINING_ASSETS_DVC'], '--version']).returncode)\n"
        "print(os.environ['TRAINING_ASSETS_TRAINER_IMAGE'])"
    )
    loaded, *_, dvc, carried = python(image, code).splitlines()
    assert (loaded, dvc) == (f"True {made[0].dagster.revision}", "0")
    assert carried == made[0].trainer.reference


def test_the_code_server_of_dagsters_image_becomes_healthy(made: tuple[BuiltImages, Path]) -> None:
    image = made[0].dagster.reference
    container = command("podman", "run", "--detach", "--network=none", image)
    try:
        check = ["podman", "healthcheck", "run", container]
        _until(lambda: subprocess.run(check, capture_output=True).returncode == 0, 120)
    finally:
        command("podman", "rm", "--force", "--time=5", container)
