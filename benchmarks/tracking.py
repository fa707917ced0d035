"""What experiment tracking costs a training: its steps per second with W&B offline, over those without.

The default recipe with everything on, one thread, told each step (``tracking.every: 1``, ten times as often as by
default) and with W&B's own measurements of the host. Both train in turns on one machine; W&B's worker runs beside the
training, on whatever core is free. Fails where a step costs more than two hundredths. ``thread_share`` is what tracking
takes of the training thread's own CPU time, which other work on the machine does not change.
Writes ``benchmarks/results/tracking.json``.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import contestants
from common import rounds_of, spread, write_result
from turns import Contestant, Turn, compete

from trainer.contract.files import write_text
from trainer.contract.tracking import Row, read_spool
from trainer.contract.train_config import TrainConfig
from trainer.contract.yaml_io import dump_yaml
from trainer.engine.callbacks.tracking import Tracking
from trainer.engine.loop import Trainer
from trainer.reporting import Console

STEPS_PER_TURN = 10
TURNS = 2
LEAST = 0.98


def main() -> int:
    arguments = rounds_of(__doc__, 7)
    load = os.getloadavg()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        results, rows, thread = measure(Path(folder), arguments.rounds)
    ratios = [off.seconds / on.seconds for on, off in zip(results["tracked"], results["untracked"], strict=True)]
    cpu = sum(one.cpu_seconds for one in results["tracked"]) / sum(one.cpu_seconds for one in results["untracked"])
    median, steps = statistics.median(ratios), STEPS_PER_TURN * TURNS
    report = {
        "what": "training steps per second of the default recipe with W&B offline, each step told, over those without",
        "ratio": round(median, 4),
        "least": LEAST,
        "ok": median >= LEAST,
        "rounds": arguments.rounds,
        "steps_per_round": steps,
        "ratio_spread": spread(ratios, digits=4),
        "cpu_ratio": round(cpu, 4),
        **thread,
        "rows_told": rows,
        "steps_per_second": {name: spread([steps / one.seconds for one in of]) for name, of in results.items()},
    }
    write_result("tracking", report, ("torch", "wandb"), load)
    spread_of = f"{min(ratios):.3f} … {max(ratios):.3f}"
    print(f"steps/s with tracking over without: {median:.3f} ({spread_of}), at least {LEAST} wanted")
    print(f"CPU time of the training {cpu:.3f}, {thread['thread_share']:.2%} of its thread's; {rows} rows were told")
    print("ok" if median >= LEAST else "MISSED")
    return 0 if median >= LEAST else 1


class Timed(Tracking):
    """Knows what it took of the training thread's CPU time, and how much that had meanwhile."""

    took = began = 0.0

    def before_training(self, trainer: Trainer) -> None:
        super().before_training(trainer)
        self.began = time.thread_time()

    def after_step(self, trainer: Trainer) -> None:
        before = time.thread_time()
        super().after_step(trainer)
        self.took += time.thread_time() - before

    def at_end(self, trainer: Trainer) -> None:
        thread, steps = time.thread_time() - self.began, trainer.progress.global_step
        figures = {"thread_share": self.took / thread, "thread_us_per_step": round(self.took / steps * 1e6, 1)}
        write_text(self.run_dir / "thread.json", json.dumps(figures))
        super().at_end(trainer)


def measure(folder: Path, rounds: int) -> tuple[dict[str, list[Turn]], int, dict[str, float]]:
    asked = ["launch.devices=1", "tracking.every=1", "tracking.system_seconds=1"]
    config, data_dir = contestants.prepare(folder, asked)
    run_dir = begun(folder / "tracked", config)
    tracking = Timed(config.tracking, "offline", run_dir, data_dir, Console())
    works = {
        "tracked": (contestants.own, (config, data_dir, run_dir, None, (tracking,))),
        "untracked": (contestants.own, (config, data_dir, folder / "untracked", None)),
    }
    running = {name: Contestant(work, given, folder / f"{name}.log") for name, (work, given) in works.items()}
    results = compete(running, rounds, TURNS, STEPS_PER_TURN)
    thread = {name: round(value, 6) for name, value in json.loads((run_dir / "thread.json").read_bytes()).items()}
    return results, sum(isinstance(record, Row) for record in read_spool(run_dir)), thread


def begun(run_dir: Path, config: TrainConfig) -> Path:
    """A run directory with what ``train`` writes first."""
    identity = {"run_id": "benchmrk", "config_digest": config.digest, "data_digest": "0" * 64}
    write_text(run_dir / "train.yaml", dump_yaml(config.model_dump(mode="json")))
    write_text(run_dir / "run.yaml", dump_yaml(identity))
    return run_dir


if __name__ == "__main__":
    sys.exit(main())
