"""``trtexec`` is played by a script: what it is called with, and what becomes of its ends."""

from pathlib import Path

import pytest

from trainer.export.tensorrt import make_plan

INPUTS = {"image": (1, 3, 64, 96), "trajectory.past": (1, 5, 8, 2)}
COMMAND = (
    "trtexec --onnx=model.onnx --saveEngine=model.plan"
    " --minShapes=image:1x3x64x96,trajectory.past:1x5x8x2"
    " --optShapes=image:1x3x64x96,trajectory.past:1x5x8x2"
    " --maxShapes=image:8x3x64x96,trajectory.past:8x5x8x2"
)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on a machine without ``trtexec``."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "package").mkdir()
    return tmp_path / "package"


def play(package: Path, script: str) -> None:
    tool = package.parent / "bin" / "trtexec"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)


def test_without_the_tool_the_package_has_the_exact_command(package):
    told = make_plan(INPUTS, 8, package)
    assert (package / told.command_file).read_text() == f"{COMMAND}\n"
    assert (told.command, told.plan) == (COMMAND, None)
    assert "no trtexec on PATH" in told.note


def test_with_the_tool_the_command_is_run_in_the_package(package):
    play(package, 'echo "trtexec $*" > model.plan')
    assert make_plan(INPUTS, 8, package).plan == "model.plan"
    assert (package / "model.plan").read_text() == f"{COMMAND}\n"


@pytest.mark.parametrize(
    ("script", "said"), [("echo started > model.plan; echo no GPU here; exit 3", "ended with 3"), ("exit 0", "nothing")]
)
def test_a_tool_that_makes_no_plan_is_told_of_and_leaves_none(package, script, said):
    play(package, script)
    told = make_plan(INPUTS, 8, package)
    assert told.plan is None
    assert said in told.note
    assert not (package / "model.plan").exists()
    assert (package / told.command_file).exists()
