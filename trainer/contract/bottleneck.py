"""What holds a training up: its telemetry, as tables, becomes shares, figures and one sentence that advises."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.contract.results import Bottleneck, Telemetry
from trainer.contract.telemetry import DEVICE_PHASES, PHASES

if TYPE_CHECKING:
    import pandas as pd

WARM_UP = 5
"""First steps of each attempt that no figure counts (half of the steps, where an attempt has fewer than ten)."""

THRESHOLDS: Mapping[Bottleneck, float] = {
    "input": 0.10,
    "communication": 0.15,
    "straggler": 0.10,
    "checkpoint": 0.05,
    "callbacks": 0.05,
}
"""The share of the training time from which on each of these is called a bottleneck; the largest one is named."""

BUSY_CPU, BUSY_DISK = 90.0, 20.0
"""CPU % from which on more loader workers would not help, I/O wait % from which on the disk is the reason."""


@dataclass(frozen=True)
class Conditions:
    """What the tables do not say: samples of a step over all ranks, loader workers of a rank, and the GPU.

    ``step_flops`` is of one rank's step, ``peak_flops`` of one GPU in FLOP/s; None where there is no known GPU.
    """

    batch_size: int
    workers: int
    gpu: str | None = None
    peak_flops: float | None = None
    step_flops: float | None = None


def summarise(steps: "pd.DataFrame", system: "pd.DataFrame", conditions: Conditions) -> Telemetry:
    """The figures of a run from ``read_steps`` and ``read_system``; everything is None or empty without steps."""
    table = phase_table(steps)
    shares = _shares(table)
    waiting, slowest = _waiting(table)
    cpu, iowait = _mean(system, "cpu_percent"), _mean(system, "iowait_percent")
    mean = {name: sum(share[name] for share in shares.values()) / len(shares) for name in _counted()} if shares else {}
    bottleneck, text = verdict(mean, waiting, slowest, conditions.workers, cpu, iowait)
    pace = _measured(steps[steps["rank"] == steps["rank"].min()])
    seconds = pace[list(_host())].sum(axis=1)
    step_seconds = _number(seconds.mean())
    mfu = None
    if conditions.peak_flops and conditions.step_flops and step_seconds:
        mfu = conditions.step_flops / step_seconds / conditions.peak_flops
    return Telemetry(
        bottleneck=bottleneck,
        verdict=text,
        steps=len(pace),
        clock=_clock(steps),
        shares=mean,
        step_p50_ms=_number(seconds.quantile(0.50) * 1000),
        step_p95_ms=_number(seconds.quantile(0.95) * 1000),
        samples_per_second=conditions.batch_size / step_seconds if step_seconds else None,
        samples_per_second_by_epoch={
            int(epoch): conditions.batch_size / float(part.mean())
            for epoch, part in seconds.groupby(pace["epoch"])
            if part.mean() > 0
        },
        gpu=conditions.gpu,
        step_flops=conditions.step_flops,
        mfu=mfu,
        cpu_percent=cpu,
        iowait_percent=iowait,
        gpu_percent=_number(system.filter(regex=r"^gpu\d+_percent$").mean().mean()),
        peak_ram_bytes=_number(system["ram_bytes"].max()),
        peak_gpu_memory_bytes=_number(system.filter(regex=r"^gpu\d+_memory_bytes$").max().max()),
    )


def phase_table(steps: "pd.DataFrame") -> "pd.DataFrame":
    """The seconds of ``PHASES`` for each measured step of each rank, ``backward`` without ``all_reduce``.

    On the device's clock, where there is one, and then of the sampled steps alone. All-reduce is timed on sampled
    steps: the others get its mean part of their rank's backward pass.
    """
    measured = _measured(steps)
    table = measured.copy()
    if _clock(steps) == "device":
        table = table[table["device_data_wait"].notna()].copy()
        for phase in DEVICE_PHASES:
            table[phase] = table[f"device_{phase}"]
    table[list(PHASES)] = table[list(PHASES)].astype(float)
    for rank, part in table.groupby("rank"):
        timed = measured.loc[measured["rank"] == rank, "all_reduce"].dropna().astype(float)
        backward = part["backward"].reindex(timed.index).dropna()
        backward = part["backward"] if backward.empty else backward
        fraction = min(1.0, timed.mean() / backward.mean()) if len(timed) and backward.mean() > 0 else 0.0
        exposed = part["all_reduce"].where(part["all_reduce"] <= part["backward"]).fillna(part["backward"] * fraction)
        table.loc[part.index, "all_reduce"] = exposed
        table.loc[part.index, "backward"] = part["backward"] - exposed
    return table[["step", "epoch", "time", "rank", "attempt", *PHASES]].fillna(dict.fromkeys(PHASES, 0.0))


def verdict(
    shares: Mapping[str, float],
    waiting: float = 0.0,
    slowest: int | None = None,
    workers: int = 1,
    cpu_percent: float | None = None,
    iowait_percent: float | None = None,
) -> tuple[Bottleneck, str]:
    """What to call the bottleneck, and a sentence for people.

    ``shares`` of the training time by phase (0…1); ``waiting`` is the part of ``all_reduce`` that is spent waiting
    for the rank ``slowest``.
    """
    if not shares or sum(shares.values()) <= 0:
        return "unknown", "unknown: no step was measured"
    lost: dict[Bottleneck, float] = {
        "input": shares.get("data_wait", 0.0),
        "communication": max(0.0, shares.get("all_reduce", 0.0) - waiting),
        "straggler": waiting,
        "checkpoint": shares.get("checkpoint", 0.0),
        "callbacks": shares.get("callbacks", 0.0),
    }
    over: list[Bottleneck] = [name for name, share in lost.items() if share >= THRESHOLDS[name]]
    if not over:
        computing = sum(shares.get(phase, 0.0) for phase in ("forward", "backward", "optimizer"))
        return "compute", f"compute-bound: {computing:.0%} of the step is forward, backward and optimizer"
    worst = max(over, key=lambda name: lost[name])
    return worst, f"{worst}-bound: {lost[worst]:.0%} of the step " + _advice(
        worst, slowest, workers, cpu_percent, iowait_percent
    )


def _advice(worst: Bottleneck, slowest: int | None, workers: int, cpu: float | None, iowait: float | None) -> str:
    if worst == "input":
        return f"waits for data; {_advice_on_input(workers, cpu, iowait)}"
    return {
        "communication": "waits for all-reduce; raise data.batch_size or use a faster network between the ranks",
        "straggler": f"waits for rank {slowest}, the slowest; look at its node's load, disk and GPU clock",
        "checkpoint": "is stalled by checkpoints; raise training.checkpoint_every or use faster storage",
        "callbacks": "is spent in callbacks; let guards look less often",
    }[worst]


def _advice_on_input(workers: int, cpu: float | None, iowait: float | None) -> str:
    if iowait is not None and iowait >= BUSY_DISK:
        return f"the disk is the reason ({iowait:.0f} % I/O wait): stage the shards on faster storage"
    if cpu is not None and cpu >= BUSY_CPU:
        return f"the CPUs are busy ({cpu:.0f} %): stage smaller images or take a host with more cores"
    return f"raise data.workers ({workers} now)"


def _measured(steps: "pd.DataFrame") -> "pd.DataFrame":
    """Without the warm-up of each attempt of each rank."""
    groups = steps.groupby(["rank", "attempt"])["step"]
    return steps[groups.cumcount() >= (groups.transform("size") // 2).clip(upper=WARM_UP)]


def _clock(steps: "pd.DataFrame") -> Any:
    return "device" if _measured(steps)["device_data_wait"].notna().any() else "host"


def _counted() -> tuple[str, ...]:
    return tuple(phase for phase in PHASES if phase != "evaluation")


def _host() -> tuple[str, ...]:
    # As written: backward has all-reduce in it.
    return tuple(phase for phase in _counted() if phase != "all_reduce")


def _shares(table: "pd.DataFrame") -> dict[int, dict[str, float]]:
    """Each rank's shares of its training time by phase."""
    shares = {}
    for rank, sums in table.groupby("rank")[list(_counted())].sum().iterrows():
        if sums.sum() > 0:
            shares[int(rank)] = {phase: float(sums[phase] / sums.sum()) for phase in _counted()}
    return shares


def _waiting(table: "pd.DataFrame") -> tuple[float, int | None]:
    """How much longer the mean rank stays in all-reduce than the rank that comes last, which waits for nobody."""
    shares = {rank: share["all_reduce"] for rank, share in _shares(table).items()}
    if len(shares) < 2:
        return 0.0, None
    slowest = min(shares, key=lambda rank: shares[rank])
    return sum(shares.values()) / len(shares) - shares[slowest], slowest


def _mean(frame: "pd.DataFrame", column: str) -> float | None:
    return _number(frame[column].mean())


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)
