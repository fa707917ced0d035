"""One launched command inside one Dagster step: heart-beat, log, Pipes session, and what its end means.

Every asset that launches goes through here, whatever the launcher.
"""

import re
import sys
import time
from dataclasses import replace
from uuid import uuid4

import dagster as dg

from trainer.contract.attempts import BAD_INPUT, missing_ranks
from trainer.contract.errors import ContractError
from trainer.contract.results import FINAL_FAILURES
from training_assets.launchers.base import Handle, Launcher, LaunchSpec, Status
from training_assets.launchers.ends import end_of
from training_assets.launchers.messages import WholeLineReader
from training_assets.policies import CRASH_RETRIES, CRASH_RETRY_SECONDS

HEART_BEAT = 0.2
LAST_LINES = 30
TORCHRUN_NOISE = re.compile(r"^(W\d{4} .*torch/distributed|\*{5,}|Setting OMP_NUM_THREADS)")


def new_attempt() -> str:
    """A name for one try of a run."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid4().hex[:6]}"


def run_to_end(context: dg.AssetExecutionContext, launcher: Launcher, spec: LaunchSpec) -> None:
    """Launch ``spec`` and wait for its success; its log is echoed into the step's output.

    Whatever ends the step early (cancelling it in Dagster, an interrupt, a crash here) ends the processes too, and
    is raised again as it was. Retries are asked for here and not with a ``RetryPolicy``: under a policy Dagster
    tries a step again that was cancelled.

    Raises:
        dg.RetryRequested: it crashed, or was stopped by somebody else: the next try resumes.
        dg.Failure: it failed in a way that another try would repeat, or too often; says how and what to do, with
            the last lines of the log of the rank that failed.
    """
    context.log.info(f"launching {spec.what}: log in {spec.log}")
    try:
        handle = launcher.launch(spec)
    except ContractError as error:
        raise dg.Failure(f"{spec.what} was not launched: {error}", allow_retries=False) from None
    try:
        status = _watch(launcher, handle)
    except BaseException as error:
        context.log.warning(f"stopping {spec.what} because of {type(error).__name__}")
        launcher.stop(handle)
        raise
    # A leader that ended may have left processes behind.
    launcher.stop(handle)
    if status.state != "succeeded":
        failure = _failure(status, spec)
        final = status.kind in FINAL_FAILURES or status.exit_code == BAD_INPUT
        if final or context.retry_number >= CRASH_RETRIES:
            raise failure
        context.log.error(str(failure.description))
        raise dg.RetryRequested(CRASH_RETRIES, CRASH_RETRY_SECONDS) from failure


def run_with_pipes(context: dg.AssetExecutionContext, launcher: Launcher, spec: LaunchSpec) -> None:
    """:func:`run_to_end` with a Dagster Pipes session, whose messages go to the run's log as they are written.

    The injector and the reader are made for this attempt alone: a reader that was used before reads nothing.
    """
    spec.attempt_dir.mkdir(parents=True, exist_ok=True)
    injector = dg.PipesFileContextInjector(str(spec.attempt_dir / "context.json"))
    reader = WholeLineReader(spec.attempt_dir / "messages.jsonl")
    with dg.open_pipes_session(context=context, context_injector=injector, message_reader=reader) as session:
        environment = {**spec.environment, **session.get_bootstrap_env_vars()}
        run_to_end(context, launcher, replace(spec, environment=environment))
    if reported := session.get_results(implicit_materializations=False):
        raise dg.Failure(f"{spec.what} reported results itself, expected log messages only: {reported}")


def _watch(launcher: Launcher, handle: Handle) -> Status:
    offset = 0
    while True:
        status = launcher.poll(handle)
        text, offset = launcher.logs(handle, offset)
        _echo(text)
        if status.state != "running":
            return status
        deadline = handle.spec.deadline
        if deadline is not None and time.time() - handle.started_at > deadline:
            launcher.stop(handle)
            return _hung(handle.spec, deadline)
        time.sleep(HEART_BEAT)


def _hung(spec: LaunchSpec, deadline: float) -> Status:
    limit = spec.launch.max_run_seconds if spec.launch else None
    reason = (
        f"{spec.what} was stopped: it ran for more than {deadline:.0f} s, launch.max_run_seconds {limit:.0f} and "
        f"{spec.deadline_grace:.0f} s to start and to end. It should have ended itself, so it hung. "
        + missing_ranks(spec.attempt_dir, len(list(spec.attempt_dir.glob("heartbeat-*"))))
    )
    return Status("deadline", None, reason.strip(), "deadline")


def _echo(text: str) -> None:
    for line in text.splitlines():
        line = line.removeprefix("[rank 0] ")  # the leading rank speaks for all
        if not TORCHRUN_NOISE.match(line):
            sys.stdout.write(f"    {line}\n")
    sys.stdout.flush()


def _failure(status: Status, spec: LaunchSpec) -> dg.Failure:
    log = status.log or spec.log
    end = "\n".join(end_of(log).splitlines()[-LAST_LINES:])
    return dg.Failure(
        description=f"{status.reason}\nThe last lines of {log}:\n{end}",
        metadata={
            "exit_code": status.exit_code if status.exit_code is not None else -1,
            "last_lines": dg.MetadataValue.md(f"```\n{end}\n```"),
            "kind": status.kind or status.state,
            "log": dg.MetadataValue.path(str(spec.log)),
        },
        allow_retries=False,
    )
