"""The command line of the graph: ``python -m training_assets COMMAND``, or ``training-assets COMMAND``."""

import sys
from collections.abc import Sequence

from trainer.terminal.parser import Parser
from trainer.terminal.running import carry_out
from training_assets.command_line.program import PROGRAM


def main(argv: Sequence[str] | None = None) -> int:
    """Do what ``argv`` asks for; the exit code, of those in ``program.EXIT_CODES``."""
    return carry_out(PROGRAM, argv)


def parser() -> Parser:
    """The whole parser with every command, for whoever reads it: documents, completion, tests."""
    return PROGRAM.parser().whole()


if __name__ == "__main__":
    sys.exit(main())
