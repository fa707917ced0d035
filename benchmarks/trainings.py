"""What the benchmarks of accuracy share: a training of a recipe by the command that people use, and its evaluation."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.contract.eval_report import EvalReport
from trainer.contract.results import TrainResult

RECIPES = Path(__file__).parent / "recipes"


def parser(text: str | None, data: Path, help_text: str) -> argparse.ArgumentParser:
    """The command line of a benchmark that ``text`` describes; ``data`` is where its source lies if not told."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("source", nargs="?", type=Path, default=data, help=help_text)
    made.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override a field of the recipe")
    return made


def trainer(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "trainer", *arguments], check=True)


def train(
    recipe: Path, data: Path, run_dir: Path, processes: int = 2, overrides: Sequence[str] = ()
) -> tuple[TrainResult, float]:
    """The result of a whole training, and the seconds of the whole command."""
    sets = [part for override in overrides for part in ("--set", override)]
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    command = [sys.executable, *torchrun, "-m", "trainer", "train", str(recipe)]
    began = time.monotonic()
    subprocess.run([*command, "--data", str(data), "--run-dir", str(run_dir), *sets], check=True)
    return TrainResult.model_validate_json((run_dir / "result.json").read_bytes()), time.monotonic() - began


def evaluate(checkpoint: Path, data: Path, out: Path, splits: Sequence[str]) -> EvalReport:
    chosen = [part for split in splits for part in ("--split", split)]
    trainer("evaluate", str(checkpoint), "--data", str(data), "--out", str(out), *chosen)
    return EvalReport.model_validate_json((out / "eval_report.json").read_bytes())


def curve(result: TrainResult, metric: str) -> list[dict[str, Any]]:
    """The metric on val after each epoch that has it."""
    values = [(epoch.epoch + 1, epoch.metrics.get(metric)) for epoch in result.epochs]
    return [{"epoch": epoch, metric: round(value, 4)} for epoch, value in values if value is not None]


def rounded(values: dict[str, Any], digits: int = 4) -> dict[str, Any]:
    return json.loads(json.dumps(values), parse_float=lambda text: round(float(text), digits))
