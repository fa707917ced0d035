"""Bars where somebody watches, lines where somebody reads later."""

import re

import pytest

from trainer.terminal.progress import clock

WORK = """
import time
from trainer.terminal.progress import Bar, display
bar = Bar("staged", "samples")
for done in range(1, 13):
    time.sleep(0.1)
    bar(done, 12, "note")
    if done == 6:
        print("something else")
display().close()
"""
ESCAPE, BAR = "\033[", "━"


@pytest.mark.slow
def test_on_a_terminal_a_bar_is_drawn_and_taken_away_and_what_is_printed_stands_above_it(watched):
    seen = watched("-c", WORK)
    assert seen.code == 0
    assert BAR in seen.text
    assert "something else" in seen.text
    last = seen.text.splitlines()[-1]
    assert "staged 12 samples in " in last
    assert BAR not in last


@pytest.mark.slow
def test_a_terminal_without_colours_gets_a_bar_in_none(watched):
    seen = watched("-c", WORK, NO_COLOR="1")
    assert BAR in seen.text
    assert "\033[3" not in seen.text.replace("\033[?25l", "").replace("\033[?25h", "")


@pytest.mark.slow
def test_a_dumb_terminal_gets_lines_without_escape_codes(watched):
    seen = watched("-c", WORK, TERM="dumb")
    assert ESCAPE not in seen.text
    assert BAR not in seen.text
    assert "staged 12 samples in " in seen.text


@pytest.mark.slow
@pytest.mark.parametrize("environment_of_colours", [{}, {"FORCE_COLOR": "1"}])
def test_a_pipe_gets_no_bar_and_only_the_last_line_of_what_is_quick(piped, environment_of_colours):
    done = piped("-c", WORK, **environment_of_colours)
    assert re.fullmatch(r"something else\n  staged 12 samples in \d\.\d s  note\n", done.stdout)
    assert done.stderr == ""


@pytest.mark.slow
def test_a_log_gets_lines_with_what_is_left(piped):
    work = WORK.replace("0.1", "0.5").replace("range(1, 13)", "range(1, 12)")
    lines = piped("-c", work).stdout.splitlines()
    assert lines[1].startswith("  staged 11/12 samples (92%)  ") or lines[1].startswith(
        "  staged 10/12 samples (83%)  "
    )
    assert " s left  note" in lines[1]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (187, "3:07"), (3753, "1:02:33")])
def test_times_read_as_a_clock_shows_them(seconds, text):
    assert clock(seconds) == text
