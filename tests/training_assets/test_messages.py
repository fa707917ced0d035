"""Pipes messages are read whole, whatever moment the writer is in."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from training_assets.launchers.messages import WholeLineReader


class Handler:
    """What the reader needs of Dagster's handler."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.problems: list[str] = []

    def handle_message(self, message: Any) -> None:
        self.messages.append(message["text"])

    def report_pipes_framework_exception(self, origin: str, exc_info: Any) -> None:
        self.problems.append(origin)


def line(text: str) -> str:
    return json.dumps({"text": text}) + "\n"


@pytest.mark.slow
def test_a_line_that_is_half_written_when_it_is_read_arrives_whole(tmp_path: Path) -> None:
    handler, path = Handler(), tmp_path / "messages.jsonl"
    with WholeLineReader(path, str(path)).read_messages(handler), open(path, "a") as writer:  # type: ignore[arg-type]
        for half in (line("first")[:9], line("first")[9:] + line("second")[:3], line("second")[3:]):
            writer.write(half)
            writer.flush()
            time.sleep(0.5)
    assert handler.messages == ["first", "second"]
    assert not handler.problems


def test_what_is_written_just_before_the_end_is_read_and_an_unfinished_line_is_dropped(tmp_path: Path) -> None:
    handler, path = Handler(), tmp_path / "messages.jsonl"
    with WholeLineReader(path, str(path)).read_messages(handler):  # type: ignore[arg-type]
        path.write_text(line("last") + line("cut off")[:-5])
    assert handler.messages == ["last"]


def test_a_line_that_is_no_message_does_not_silence_those_after_it(tmp_path: Path) -> None:
    handler, path = Handler(), tmp_path / "messages.jsonl"
    with WholeLineReader(path, str(path)).read_messages(handler):  # type: ignore[arg-type]
        path.write_text("no json\n" + line("after"))
    assert handler.messages == ["after"]
    assert len(handler.problems) == 1
