import subprocess
import sys

import pytest

COMMANDS = ("train", "crossval", "evaluate", "export", "shard", "scenes", "import", "score")


def trainer(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "trainer", *arguments], capture_output=True, text=True, check=False)


def test_help_names_every_command_with_examples_and_exit_codes():
    shown = trainer("--help").stdout
    assert all(f"\n    {command} " in shown for command in COMMANDS)
    assert "examples:" in shown
    assert "exit codes:" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    done = trainer(command, "--help")
    assert done.returncode == 0
    assert f"trainer {command}" in done.stdout


@pytest.mark.slow
def test_bad_input_exits_with_two_and_a_report_without_a_traceback(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: x\nlearning_rate: 3\n")
    arguments = ["train", str(tmp_path / "recipe.yaml"), "--data", str(tmp_path), "--run-dir", str(tmp_path / "run")]
    done = trainer(*arguments)
    assert done.returncode == 2
    assert "learning_rate" in done.stderr
    assert "recipe.yaml" in done.stderr
    assert "Traceback" not in done.stderr
