"""What a command is, and how a program's commands become its parser and its help."""

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.terminal.answers import Answer, Refusal
from trainer.terminal.parser import Parser

Run = Callable[[argparse.Namespace], Answer | int]
JSON_HELP = "one JSON document on standard output, all else on standard error"


@dataclass(frozen=True)
class Example:
    """A command line without its program's name, unless it begins with another's, and what it is good for."""

    line: str
    why: str = ""


@dataclass(frozen=True)
class Command:
    """One command, or with ``actions`` a family of them. Made to print help: its module imports nothing heavy.

    ``add`` declares its arguments, ``run`` does it. ``exit_codes`` are those that mean more here than everywhere.
    Without ``answers`` it has no ``--json``.
    """

    name: str
    text: str
    run: Run | None = None
    add: Callable[[argparse.ArgumentParser], None] | None = None
    examples: Sequence[Example] = ()
    exit_codes: Mapping[int, str] = field(default_factory=dict)
    answers: bool = True
    actions: Callable[[], Sequence["Command"]] | None = None
    about: str = ""

    def declare(self, parser: Parser, program: "Program") -> None:
        if self.add is not None:
            self.add(parser)
        if self.answers and self.run is not None:
            parser.add_argument("--json", action="store_true", help=JSON_HELP)
        if self.run is not None:
            parser.set_defaults(run=self.run)
        if self.actions is not None:
            _below(parser, self.actions(), program, "actions", "ACTION")


@dataclass(frozen=True)
class Program:
    """All commands of a package, in groups of what people do.

    ``refusal`` turns an exception that is no fault of the program into what is told of it; ``speaks`` is false for a
    process that leaves telling to another one, as all ranks but the first.
    """

    package: str
    script: str
    text: str
    groups: Mapping[str, Sequence[Command]]
    exit_codes: Mapping[int, str]
    examples: Sequence[Example]
    notes: str = ""
    refusal: Callable[[Exception], Refusal | None] = lambda error: None
    speaks: Callable[[], bool] = lambda: True

    @property
    def commands(self) -> Iterator[Command]:
        return (command for group in self.groups.values() for command in group)

    def parser(self, name: str | None = None) -> Parser:
        """The parser, called ``name`` in what it prints: by default as it is run as a module.

        Its commands declare their arguments when they are used; ``.whole()`` has all of them do it.
        """
        prog = name or f"python -m {self.package}"
        epilog = "\n\n".join(filter(None, (_examples(self.examples, prog), self.notes, _codes(self.exit_codes))))
        parser = Parser(prog=prog, description=self.text, overview=_overview(self.groups), epilog=epilog)
        _below(parser, list(self.commands), self, "commands", "COMMAND")
        return parser

    def called_as(self) -> str | None:
        """The name of the console script, where it was that."""
        return self.script if Path(sys.argv[0]).name == self.script else None


def _below(parser: Parser, commands: Sequence[Command], program: Program, title: str, metavar: str) -> None:
    actions = parser.add_subparsers(title=title, metavar=metavar, required=True, parser_class=Parser)
    for command in commands:
        prog = f"{parser.prog} {command.name}"
        actions.add_parser(
            command.name,
            prog=prog,
            help=command.text,
            description=command.about or command.text,
            epilog=_epilog(command, program, parser.prog),
            declare=_declaring(command, program),
        )


def _declaring(command: Command, program: Program) -> Callable[[Parser], None]:
    return lambda parser: command.declare(parser, program)


def _epilog(command: Command, program: Program, prog: str) -> str:
    root = prog if prog.endswith((program.package, program.script)) else prog.rpartition(" ")[0]
    codes = dict(sorted({**program.exit_codes, **command.exit_codes}.items())) if command.exit_codes else {}
    return "\n\n".join(filter(None, (_examples(command.examples, root), _codes(codes))))


def _examples(examples: Sequence[Example], prog: str) -> str:
    lines: list[str] = []
    for example in examples:
        lines += [f"  # {example.why}"] if example.why else []
        lines.append(f"  {line_of(example, prog)}")
    return "\n".join(["examples:", *lines]) if lines else ""


def line_of(example: Example, prog: str) -> str:
    """The whole command line; an example of another program, as torchrun, names it itself."""
    return example.line if example.line.startswith(("torchrun ", "source ")) else f"{prog} {example.line}"


def _codes(codes: Mapping[int, str]) -> str:
    return "\n".join(["exit codes:", *(f"  {code:<4} {text}" for code, text in codes.items())]) if codes else ""


def _overview(groups: Mapping[str, Sequence[Command]]) -> str:
    width = max(len(command.name) for commands in groups.values() for command in commands) + 2
    return "\n\n".join("\n".join([f"{name}:", *_entries(commands, width)]) for name, commands in groups.items())


def _entries(commands: Sequence[Command], width: int) -> Iterator[str]:
    for command in commands:
        indent = " " * (4 + width)
        filled = textwrap.fill(command.text, 112, initial_indent=indent, subsequent_indent=indent).lstrip()
        yield f"    {command.name:<{width}}{filled}"
