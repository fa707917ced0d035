"""What goes into the two images: their packages, their bills of materials, and the rules of their Dockerfiles."""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution, distributions, packages_distributions, version
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from trainer.contract.errors import ContractError
from training_assets.__main__ import main
from training_assets.container_tool import ContainerTool, container_tool

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
PACKAGES = {"trainer": ("trainer",), "dagster": ("training_assets", "trainer/contract", "trainer/terminal")}
OURS = {"trainer", "training_assets"}
OPTIONAL = {ROOT / "training_assets" / "sweeps" / "search" / "ray.py": "ray"}
"""What asks for an extra of its own and says so where that is not installed."""
LOCKS = [ROOT / "requirements.lock", ROOT / "requirements-cuda.lock"]
DOCKERFILES = [DOCKER / f"{image}.Dockerfile" for image in PACKAGES]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


locked, sbom = script("locked"), script("sbom")


def installed_by(image: str) -> set[str]:
    """Everything that pip installs for ``image``, by the metadata of the packages that are installed here."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(line), "") for line in locked.direct(ROOT / "pyproject.toml", image)]
    while waiting:
        requirement, parent_extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": parent_extra}):
            continue
        for extra in {"", *requirement.extras}:
            key = (locked.normalised(requirement.name), extra)
            if key not in found:
                found.add(key)
                waiting += [(Requirement(line), extra) for line in distribution(requirement.name).requires or ()]
    return {name for name, _ in found}


def named_by(extra: str | None) -> set[str]:
    lines = locked.direct(ROOT / "pyproject.toml", extra) if extra else ()
    return {locked.normalised(Requirement(line).name) for line in lines}


def imported_by(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((name.name.split(".")[0], path) for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.split(".")[0], path


@pytest.mark.slow
@pytest.mark.parametrize("image", PACKAGES)
def test_an_image_has_whatever_its_code_imports(image: str) -> None:
    has, providers = installed_by(image), packages_distributions()
    for package in PACKAGES[image]:
        for module, path in imported_by(package):
            if module not in sys.stdlib_module_names and module not in OURS:
                names = {locked.normalised(name) for name in providers.get(module, [])}
                if locked.normalised(module) in named_by(OPTIONAL.get(path)):
                    continue
                where = path.relative_to(ROOT)
                assert names & has, f"{where} imports {module}: name its package in pyproject.toml, extra {image}"


def test_the_trainers_image_has_no_dagster_but_pipes_and_dagsters_has_no_torch() -> None:
    trainer, dagster = installed_by("trainer"), installed_by("dagster")
    assert {name for name in trainer if name.startswith("dagster")} == {"dagster-pipes"}
    assert "boto3" not in trainer
    assert "torch" in trainer
    assert not {name for name in dagster if re.match(r"torch|nvidia|triton", name)}
    assert {"dagster", "dagster-webserver", "dagster-postgres", "boto3"} <= dagster


@pytest.mark.parametrize("image", PACKAGES)
def test_the_lock_pins_everything_that_an_image_has(image: str) -> None:
    assert installed_by(image) <= set(locked.pins(LOCKS))


def test_a_package_that_no_lock_pins_or_pins_otherwise_is_found() -> None:
    pinned = {locked.normalised(one.metadata["Name"]): one.version.partition("+")[0] for one in distributions()}
    assert locked.unlocked(pinned) == []
    assert locked.unlocked({**pinned, "numpy": "1.0"}) == [f"numpy=={version('numpy')}, pinned: 1.0"]
    del pinned["pyyaml"]
    assert locked.unlocked(pinned) == [f"PyYAML=={version('PyYAML')}, pinned: not at all"]


@pytest.mark.slow
def test_a_bill_of_materials_has_python_packages_with_their_licences_and_is_the_same_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sbom, "INSTALLED", (sys.prefix,))
    bill = sbom.bill("training-assets/trainer", "abc")
    components = {one["purl"]: one for one in bill["components"]}
    numpy = components[f"pkg:pypi/numpy@{version('numpy')}"]
    assert "BSD" in json.dumps(numpy["licenses"])
    assert components[f"pkg:pypi/pyyaml@{version('PyYAML')}"]["licenses"] == [{"license": {"name": "MIT License"}}]
    assert sbom.bill("training-assets/trainer", "abc") == bill
    assert sbom.bill("training-assets/trainer", "abd")["serialNumber"] != bill["serialNumber"]


def test_a_bill_of_materials_has_the_debian_packages_where_there_are_any() -> None:
    status = subprocess.run(["dpkg-query", "--show", "--showformat=${Version}", "dpkg"], capture_output=True, text=True)
    if status.returncode:
        pytest.skip("needs dpkg")
    (found,) = [one for one in sbom.debian_packages() if one["name"] == "dpkg"]
    assert found["version"] == status.stdout
    assert found["purl"].startswith("pkg:deb/debian/dpkg@")
    assert any("GPL-2" in one["license"]["name"] for one in found["licenses"])


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_starts_from_what_is_named_by_argument_and_does_not_run_as_root(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if line.startswith("FROM")] == ["FROM ${BUILD_BASE} AS packages", "FROM ${BASE}"]
    assert "ARG BASE" in lines
    (user,) = [line.split()[1] for line in lines if line.startswith("USER")]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    final = "\n".join(lines[lines.index("FROM ${BASE}") :])
    assert not re.search(r"\b((?<!without-)pip|apt-get|gcc|curl|wget)\b", final)


@pytest.mark.parametrize("base", ["python:3.11-slim", "python", "python:3.11@sha256:" + "0" * 64, "python@sha256:0"])
def test_a_base_that_is_not_named_by_digest_is_refused(base: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["image", "--base", base]) == 2
    assert f"base of trainer: found '{base}', expected repository@sha256:" in capsys.readouterr().err


def test_without_docker_and_podman_both_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ContractError, match=r"docker: found not installed(.|\n)*podman: found not installed"):
        container_tool()


def test_a_client_whose_daemon_is_not_there_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in (("docker", 1), ("podman", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\necho 'Cannot connect to the daemon' >&2\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert container_tool() == ContainerTool("podman")
    with pytest.raises(ContractError, match="docker: found Cannot connect to the daemon"):
        container_tool("docker")
