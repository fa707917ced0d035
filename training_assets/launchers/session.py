"""One launched attempt inside a Dagster step: watched, echoed, stopped with the step, gone on with after its death.

The handle of an attempt is kept in its directory before anything is started. A step that is tried again, by Dagster or
by a person, finds there what still runs, or ended while nobody watched, and goes on with that instead of training
twice. What became of an attempt is kept beside it once a step has acted on it.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import dagster as dg

from trainer.contract.errors import ContractError
from trainer.contract.files import write_json
from trainer.contract.results import FailureKind
from training_assets.launchers.base import Handle, Launcher, LaunchFailed, LaunchSpec, Offset, Status
from training_assets.launchers.ends import end_of, hung
from training_assets.launchers.messages import SharedContext, WholeLineReader
from training_assets.launchers.outcomes import OUTCOMES, RETRIES
from training_assets.observability import Trip

LAST_LINES = 30
HANDLE_FILE, OUTCOME_FILE = "handle.json", "outcome.json"
DEADLINE_SLACK = 30.0
"""Seconds that the nodes and the backend, which know the deadline too, have to end it themselves."""

SILENCE_SECONDS = 1800.0
"""How long a backend may not say where an attempt stands; then the step gives up, and stops what it can."""

KIND_OF_LIMIT: dict[str, FailureKind] = {
    "max_cost_usd": "cost",
    "idle_gpu_minutes": "no_progress",
    "no_progress_minutes": "no_progress",
}


class Step(Protocol):
    """What is asked of the Dagster step that a launch is part of: an asset's or an op's context is one."""

    @property
    def log(self) -> dg.DagsterLogManager: ...

    @property
    def run_id(self) -> str: ...


class Observer(Protocol):
    """What looks at an attempt while it is under way, once a poll."""

    def poll(self, now: float, cost_usd: float | None, waiting: bool) -> Trip | None:
        """The limit that is passed, if one is; what it raises ends the step, and all nodes with it.

        ``cost_usd`` is what all attempts have cost so far; ``waiting``: its nodes have not all started.
        """
        ...


Observe = Callable[[LaunchSpec], Observer | None]

TORCHRUN_NOISE = re.compile(r"^(W\d{4} .*torch/distributed|\*{5,}|Setting OMP_NUM_THREADS)")


@dataclass(frozen=True)
class Spent:
    """What an attempt, or all of a run, took: seconds of all its nodes, GPU hours, US dollars (None: no price)."""

    seconds: float = 0.0
    gpu_hours: float = 0.0
    usd: float | None = None

    def __add__(self, other: "Spent") -> "Spent":
        usd = None if self.usd is None and other.usd is None else (self.usd or 0.0) + (other.usd or 0.0)
        return Spent(self.seconds + other.seconds, self.gpu_hours + other.gpu_hours, usd)


def unobserved(spec: LaunchSpec) -> Observer | None:
    """Nothing but its end is of interest."""
    return None


def new_attempt() -> str:
    """A name for one try of a run: letters, digits and hyphens, so that every backend can use it in its own names.

    Tries of one run are told apart by the millisecond, and sort by it.
    """
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{time.strftime('%Y%m%dt%H%M%S', time.gmtime(seconds))}{milliseconds:03}-{uuid4().hex[:6]}"


def run_to_end(context: Step, launcher: Launcher, spec: LaunchSpec, observe: Observe = unobserved) -> Spent:
    """Launch ``spec``, or go on with the attempt at it that is under way, and wait for its success; its log is echoed
    into the step's output. Returns what all attempts at the run took. ``observe`` makes what looks at an attempt while
    it runs, and may find a limit that ends it.

    Whatever ends the step early (cancelling it in Dagster, an interrupt) ends all nodes too, and is raised again as it
    was. Retries are asked for here and not with a ``RetryPolicy``: under a policy Dagster tries a step again that was
    cancelled. ``outcomes.py`` says what is tried again.

    Raises:
        dg.RetryRequested: it ended in a way that another try may mend: a training resumes.
        dg.Failure: another try would repeat it, or there were enough; says how and what to do, with the last lines of
            the log of the rank that failed.
    """
    try:
        handle = _under_way(context, launcher, spec) or _launched(context, launcher, spec)
    except LaunchFailed as failed:
        _keep_outcome(context, spec, failed.status, Spent())
        raise _retry_or_failure(context, spec, failed.status) from None
    try:
        status = _watched(context, launcher, handle, observe(handle.spec))
    except BaseException as error:
        context.log.warning(f"stopping {spec.what} because of {type(error).__name__}")
        launcher.stop(handle)
        cancelled = Status("interrupted", reason=type(error).__name__, kind="cancelled")
        _keep_outcome(context, handle.spec, cancelled, _spent(launcher, handle))
        raise
    # A leader that ended may have left processes behind, and a node that ended badly its peers.
    launcher.stop(handle)
    _keep_outcome(context, handle.spec, status, _spent(launcher, handle))
    if status.state != "succeeded":
        raise _retry_or_failure(context, handle.spec, status)
    return spent_on(spec.run_dir)


def run_with_pipes(
    context: dg.AssetExecutionContext, launcher: Launcher, spec: LaunchSpec, observe: Observe = unobserved
) -> Spent:
    """:func:`run_to_end` with a Dagster Pipes session, whose messages go to the run's log as they are written.

    The injector and the reader are made for this attempt alone: a reader that was used before reads nothing. The
    messages of an attempt that this step goes on with are read from their beginning.
    """
    if (going_on := _attempts_under_way(spec)) and going_on[-1].spec.arguments == spec.arguments:
        spec = going_on[-1].spec
    spec.attempt_dir.mkdir(parents=True, exist_ok=True)
    context_file, messages = spec.attempt_dir / "context.json", spec.attempt_dir / "messages.jsonl"
    injector = SharedContext(context_file, launcher.there(str(context_file)))
    reader = WholeLineReader(messages, launcher.there(str(messages)))
    with dg.open_pipes_session(context=context, context_injector=injector, message_reader=reader) as session:
        environment = {**spec.environment, **session.get_bootstrap_env_vars()}
        spent = run_to_end(context, launcher, replace(spec, environment=environment), observe)
    if reported := session.get_results(implicit_materializations=False):
        raise dg.Failure(f"{spec.what} reported results itself, expected log messages only: {reported}")
    return spent


def spent_on(run_dir: Path) -> Spent:
    """What all attempts at a run took that a step has seen the end of."""
    outcomes = [json.loads(path.read_bytes()) for path in run_dir.glob(f"attempts/*/{OUTCOME_FILE}")]
    return sum((Spent(**outcome["spent"]) for outcome in outcomes), Spent())


def spent_by_now(launcher: Launcher, spec: LaunchSpec, now: float) -> Spent:
    """What the attempt that is under way took so far."""
    seconds, estimate = now - json.loads(_handle_path(spec).read_bytes())["started_at"], launcher.estimate(spec)
    return Spent(seconds * estimate.nodes, estimate.gpu_hours(seconds), estimate.cost(seconds))


def _launched(context: Step, launcher: Launcher, spec: LaunchSpec) -> Handle:
    estimate = launcher.estimate(spec)
    price = "" if estimate.usd_per_hour is None else f", {estimate.usd_per_hour:.2f} US dollars an hour"
    context.log.info(f"launching {spec.what} on {estimate.nodes} × {estimate.instance_type}{price}: log in {spec.log}")
    # Kept before anything is started: whoever finds it asks the backend whether that came about.
    _keep_handle(launcher, Handle("", spec, time.time()))
    try:
        handle = launcher.launch(spec)
    except ContractError as error:
        _handle_path(spec).unlink()
        raise dg.Failure(f"{spec.what} was not launched: {error}", allow_retries=False) from None
    except LaunchFailed:
        raise
    except BaseException:  # cancelled meanwhile: some of it may have started
        if begun := launcher.attach(Handle("", spec, time.time())):
            launcher.stop(begun)
        raise
    _keep_handle(launcher, handle)
    return handle


def _under_way(context: Step, launcher: Launcher, spec: LaunchSpec) -> Handle | None:
    """The newest attempt at this run that no step has seen the end of; others of that kind are stopped.

    Raises:
        dg.Failure: it was launched by another backend, which this launcher cannot ask.
    """
    found = None
    for kept in reversed(_attempts_under_way(spec)):
        _refuse_another_backend(launcher, kept.spec)
        attached = launcher.attach(kept)
        if attached is None:
            continue
        if found is None and kept.spec.arguments == spec.arguments:
            context.log.info(f"going on with attempt {kept.spec.attempt} of {spec.what}, which is under way")
            found = attached
        else:
            context.log.warning(f"stopping attempt {kept.spec.attempt} of {spec.what}: another one takes its place")
            launcher.stop(attached)
            _keep_outcome(context, kept.spec, Status("interrupted", kind="cancelled"), _spent(launcher, attached))
    return found


def _refuse_another_backend(launcher: Launcher, spec: LaunchSpec) -> None:
    theirs = json.loads(_handle_path(spec).read_bytes())["launcher"]
    if launcher.name != theirs:
        advice = f"Run it again under the profile that launched it, or end it there and delete {_handle_path(spec)}."
        what = (
            f"attempt {spec.attempt} of {spec.what} is under way on {theirs}, and {launcher.name} cannot tell its end"
        )
        raise dg.Failure(f"{what}. {advice}", allow_retries=False)


def _attempts_under_way(spec: LaunchSpec) -> list[Handle]:
    """Attempts at the run of ``spec`` that were launched and have no outcome yet, the oldest first."""
    handles = []
    for path in sorted(spec.run_dir.glob(f"attempts/*/{HANDLE_FILE}")):
        if not path.with_name(OUTCOME_FILE).exists():
            kept = json.loads(path.read_bytes())
            own = replace(spec, attempt=path.parent.name, arguments=tuple(kept["arguments"]))
            handles.append(Handle(kept["id"], own, kept["started_at"], tuple(kept["nodes"])))
    return handles


def _keep_handle(launcher: Launcher, handle: Handle, waits_for: str = "") -> None:
    kept = {"id": handle.id, "nodes": handle.nodes, "started_at": handle.started_at, "waits_for": waits_for,
            "arguments": handle.spec.arguments, "launcher": launcher.name,
            "estimate": asdict(launcher.estimate(handle.spec))}  # fmt: skip
    write_json(_handle_path(handle.spec), kept)


def _handle_path(spec: LaunchSpec) -> Path:
    return spec.attempt_dir / HANDLE_FILE


def _keep_outcome(context: Step, spec: LaunchSpec, status: Status, spent: Spent) -> None:
    outcome = {"dagster_run_id": context.run_id, "state": status.state, "kind": status.kind, "reason": status.reason,
               "ended_at": time.time(), "spent": asdict(spent)}  # fmt: skip
    write_json(spec.attempt_dir / OUTCOME_FILE, outcome)


def _spent(launcher: Launcher, handle: Handle) -> Spent:
    estimate = launcher.estimate(handle.spec)
    billed = launcher.seconds_billed(handle)
    seconds = time.time() - handle.started_at if billed is None else billed
    return Spent(seconds * estimate.nodes, estimate.gpu_hours(seconds), estimate.cost(seconds))


def _watched(context: Step, launcher: Launcher, handle: Handle, observer: Observer | None) -> Status:
    offset: Offset = ()
    waited_for, began = "", 0.0
    asked = _Patient(launcher, context.log.warning)
    while True:
        status = asked.poll(handle)
        text, offset = launcher.logs(handle, offset, last=status.state != "running")
        _echo(text)
        if status.state != "running":
            return status
        if status.waits_for != waited_for:
            waited_for = status.waits_for
            context.log.info(waited_for or f"all nodes of {handle.spec.what} have started")
            _keep_handle(launcher, handle, waited_for)
        began = began or (0.0 if waited_for else time.time())
        if passed := _passed_limit(launcher, handle, began, observer):
            launcher.stop(handle)
            return passed
        time.sleep(launcher.poll_seconds)


class _Patient:
    """A backend that cannot be asked says nothing of the training, which goes on: only long silence is a failure."""

    def __init__(self, launcher: Launcher, warn: Callable[[str], None]) -> None:
        self.launcher, self.warn = launcher, warn
        self.answered = time.monotonic()

    def poll(self, handle: Handle) -> Status:
        told = False
        while True:
            try:
                status = self.launcher.poll(handle)
            except Exception as error:  # each backend has its own for this
                if time.monotonic() - self.answered > SILENCE_SECONDS:
                    raise
                if not told:
                    self.warn(f"the backend does not say where {handle.spec.what} stands: {error}")
                told = True
                time.sleep(self.launcher.poll_seconds)
            else:
                self.answered = time.monotonic()
                return status


def _passed_limit(launcher: Launcher, handle: Handle, began: float, observer: Observer | None) -> Status | None:
    """The status of an attempt that is to be stopped: its time is over, or a limit of the profile is passed.

    ``began`` is 0 while its nodes have not all started.
    """
    spec, now = handle.spec, time.time()
    if began and spec.deadline is not None and now - began > spec.deadline + DEADLINE_SLACK:
        return hung(spec)
    if observer is None:
        return None
    cost = launcher.estimate(spec).cost(now - handle.started_at)
    trip = observer.poll(now, None if cost is None else cost + (spent_on(spec.run_dir).usd or 0.0), not began)
    if trip is None:
        return None
    return Status("failed", None, f"{spec.what} was stopped: {trip.message}", KIND_OF_LIMIT[trip.limit])


def _echo(text: str) -> None:
    for line in text.splitlines():
        line = line.removeprefix("[rank 0] ")  # the leading rank speaks for all
        if not TORCHRUN_NOISE.match(line):
            sys.stdout.write(f"    {line}\n")
    sys.stdout.flush()


def _retry_or_failure(context: Step, spec: LaunchSpec, status: Status) -> dg.RetryRequested | dg.Failure:
    failure = _failure(status, spec)
    outcome = OUTCOMES[status.kind or "crash"]
    spent = sum(OUTCOMES[kind].budget == outcome.budget for kind in _ends_of(context, spec))
    if spent > RETRIES[outcome.budget]:
        return failure
    context.log.error(f"{failure.description}\nTrying again ({spent} of {RETRIES[outcome.budget]} tries).")
    # How often is decided by budget: Dagster's own count, of them all, must not end it earlier.
    retry = dg.RetryRequested(max_retries=sum(RETRIES.values()), seconds_to_wait=outcome.wait)
    retry.__cause__ = failure
    return retry


def _ends_of(context: Step, spec: LaunchSpec) -> list[FailureKind]:
    """How the attempts at the run ended badly that this Dagster run made."""
    outcomes = [json.loads(path.read_bytes()) for path in spec.run_dir.glob(f"attempts/*/{OUTCOME_FILE}")]
    return [
        one["kind"] or "crash"
        for one in outcomes
        if one["dagster_run_id"] == context.run_id and one["state"] != "succeeded"
    ]


def _failure(status: Status, spec: LaunchSpec) -> dg.Failure:
    log = status.log or spec.log
    end = "\n".join(end_of(log).splitlines()[-LAST_LINES:])
    kind = status.kind or "crash"
    return dg.Failure(
        description=f"{status.reason}\nThe last lines of {log}:\n{end}" if end else status.reason,
        metadata={
            "exit_code": status.exit_code if status.exit_code is not None else -1,
            "last_lines": dg.MetadataValue.md(f"```\n{end}\n```"),
            "kind": kind,
            "meaning": OUTCOMES[kind].meaning,
            "log": dg.MetadataValue.path(str(spec.log)),
        },
        allow_retries=False,
    )
