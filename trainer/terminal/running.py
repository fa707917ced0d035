"""From a command line to an exit code: nobody sees a traceback of what is no fault of the program."""

import argparse
import contextlib
import os
import select
import sys
import traceback
from collections.abc import Sequence
from typing import TextIO

from trainer.contract.exit_codes import DONE, FAILED, INTERRUPTED, NOBODY_READS
from trainer.terminal import progress
from trainer.terminal.answers import (
    Answer,
    Refusal,
    document_alone,
    error_document,
    show,
    show_refusal,
    write_document,
)
from trainer.terminal.commands import Program, Run
from trainer.terminal.parser import Misused


def carry_out(program: Program, argv: Sequence[str] | None = None) -> int:
    """Do what ``argv`` asks for; the exit code.

    Raises:
        SystemExit: it asks for help, or cannot be understood.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            arguments = program.parser(program.called_as()).parse_args(given)
        except Misused as misused:
            raise SystemExit(_misused(misused, "--json" in given)) from None
        code = _answered(program, arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        # What is left in the buffer would fail once more at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return NOBODY_READS


def _answered(program: Program, arguments: argparse.Namespace) -> int:
    speaks = program.speaks()
    if not getattr(arguments, "json", False):
        answer = _outcome(program, arguments)
        if speaks:
            show(answer)
        return answer.code
    with document_alone() as stream:
        answer = _outcome(program, arguments)
        if speaks:
            write_document(answer.document, stream)
    return answer.code


def _outcome(program: Program, arguments: argparse.Namespace) -> Answer:
    run: Run = arguments.run
    try:
        with contextlib.closing(progress.display()):
            found = run(arguments)
        return found if isinstance(found, Answer) else Answer(code=found)
    except KeyboardInterrupt:
        return _refused(program, Refusal(INTERRUPTED, "interrupted", "interrupted"))
    except BrokenPipeError:
        raise
    except Exception as error:
        known = program.refusal(error)
        return _refused(program, known) if known else _fault(error)


def _fault(error: Exception) -> Answer:
    """Every rank says its own, which may be the cause of all others."""
    text = "".join(traceback.format_exception(error)).rstrip()
    refusal = Refusal(FAILED, f"{type(error).__name__}: {error}", text)
    show_refusal(refusal)
    return Answer(refusal.document, code=refusal.code)


def _refused(program: Program, refusal: Refusal) -> Answer:
    if program.speaks():
        show_refusal(refusal)
    return Answer(refusal.document, code=refusal.code)


def _misused(misused: Misused, as_json: bool, stream: TextIO | None = None) -> int:
    advice = f"{misused.help} has examples"
    show_refusal(Refusal(misused.code, str(misused), f"error: {misused}\n{misused.usage}\n{advice}"))
    if as_json:
        write_document(error_document(str(misused), advice=advice), stream or sys.stdout)
    return misused.code or DONE


def _nobody_reads() -> bool:
    """Whether it is standard output whose reader has gone, and not some other pipe or socket."""
    asked = select.poll()
    asked.register(1, 0)
    return any(events & select.POLLERR for _, events in asked.poll(0))
