"""Both command lines as scripts meet them: examples, JSON, exit codes, completion."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trainer.__main__
import training_assets.__main__
from trainer.command_line import judge
from trainer.command_line.program import EXIT_CODES as OF_TRAINER
from trainer.command_line.program import PROGRAM as TRAINER
from trainer.contract import exit_codes
from trainer.contract.manifest import SPLITS
from trainer.terminal.commands import Command, Program
from trainer.terminal.completion import script
from training_assets.command_line.completed import COMPLETED
from training_assets.command_line.program import EXIT_CODES as OF_GRAPH
from training_assets.command_line.program import PROGRAM as GRAPH

ROOT = Path(__file__).parents[3]
PROGRAMS = [TRAINER, GRAPH]


def every(program: Program) -> list[Command]:
    return [one for command in program.commands for one in (command, *(command.actions() if command.actions else ()))]


CASES = [(program, example.line) for program in PROGRAMS for one in every(program) for example in one.examples]


@pytest.mark.parametrize(("program", "line"), CASES, ids=[line for _, line in CASES])
def test_every_example_is_a_command_line_that_is_understood(program, line):
    words = shlex.split(line)
    given = words[words.index("trainer") + 1 :] if words[0] == "torchrun" else words
    if words[0] == "source" or "--help" in words:
        return
    for end in ("|", ">"):
        given = given[: given.index(end)] if end in given else given
    assert callable(program.parser().parse_args(given).run)


@pytest.mark.parametrize("module", [trainer.__main__, training_assets.__main__])
def test_every_command_has_examples_in_its_help(module):
    for name, parser in module.parser().commands().items():
        assert "examples:" in parser.format_help(), name


@pytest.mark.parametrize("package", ["trainer", "training_assets"])
def test_help_imports_neither_torch_nor_dagster_nor_numpy(package, piped):
    code = (
        f"import sys\nfrom {package}.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: print(sorted({'torch','dagster','numpy','rich'} & set(sys.modules)))"
    )
    assert piped("-c", code).stdout.splitlines()[-1] == "[]"


def test_the_splits_that_help_names_are_those_of_the_contract():
    assert judge.SPLITS == SPLITS


def test_every_exit_code_has_a_name_and_a_meaning():
    named = {value for name, value in vars(exit_codes).items() if name.isupper()}
    assert set(OF_TRAINER) == named
    assert set(OF_GRAPH) == named - {exit_codes.GATE_FAILED, exit_codes.STOPPED}


def test_bad_input_as_json_is_one_document_on_standard_output(piped):
    done = piped("-m", "training_assets", "profile", "check", "nope", "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["headline"] == "no such profile"
    assert {"file", "line", "field", "found", "expected"} == set(error["problems"][0])
    assert "no such profile" in done.stderr


def test_what_is_not_understood_is_answered_in_json_too_with_what_was_meant(piped):
    done = piped("-m", "training_assets", "trian", "--json")
    assert done.returncode == 2
    assert "did you mean 'train'?" in json.loads(done.stdout)["error"]["headline"]
    assert "did you mean '--recipe'?" in piped("-m", "training_assets", "demo", "--recpe", "x").stderr


def test_a_command_that_makes_something_prints_nothing_but_its_document(piped, tmp_path):
    done = piped("-m", "trainer", "scenes", "--rare", "2", "--out", str(tmp_path / "rare"), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"delivery": str(tmp_path / "rare"), "rows": {"train": 0, "val": 0, "test": 2}}


def test_a_fault_of_the_program_ends_with_1_and_its_traceback_on_standard_error(piped, tmp_path):
    code = (
        "import sys, trainer.data.scenes\nfrom trainer.__main__ import main\ntrainer.data.scenes.make_scenes = None\n"
        f"sys.exit(main(['scenes', '--out', {str(tmp_path / 'x')!r}, '--json']))"
    )
    done = piped("-c", code)
    assert done.returncode == 1
    assert "TypeError" in json.loads(done.stdout)["error"]["headline"]
    assert "Traceback" in done.stderr


@pytest.mark.slow
def test_a_rank_that_does_not_lead_says_its_own_fault_but_not_what_is_wrong_with_the_input(piped, tmp_path):
    (tmp_path / "file").write_text("")
    done = piped("-m", "trainer", "scenes", "--out", str(tmp_path / "file" / "below"), RANK="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    absent = ("best.pt", "--data", str(tmp_path), "--out", str(tmp_path / "out"))
    refused = piped("-m", "trainer", "evaluate", *absent, RANK="1")
    assert (refused.returncode, refused.stderr) == (2, "")


def test_ctrl_c_ends_with_130_and_no_traceback(environment, tmp_path):
    command = [sys.executable, "-m", "trainer", "scenes", "--out", str(tmp_path / "scenes"), "--json"]
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["error"]["headline"] == "interrupted"
    assert "Traceback" not in err


def test_a_reader_that_has_gone_ends_it_with_141_and_no_traceback(environment):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "training_assets", "completion", "bash"],
        env=environment, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == ""


def completed(program: Program, *words: str) -> list[str]:
    """What bash offers for the last of ``words``."""
    ask = f"COMP_WORDS=({' '.join(shlex.quote(word) for word in words)})\nCOMP_CWORD={len(words) - 1}\n"
    call = f"_shtab_{program.script.replace('-', '_')} 2>/dev/null\nprintf '%s\\n' \"${{COMPREPLY[@]}}\""
    text = f"{script(program, 'bash', COMPLETED)}\n{ask}{call}"
    return subprocess.run(["bash"], input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_commands_options_recipes_and_directories():
    assert completed(GRAPH, "training-assets", "sw") == ["sweep"]
    assert completed(GRAPH, "training-assets", "sweep", "st") == ["start", "status", "stop"]
    assert completed(GRAPH, "training-assets", "train", "--win") == ["--window"]
    assert completed(GRAPH, "training-assets", "train", "scenes") == ["scenes_multitask"]
    assert completed(GRAPH, "training-assets", "tune", "--data", "recip") == ["recipes"]
    assert completed(TRAINER, "trainer", "import", "cam") == ["camvid"]


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_script_of_their_own(shell):
    assert "training-assets" in script(GRAPH, shell, COMPLETED)
