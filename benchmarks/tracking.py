"""What experiment tracking costs a training: its steps per second with W&B offline, over those without.

The default recipe with everything on, one thread, told each step (``tracking.every: 1``, ten times as often as by
default) and with W&B's own measurements of the host. Both train in turns on one machine; W&B's worker runs beside the
training, on whatever core is free. Fails where a step costs more than two hundredths.
Writes ``benchmarks/results/tracking.json``.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

import contestants
from common import rounds_of, spread, write_result
from turns import Contestant, Turn, compete

from trainer.contract.files import write_text
from trainer.contract.tracking import Row, read_spool
from trainer.contract.train_config import TrainConfig
from trainer.contract.yaml_io import dump_yaml
from trainer.engine.callbacks.tracking import Tracking
from trainer.reporting import Console

STEPS_PER_TURN = 10
TURNS = 2
LEAST = 0.98


def main() -> int:
    arguments = rounds_of(__doc__, 7)
    load = os.getloadavg()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        results, rows = measure(Path(folder), arguments.rounds)
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
        "rows_told": rows,
        "steps_per_second": {name: spread([steps / one.seconds for one in of]) for name, of in results.items()},
    }
    write_result("tracking", report, ("torch", "wandb"), load)
    print(f"steps/s with tracking over without: {median:.3f} ({min(ratios):.3f} … {max(ratios):.3f}), at least {LEAST} "
          f"wanted; CPU time of the training {cpu:.3f}; {rows} rows were told")  # fmt: skip
    print("ok" if median >= LEAST else "MISSED")
    return 0 if median >= LEAST else 1


def measure(folder: Path, rounds: int) -> tuple[dict[str, list[Turn]], int]:
    asked = ["launch.devices=1", "tracking.every=1", "tracking.system_seconds=1"]
    config, data_dir = contestants.prepare(folder, asked)
    run_dir = begun(folder / "tracked", config)
    tracking = Tracking(config.tracking, "offline", run_dir, data_dir, Console())
    works = {
        "tracked": (contestants.own, (config, data_dir, run_dir, None, (tracking,))),
        "untracked": (contestants.own, (config, data_dir, folder / "untracked", None)),
    }
    running = {name: Contestant(work, given, folder / f"{name}.log") for name, (work, given) in works.items()}
    results = compete(running, rounds, TURNS, STEPS_PER_TURN)
    return results, sum(isinstance(record, Row) for record in read_spool(run_dir))


def begun(run_dir: Path, config: TrainConfig) -> Path:
    """A run directory with what ``train`` writes first."""
    identity = {"run_id": "benchmrk", "config_digest": config.digest, "data_digest": "0" * 64}
    write_text(run_dir / "train.yaml", dump_yaml(config.model_dump(mode="json")))
    write_text(run_dir / "run.yaml", dump_yaml(identity))
    return run_dir


if __name__ == "__main__":
    sys.exit(main())
