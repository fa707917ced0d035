"""Reading the Pipes messages that a launched command appends to a file.

Dagster's own file reader parses what it finds at the end of the file, also when the writer is half through a line;
one such moment ends its thread, and everything said later is lost. This one takes whole lines only.
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.pipes.context import PipesMessageHandler
from dagster_pipes import (
    PipesContextData,
    PipesDefaultContextLoader,
    PipesDefaultMessageWriter,
    PipesOpenedData,
    PipesParams,
)

TICK = 0.2


class SharedContext(dg.PipesFileContextInjector):
    """Writes the context to ``path``, which the launched command knows as ``there``."""

    def __init__(self, path: Path, there: str) -> None:
        super().__init__(str(path))
        self.there = there

    @contextmanager
    def inject_context(self, context: PipesContextData) -> Iterator[PipesParams]:
        with super().inject_context(context):
            yield {PipesDefaultContextLoader.FILE_PATH_KEY: self.there}


class WholeLineReader(dg.PipesMessageReader):
    """Tails ``path``, which the launched command knows as ``there``; a last line that a killed writer left unfinished
    is dropped. For one attempt.
    """

    def __init__(self, path: Path, there: str) -> None:
        self.path, self.there = path, there

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        self.path.touch()
        ended = threading.Event()
        thread = threading.Thread(target=self._tail, args=(handler, ended), daemon=True)
        thread.start()
        try:
            yield {PipesDefaultMessageWriter.FILE_PATH_KEY: self.there}
        finally:
            ended.set()
            thread.join()

    def on_opened(self, opened_payload: PipesOpenedData) -> None:
        """Nothing to do: there is one writer, and its place is known."""

    def no_messages_debug_text(self) -> str:
        return f"Looked for messages in {self.path}."

    def _tail(self, handler: PipesMessageHandler, ended: threading.Event) -> None:
        rest = b""
        with open(self.path, "rb") as stream:
            while True:
                last = ended.wait(TICK)  # asked before reading: what is written before the end is read after it
                *lines, rest = (rest + stream.read()).split(b"\n")
                for line in lines:
                    self._handle(handler, line)
                if last:
                    return

    def _handle(self, handler: PipesMessageHandler, line: bytes) -> None:
        try:
            handler.handle_message(json.loads(line))
        except Exception:
            handler.report_pipes_framework_exception(f"message {line[:200]!r}", sys.exc_info())
