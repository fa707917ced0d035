"""Every command in README.md, CONTRIBUTING.md, docs/ and deploy/README.md runs, as ``commands.yaml`` says where."""

import ast
import fnmatch
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT, Command, blocks, commands, is_setting, pages
from tests.docs.parsing import complaints, inline_commands, known_commands, parser_of
from tests.docs.small import SETTINGS, small_recipe, small_scenes
from tests.docs.workspace import Workspace, fresh_clone

LIST = Path(__file__).with_name("commands.yaml")
KNOWN: dict[str, Any] = yaml.safe_load(LIST.read_text())
EVERY = [command for page in pages() for command in commands(page) if not is_setting(command.text)]
PLACES = {"/path/to/delivery": "var/deliveries/scenes", "my_recipe": "scenes_multitask"}


def plain(command: str) -> str:
    return command.replace(".venv/bin/", "")


def entries(kind: str, command: str) -> list[dict[str, Any]]:
    return [entry for entry in KNOWN[kind] if any(fnmatch.fnmatchcase(command, one) for one in entry["commands"])]


@pytest.mark.parametrize("command", EVERY, ids=str)
def test_a_command_is_run_somewhere_and_could_run(command: Command) -> None:
    text = plain(command.text)
    listed = text in KNOWN["executed"] or entries("tested", text) or entries("parsed", text)
    assert listed, (
        f"{command}\nis in no list of {LIST.relative_to(ROOT)}: add it to `executed`, or say there who runs it"
    )
    assert not complaints(text)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_for_the_shell_is_marked_as_one_and_is_what_bash_can_read(page: Path) -> None:
    for block in blocks(page):
        ours = re.search(r"^(\.venv/bin/|python -m |make |dagster )", block.text, re.MULTILINE)
        assert block.language == "bash" or not (block.language in ("", "sh", "shell") and ours), f"line {block.line}"
        if block.language == "bash":
            done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr


def test_nothing_is_listed_that_no_page_has() -> None:
    texts = [plain(command.text) for command in EVERY]
    patterns = [one for kind in ("tested", "parsed") for entry in KNOWN[kind] for one in entry["commands"]]
    assert not [one for one in KNOWN["executed"] if one not in texts]
    assert not [one for one in patterns if not fnmatch.filter(texts, one)]


@pytest.mark.parametrize("entry", KNOWN["tested"], ids=lambda entry: str(entry["by"]))
def test_what_is_said_to_run_a_command_is_there(entry: dict[str, Any]) -> None:
    file, _, name = entry["by"].partition("::")
    source = (ROOT / file).read_text()
    if name:
        found = [node for node in ast.walk(ast.parse(source)) if getattr(node, "name", None) == name]
        assert found, f"{file} has no {name}"
        source = str(ast.get_source_segment(source, found[0]))
    assert entry["text"] in source


@pytest.mark.parametrize(("page", "text"), list(inline_commands()))
def test_a_command_within_a_text_is_one(page: str, text: str) -> None:
    words = plain(text).split()
    if words[0] == "make":
        assert not complaints(f"make {words[1]}")
    elif words[3:] and not words[3].startswith(("-", "…", "COMMAND")):
        assert words[3] in known_commands(parser_of(words[2]))


@dataclass
class Place:
    """The clone, and what the commands' placeholders stand for in it."""

    clone: Workspace

    def said(self, command: str) -> str:
        for name, value in {**PLACES, **self._made(command)}.items():
            command = command.replace(name, value)
        command = re.sub(r"(?<!\S)(python|torchrun|dagster) ", r".venv/bin/\1 ", command)
        return self.clone.run(command)

    def _made(self, command: str) -> dict[str, str]:
        if "DATASET_VERSION" not in command:
            return {}
        lineage = json.loads(self.clone.run(".venv/bin/python -m training_assets lineage scenes@1.0.0 --json"))
        return {"DATASET_VERSION": lineage["lineage"]["dataset"]["version"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    clone = fresh_clone(tmp_path_factory.mktemp("documents") / "project")
    small_scenes(clone.root / "var" / "deliveries" / "scenes")
    small_recipe(clone.root / "recipes" / "scenes_multitask.yaml")
    clone.environment |= {**SETTINGS, "DAGSTER_HOME": str(clone.root / "var" / "dagster_home")}
    yield Place(clone)
    for command, seconds in clone.took:
        print(f"{seconds:6.1f} s  {command}")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_documents_commands_run_in_a_fresh_clone(place: Place) -> None:
    for command, expected in KNOWN["executed"].items():
        assert expected in place.said(command), command
