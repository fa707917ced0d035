"""The exit codes of both command lines. What each means to a person is in the table of its own program."""

DONE = 0
"""All that was asked for was done."""

FAILED = 1
"""It did not work out: a run or a gate failed, a place cannot be reached, or the program is at fault."""

BAD_INPUT = 2
"""The input was refused; the report of its problems is on standard error."""

GATE_FAILED = 3
"""A gate inside a training ended it; ``failure.json`` has the gate's verdict."""

STOPPED = 75
"""Told to stop, and saved a checkpoint (BSD's EX_TEMPFAIL: try again)."""

INTERRUPTED = 130
"""Ctrl-C, as a shell tells of SIGINT."""

NOBODY_READS = 141
"""Whoever read standard output has gone (``… | head -1``), as a shell tells of SIGPIPE."""
