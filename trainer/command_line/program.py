"""All commands, by what people do."""

import os

from trainer.command_line.copying import COPY_CHECKPOINTS, TRACK
from trainer.command_line.crossval import CROSSVAL
from trainer.command_line.data import IMPORT, PROFILE, SCENES, SHARD
from trainer.command_line.judge import EVALUATE, EXPORT, SCORE
from trainer.command_line.train import TRAIN
from trainer.contract.errors import ContractError
from trainer.contract.exit_codes import BAD_INPUT, DONE, FAILED, GATE_FAILED, INTERRUPTED, NOBODY_READS, STOPPED
from trainer.terminal.answers import Refusal, refusal_of
from trainer.terminal.commands import Example, Program
from trainer.terminal.completion import completion_of

EXIT_CODES = {
    DONE: "done",
    FAILED: "anything that the other codes do not say",
    BAD_INPUT: "bad input: the report says what, where, and what was expected",
    GATE_FAILED: "a gate inside the training ended it; it says which and why",
    STOPPED: "stopped by SIGTERM with a checkpoint saved; the same command goes on there",
    INTERRUPTED: "interrupted (Ctrl-C)",
    NOBODY_READS: "whoever read the output has gone, as in … | head -1",
}
NOTES = "With --json a command prints one JSON document on standard output and all else on standard error."


def _refusal(error: Exception) -> Refusal | None:
    """What is told of an error that is no fault of ours."""
    return refusal_of(error) if isinstance(error, ContractError) else None


def _leads() -> bool:
    """Of the ranks of a training the first speaks for all."""
    return os.environ.get("RANK", "0") == "0"


PROGRAM: Program = Program(
    package="trainer",
    script="trainer",
    text="Train, evaluate and export perception models from curated manifests.",
    groups={
        "data": [SCENES, IMPORT, SHARD, PROFILE],
        "training": [TRAIN, CROSSVAL, COPY_CHECKPOINTS, TRACK],
        "models": [EVALUATE, EXPORT, SCORE],
        "shell": [completion_of("trainer", lambda: PROGRAM)],
    },
    exit_codes=EXIT_CODES,
    examples=(
        Example("scenes --out deliveries/scenes", "synthetic data to begin with"),
        Example(
            "torchrun --nproc-per-node 2 -m trainer train recipes/scenes_multitask.yaml --data deliveries/scenes"
            " --run-dir runs/first",
            "two ranks; the same command goes on where it was left",
        ),
        Example("evaluate runs/first/best.pt --data deliveries/scenes --out runs/first/evaluation"),
        Example("train --help", "each command explains itself, with examples"),
    ),
    notes=NOTES,
    refusal=_refusal,
    speaks=_leads,
)
