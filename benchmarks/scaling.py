"""How much of a rank's speed is left when a second one trains with it, and what that says of many GPUs.

One rank and two, each bound to a core with one thread and the recipe's share of a batch, in turns on one machine, with
everything on; two trainings that know nothing of each other as the control (what the machine itself costs), and a
plain DDP loop as the peer. Fails below 0.95. Writes ``benchmarks/results/scaling.json``.

The prediction: a step takes ``compute + (1 - overlap) · all_reduce(n)``, see ``interconnect.py``.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import contestants
import interconnect
from common import rounds_of, spread, write_result
from turns import Contestant, Entry, compete

STEPS_PER_TURN = 10
LEAST = 0.95
WORLD_SIZES = (8, 64, 512)


def main() -> int:
    arguments = rounds_of(__doc__)
    load = os.getloadavg()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        share, seconds = measure(Path(folder), arguments.rounds)
    efficiency = ratios(seconds["one"], seconds["two"])
    parts = split_step(seconds)
    predicted = interconnect.predict(WORLD_SIZES, share, parts["overlap"])
    value = statistics.median(efficiency)
    ok = value >= LEAST
    report: dict[str, Any] = {
        "what": "samples/s of each of two ranks over those of one rank on one core; the recipe's share a rank, "
        "everything on",
        "weak_scaling_efficiency": round(value, 4),
        "least": LEAST,
        "ok": ok,
        "samples_per_rank_and_step": share,
        "rounds": arguments.rounds,
        "efficiency_spread": spread(efficiency, digits=4),
        "control_two_alone": spread(ratios(seconds["one"], seconds["control"]), digits=4),
        "plain_ddp": spread(ratios(seconds["bare"], seconds["bare_ddp"]), digits=4),
        "step_seconds": {name: spread(values, "s", 5) for name, values in seconds.items()},
        "parts_of_a_step": parts,
        "formula": interconnect.__doc__,
        "predicted": predicted,
    }
    write_result("scaling", report, ("torch", "numpy"), load)
    tell(report, efficiency)
    return 0 if ok else 1


def measure(folder: Path, rounds: int) -> tuple[int, dict[str, list[float]]]:
    """Samples of a rank in a step, and the seconds of a step by contestant and round."""
    both, data_dir = contestants.prepare(folder, ["launch.devices=2"])
    share = both.data.batch_size // 2
    one = both.model_copy(update={"data": both.data.model_copy(update={"batch_size": share})})
    cores = sorted(os.sched_getaffinity(0))[:2]

    def enter(name: str, work: Any, config: Any, on: Sequence[int], *more: Any) -> Contestant:
        return Contestant(work, (config, *more), folder / f"{name}.log", on)

    entries: dict[str, Entry] = {
        "one": enter("one", contestants.own, one, cores[:1], data_dir, folder / "one", None),
        "two": enter("two", contestants.own, both, cores, data_dir, folder / "two", None),
        "control": [
            enter(f"control{core}", contestants.own, one, [core], data_dir, folder / f"control{core}", None)
            for core in cores
        ],
        "bare": enter("bare", contestants.bare, one, cores[:1], data_dir),
        "bare_ddp": enter("bare_ddp", contestants.bare_ddp, both, cores, data_dir),
        "all_reduce": enter("all_reduce", contestants.all_reduce, both, cores),
    }
    turns = -(-both.training.checkpoint_every // STEPS_PER_TURN)
    results = compete(entries, rounds, turns, STEPS_PER_TURN)
    steps = turns * STEPS_PER_TURN
    return share, {name: [one.seconds / steps for one in values] for name, values in results.items()}


def ratios(one: list[float], other: list[float]) -> list[float]:
    return [a / b for a, b in zip(one, other, strict=True)]


def split_step(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Computing (as two trainings alone do), the all-reduce on its own, and what of it a step has to wait for."""
    compute, step, all_reduce = (statistics.median(seconds[name]) for name in ("control", "two", "all_reduce"))
    exposed = max(0.0, statistics.median(b - a for a, b in zip(seconds["control"], seconds["two"], strict=True)))
    return {
        "step_s": round(step, 5),
        "compute_s": round(compute, 5),
        "all_reduce_alone_s": round(all_reduce, 5),
        "all_reduce_exposed_s": round(exposed, 5),
        "overlap": round(min(1.0, max(0.0, 1 - exposed / all_reduce)), 3),
    }


def tell(report: dict[str, Any], efficiency: list[float]) -> None:
    parts = report["parts_of_a_step"]
    print(
        f"weak scaling of 2 ranks {report['weak_scaling_efficiency']:.3f} ({min(efficiency):.3f} … "
        f"{max(efficiency):.3f}), at least {LEAST} wanted; two trainings alone "
        f"{report['control_two_alone']['median']:.3f}, plain DDP {report['plain_ddp']['median']:.3f}"
    )
    print(
        f"a step: compute {parts['compute_s'] * 1e3:.1f} ms, all-reduce {parts['all_reduce_alone_s'] * 1e3:.2f} ms "
        f"alone, {parts['all_reduce_exposed_s'] * 1e3:.2f} ms waited for (overlap {parts['overlap']:.0%})"
    )
    for one in report["predicted"]:
        print(
            f"predicted for {one['gpus']:3} GPUs: {one['efficiency']:.3f} (compute {one['compute_s'] * 1e3:.2f} ms, "
            f"all-reduce {one['all_reduce_s'] * 1e3:.3f} ms by {one['algorithm']} over {one['interconnect']})"
        )
    print("ok" if report["ok"] else "MISSED")


if __name__ == "__main__":
    sys.exit(main())
