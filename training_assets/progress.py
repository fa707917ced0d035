"""How a run reads in a terminal: when an asset begins and ends, and what it says. Dagster's own log has the rest."""

import logging
import sys
import threading
import time
from typing import Any

import dagster as dg

from trainer.terminal.colours import painted, verdict
from trainer.terminal.progress import Bar
from training_assets.check_names import CHECKS, protected_check

GATES = (*CHECKS.values(), protected_check(""))
STARTED = time.monotonic()
ENDS = (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED)


class ProgressHandler(logging.Handler):
    """Prints a line for each step's begin and end, each check's outcome and each message of an asset."""

    def __init__(self, steps: int = 0) -> None:
        super().__init__()
        self.main = threading.main_thread().ident
        self.bar, self.steps, self.done = Bar("assets", say=lambda text: None), steps, 0

    def emit(self, record: logging.LogRecord) -> None:
        # What a launched command says through Pipes arrives on a reader thread, and is in its echoed output already.
        if record.thread != self.main:
            return
        text = self.line(record)
        if text:
            show(text)
        self.count(getattr(record, "dagster_meta", None) or {})

    def count(self, details: dict[str, Any]) -> None:
        """On a terminal, how many steps of the run are done, and which one is at work."""
        event: dg.DagsterEvent | None = details.get("dagster_event")
        if event is None or not self.steps or not self.bar.draws:
            return
        if event.is_step_success:
            self.done += 1
        if event.is_step_start or event.is_step_success:
            self.bar(self.done, self.steps, (event.step_key or "").replace("__", "/"))
        elif event.is_job_event and event.event_type in ENDS:
            self.bar.close()

    def line(self, record: logging.LogRecord) -> str | None:
        details = getattr(record, "dagster_meta", None) or {}
        message = str(details.get("orig_message") or record.getMessage())
        return line_of(details.get("dagster_event"), details.get("step_key"), record.levelno, message)


def line_of(event: dg.DagsterEvent | None, step_key: str | None, level: int, message: str) -> str | None:
    """How an event, or without one a message of a step, reads; None: it is not shown."""
    if event is None:
        return f"  {message}" if step_key and level >= logging.INFO else None
    return event_line(event)


def event_line(event: dg.DagsterEvent) -> str | None:
    step = (event.step_key or "").replace("__", "/")
    kind = event.event_type
    if kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        found = event.asset_check_evaluation_data
        return f"  check {found.check_name}: {verdict(found.passed, 'passed' if found.passed else 'FAILED')}"
    if step.endswith(GATES) and kind != dg.DagsterEventType.STEP_FAILURE:
        return None
    if kind == dg.DagsterEventType.STEP_START:
        return f"{step} …"
    if kind == dg.DagsterEventType.STEP_SUCCESS:
        return f"{step} done in {event.step_success_data.duration_ms / 1000:.1f} s"
    if kind == dg.DagsterEventType.STEP_UP_FOR_RETRY:
        return f"{step} failed and is tried again"
    if kind == dg.DagsterEventType.STEP_FAILURE:
        return f"{step} {painted('FAILED', 'red')}"
    return None


def show(text: str) -> None:
    print(f"{time.monotonic() - STARTED:6.0f} s  {text}", file=sys.stdout, flush=True)


@dg.logger({}, "Begin and end of each asset, and what it says.")
def progress_logger(init_context: dg.InitLoggerContext) -> logging.Logger:
    logger = logging.getLogger(f"training_assets.run.{init_context.run_id}")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    job = init_context.job_def
    logger.handlers = [ProgressHandler(len(job.nodes) if job is not None else 0)]
    return logger
