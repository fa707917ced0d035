"""What the engine costs: its steps per second, with everything on, against a bare PyTorch loop, Lightning, Accelerate.

The same network, losses, optimizer, clipping, schedule and tensors (the default recipe), one thread each, in turns on
one machine. A round holds as many steps of each as lie between two checkpoints; ratios are taken within a round.
Fails below 0.97 of the bare loop or below a peer. The engine has malloc keep freed memory, which on a CPU is worth more
than all else here: ``tuned_bare`` is the bare loop with that, so that the ratio to it is what the engine itself costs.
Writes ``benchmarks/results/loop.json``.
"""

import os
import statistics
import sys
import tempfile
from pathlib import Path

import contestants
from common import rounds_of, spread, write_result
from turns import Contestant, Turn, compete

STEPS_PER_TURN = 10
REPORTED = ("bare", "lightning", "accelerate", "tuned_bare")
LEAST = {"bare": 0.97, "lightning": 1.0, "accelerate": 1.0}


def main() -> int:
    arguments = rounds_of(__doc__)
    load = os.getloadavg()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        turns, results = measure(Path(folder), arguments.rounds)
    ratios = {peer: ratio_by_round(results["own"], results[peer]) for peer in REPORTED}
    medians = {peer: statistics.median(values) for peer, values in ratios.items()}
    ok = all(medians[peer] >= least for peer, least in LEAST.items())
    steps = turns * STEPS_PER_TURN
    report = {
        "what": "training steps per second of the default recipe, everything on, over each peer's; one CPU thread",
        **{f"ratio_to_{peer}": round(value, 4) for peer, value in medians.items()},
        "least": LEAST,
        "ok": ok,
        "rounds": arguments.rounds,
        "steps_per_round": steps,
        "ratio_spread": {peer: spread(values, digits=4) for peer, values in ratios.items()},
        "cpu_ratio": {peer: cpu_ratio(results["own"], results[peer]) for peer in REPORTED},
        "steps_per_second": {name: spread([steps / one.seconds for one in rounds]) for name, rounds in results.items()},
    }
    write_result("loop", report, ("torch", "lightning", "accelerate", "numpy"), load)
    for peer, value in medians.items():
        low, high = min(ratios[peer]), max(ratios[peer])
        print(f"steps/s over {peer:10} {value:.3f}  ({low:.3f} … {high:.3f}), at least {LEAST.get(peer, '-')} wanted; "
              f"CPU time {cpu_ratio(results['own'], results[peer]):.3f}")  # fmt: skip
    print("ok" if ok else "MISSED")
    return 0 if ok else 1


def measure(folder: Path, rounds: int) -> tuple[int, dict[str, list[Turn]]]:
    config, data_dir = contestants.prepare(folder, ["launch.devices=1"])
    turns = -(-config.training.checkpoint_every // STEPS_PER_TURN)
    shared = (config, data_dir)
    works = {
        "own": (contestants.own, (*shared, folder / "run", str(folder / "store"))),
        "bare": (contestants.bare, shared),
        "tuned_bare": (contestants.bare, (*shared, True)),
        "lightning": (contestants.lightning, shared),
        "accelerate": (contestants.accelerate, shared),
    }
    running = {name: Contestant(work, given, folder / f"{name}.log") for name, (work, given) in works.items()}
    return turns, compete(running, rounds, turns, STEPS_PER_TURN)


def ratio_by_round(own: list[Turn], peer: list[Turn]) -> list[float]:
    return [theirs.seconds / ours.seconds for ours, theirs in zip(own, peer, strict=True)]


def cpu_ratio(own: list[Turn], peer: list[Turn]) -> float:
    """The peer's CPU time over ours, all threads: what remains of the ratio on a machine with other work on it."""
    return round(sum(one.cpu_seconds for one in peer) / sum(one.cpu_seconds for one in own), 4)


if __name__ == "__main__":
    sys.exit(main())
