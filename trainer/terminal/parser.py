"""``argparse`` with help by example, "did you mean", and arguments that are declared only once they are needed."""

import argparse
import difflib
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Self

from trainer.contract.exit_codes import BAD_INPUT

Declare = Callable[["Parser"], None]


class Misused(Exception):
    """The command line itself cannot be understood. ``usage`` is that of the command it was meant for."""

    code = BAD_INPUT

    def __init__(self, parser: "Parser", message: str) -> None:
        super().__init__(message)
        self.usage = parser.format_usage().rstrip()
        self.help = f"{parser.prog} --help"


class Parser(argparse.ArgumentParser):
    """A parser whose arguments ``declare`` adds when it is first asked to parse or to show them.

    Help of one command then imports nothing that another one needs.
    """

    def __init__(self, *args: Any, declare: Declare | None = None, overview: str = "", **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **settings)
        self._declare, self._overview = declare, overview

    def declared(self) -> Self:
        """This parser with its arguments, those of its own commands not included."""
        declare, self._declare = self._declare, None
        if declare is not None:
            declare(self)
        return self

    def whole(self) -> Self:
        """This parser with all commands below it, for whoever reads it: completion, documents."""
        self.declared()
        for command in self.commands().values():
            command.whole()
        return self

    def commands(self) -> dict[str, "Parser"]:
        """The parsers right below this one, by name."""
        actions = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return {name: parser for action in actions for name, parser in action.choices.items()}

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.declared()
        known, unknown = super().parse_known_args(args, namespace)
        # Here, and not where argparse does it, the command whose options might be meant is known.
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown)}")
        return known, unknown

    def format_help(self) -> str:
        self.declared()
        if not self._overview:
            return super().format_help()
        return f"usage: {self.prog} COMMAND …\n\n{self.description}\n\n{self._overview}\n\n{self.epilog}\n"

    def error(self, message: str) -> NoReturn:
        raise Misused(self, message)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            message = f"no '{value}'{did_you_mean(str(value), choices)}, choose from {', '.join(choices)}"
            raise argparse.ArgumentError(action, message)

    def _meant(self, unknown: Iterable[str]) -> str:
        options = [option for action in self._actions for option in action.option_strings]
        first = next((word.partition("=")[0] for word in unknown if word.startswith("--")), "")
        return did_you_mean(first, options) if first else ""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`` (did you mean 'train'?)`` where something is near enough."""
    near = difflib.get_close_matches(word, list(choices), 1, cutoff=0.7)
    return f" (did you mean '{near[0]}'?)" if near else ""
