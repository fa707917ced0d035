"""All commands, by what people do."""

from trainer.contract.errors import ContractError
from trainer.contract.exit_codes import BAD_INPUT, DONE, FAILED, INTERRUPTED, NOBODY_READS
from trainer.terminal.answers import Refusal, refusal_of
from trainer.terminal.commands import Example, Program
from trainer.terminal.completion import completion_of
from training_assets.command_line.completed import COMPLETED
from training_assets.command_line.data import DELIVER, RESTORE
from training_assets.command_line.demo import DEMO, DEMO_SWEEP
from training_assets.command_line.image import IMAGE
from training_assets.command_line.look import RUNS, STATUS, SUMMARY
from training_assets.command_line.profile import PROFILE
from training_assets.command_line.release import EVALUATE, LINEAGE, PROMOTE, ROLLBACK
from training_assets.command_line.sweep import SWEEP
from training_assets.command_line.train import TRAIN
from training_assets.command_line.tune import TUNE
from training_assets.command_line.ui import UI

EXIT_CODES = {
    DONE: "done",
    FAILED: "a gate or a run failed (the report names it), or the inbox or archive cannot be reached",
    BAD_INPUT: "bad input: the report says what, where, and what was expected",
    INTERRUPTED: "interrupted (Ctrl-C); a run that waits or was started in the queue goes on",
    NOBODY_READS: "whoever read the output has gone, as in … | head -1",
}
NOTES = """\
Places are relative to the repository: deliveries arrive in var/inbox, var/store holds everything that was made,
var/dagster_home is Dagster's own. Environment: TRAINING_ASSETS_PROFILE, _INBOX, _STORE, _ARCHIVE, _RECIPES.
With --json a command prints one JSON document on standard output and all else on standard error."""


def _refusal(error: Exception) -> Refusal | None:
    """What is told of an error that is no fault of ours."""
    if isinstance(error, ContractError):
        return refusal_of(error)
    from training_assets.in_process import Stopped
    from training_assets.stores.inbox import InboxUnreachable
    from training_assets.stores.objects import StoreUnreachable

    told = {InboxUnreachable: "error: the inbox cannot be used", StoreUnreachable: "error: the archive cannot be used"}
    for kind, headline in {**told, Stopped: "stopped"}.items():
        if isinstance(error, kind):
            return Refusal(FAILED, f"{headline.removeprefix('error: ')}: {error}", f"{headline}: {error}")
    return None


PROGRAM: Program = Program(
    package="training_assets",
    script="training-assets",
    text="Drive the asset graph from a terminal: from a delivery to a registered model, and back.",
    groups={
        "first steps": [DEMO, DEMO_SWEEP, UI, SUMMARY],
        "data": [DELIVER, RESTORE],
        "training": [TRAIN],
        "tuning": [SWEEP, TUNE],
        "release": [LINEAGE, EVALUATE, PROMOTE, ROLLBACK],
        "operations": [STATUS, RUNS, PROFILE, IMAGE, completion_of("training-assets", lambda: PROGRAM, COMPLETED)],
    },
    exit_codes=EXIT_CODES,
    examples=(
        Example("demo", "synthetic scenes, from a delivery to a registered model"),
        Example("ui", "Dagster's web page and daemon on the same storage"),
        Example("train scenes_multitask", "the newest window; in the queue where a daemon is at work"),
        Example("status", "what waits, runs and failed, and why"),
        Example("train --help", "each command explains itself, with examples"),
    ),
    notes=NOTES,
    refusal=_refusal,
)
