"""Who gets colours: https://no-color.org and https://force-color.org."""

import io

import pytest

from trainer.terminal.colours import error_style, has_colours, painted


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "colours"),
    [
        (Terminal, {"TERM": "xterm"}, True),
        (Terminal, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (Terminal, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (Terminal, {"TERM": "dumb"}, False),
        (io.StringIO, {"TERM": "xterm"}, False),
        (io.StringIO, {"TERM": "xterm", "FORCE_COLOR": "1"}, True),
        (io.StringIO, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_unless_the_environment_says_otherwise(stream, environment, colours):
    assert has_colours(stream(), environment) is colours


def test_only_the_word_error_is_red(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert error_style("error: no such recipe: 1 problem") == "\033[1;31merror:\033[0m no such recipe: 1 problem"
    assert painted("FAILED", "red") == "\033[31mFAILED\033[0m"
