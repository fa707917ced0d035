"""The trainer's command line: ``python -m trainer COMMAND``, or ``trainer COMMAND``."""

import os

from trainer.process import die_with_torchrun

if "TORCHELASTIC_RUN_ID" in os.environ:
    die_with_torchrun()  # before all other imports, which take their time: torchrun may be killed meanwhile

import sys
from collections.abc import Sequence
from typing import NoReturn

from trainer.command_line.program import PROGRAM
from trainer.terminal.parser import Parser
from trainer.terminal.running import carry_out


def main(argv: Sequence[str] | None = None) -> int:
    """Do what ``argv`` asks for; the exit code, of those in ``program.EXIT_CODES``."""
    return carry_out(PROGRAM, argv)


def parser() -> Parser:
    """The whole parser with every command, for whoever reads it: documents, completion, tests."""
    return PROGRAM.parser().whole()


def console() -> NoReturn:
    """:func:`main` as a process: exit at once, whatever threads of native libraries are at work, as tearing them down
    may abort it."""
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        os._exit(code)
    sys.exit(0)


if __name__ == "__main__":
    console()
