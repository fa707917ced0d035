"""``completion``: the script with which a shell completes a program's commands, options, files and names."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainer.terminal.answers import Answer
from trainer.terminal.commands import Command, Example, Program
from trainer.terminal.parser import Parser

SHELLS = ("bash", "zsh", "tcsh")
DIRECTORIES = ("DIR", "OUT", "SRC", "DELIVERY")
"""Metavars of paths that are directories; others are files."""

Completion = Mapping[str, str | Mapping[str, str]]
"""As shtab knows it: what to complete with, by shell."""


def completion_of(
    script_name: str, program: Callable[[], Program], names: Mapping[str, "Names"] | None = None
) -> Command:
    """The command ``completion`` of ``program``; ``names`` says by metavar where names are found."""

    def run(arguments: argparse.Namespace) -> Answer:
        return Answer(text=script(program(), arguments.shell, names or {}))

    return Command(
        "completion",
        "Print the script with which a shell completes commands, options, files and names.",
        run=run,
        add=_add_shell,
        examples=(
            Example("completion bash > ~/.local/share/bash-completion/completions/" + script_name, "bash, for good"),
            Example(f"source <({script_name} completion bash)", "bash, in this session"),
            Example(f"completion zsh > ~/.zfunc/_{script_name}", "zsh, with ~/.zfunc in fpath"),
        ),
        answers=False,
    )


def _add_shell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=" or ".join(SHELLS))


class Names:
    """The names of the files that ``place/pattern`` finds; ``variable`` of the environment may name another place."""

    def __init__(self, place: Path, pattern: str, variable: str | None = None, below: str = "") -> None:
        self.place, self.pattern, self.variable, self.below = place, pattern, variable, below

    @property
    def completion(self) -> Completion:
        import shtab

        suffix = Path(self.pattern).suffix
        command = "basename -a -s '{}' {}/{} 2>/dev/null".format(suffix, "{}", f"{self.below}{self.pattern}")
        fixed = command.format(self.place)
        if self.variable is None:
            return dict(shtab.cmd(fixed))
        # A default for a variable is nothing that tcsh knows.
        found = shtab.cmd(command.format(f"${{{self.variable}:-{self.place}}}"))
        return {**found, "tcsh": shtab.cmd(fixed)["tcsh"]}


def script(program: Program, shell: str, names: Mapping[str, Names]) -> str:
    """The script for ``shell``, which completes the program's console script."""
    import shtab

    parser = program.parser(program.script).whole()
    found = {metavar: one.completion for metavar, one in names.items()}
    _complete(parser, found, shtab.FILE, shtab.DIRECTORY)
    text: str = shtab.complete(parser, shell)
    return text


def _complete(parser: Parser, names: Mapping[str, Completion], file: Any, directory: Any) -> None:
    for action in parser._actions:
        if found := names.get(str(action.metavar)):
            action.complete = found  # type: ignore[attr-defined]
        elif action.type is Path:
            action.complete = directory if action.metavar in DIRECTORIES else file  # type: ignore[attr-defined]
    for command in parser.commands().values():
        _complete(command, names, file, directory)
