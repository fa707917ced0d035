"""The commands as their argparse parsers know them."""

import argparse
from collections.abc import Iterator

from texts import from_docstring, table


def commands_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Each command that can be given, those of commands too, in the order of the help."""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield parser
    for action in inner:
        for sub in dict.fromkeys(action.choices.values()):
            yield from commands_of(sub)


def described(parser: argparse.ArgumentParser) -> str:
    """A section for each command of ``parser``."""
    epilog = f"\n```text\n{parser.epilog.strip()}\n```\n" if parser.epilog else ""
    head = f"## {parser.prog}\n\n{parser.description or ''}\n{epilog}"
    return "\n".join([head, *(_command(sub) for sub in commands_of(parser))])


def _command(parser: argparse.ArgumentParser) -> str:
    title = parser.prog.removeprefix("python -m ")
    rows = [row for action in parser._actions if (row := _row(action))]
    text = table(("argument", "", "default"), rows) if rows else ""
    return f"### {title}\n\n{from_docstring(parser.description)}\n\n```text\n{_usage(parser)}\n```\n\n{text}"


def _usage(parser: argparse.ArgumentParser) -> str:
    formatter = argparse.HelpFormatter(parser.prog, width=100)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups, prefix="")
    return formatter.format_help().strip()


def _row(action: argparse.Action) -> tuple[str, str, str] | None:
    if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
        return None
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if action.choices and not metavar:
        metavar = "{" + ",".join(map(str, action.choices)) + "}"
    takes = "" if action.nargs == 0 else metavar or action.dest.upper()
    name = f"{', '.join(action.option_strings)} {takes}".strip() if action.option_strings else takes
    needed = action.required and bool(action.option_strings)
    default = (
        "required"
        if needed
        else ""
        if action.default in (None, [], False, argparse.SUPPRESS)
        else f"`{action.default}`"
    )
    return f"`{name}`", (action.help or "").replace("%(default)s", str(action.default)), default
