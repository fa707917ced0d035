"""Whether a recipe fits what it runs on, and what to change if not."""

from trainer.contract.errors import ContractError, Problem
from trainer.contract.train_config import TrainConfig


def refuse_uneven_batch(config: TrainConfig, world_size: int) -> None:
    """
    Raises:
        ContractError: ``data.batch_size`` cannot be shared evenly by the ranks and the parts of each rank's batch.
    """
    size, accumulate = config.data.batch_size, config.optim.accumulate
    unit = world_size * accumulate
    if size % unit == 0:
        return
    below, above = size // unit * unit, -(-size // unit) * unit
    nearest = f"{below} or {above}" if below else str(above)
    found = f"data.batch_size {size} on {world_size} ranks with optim.accumulate {accumulate}"
    expected = f"a multiple of {unit} (ranks × accumulate)"
    advice = f"The nearest that work: data.batch_size {nearest}. Or change launch.devices or optim.accumulate."
    problem = Problem("recipe", found, expected, field="data.batch_size")
    raise ContractError(f"recipe {config.name} cannot run on {world_size} ranks", [problem], advice)


def memory_ran_out(said: str, host: bool) -> str:
    whose = "the machine's" if host else "the GPU's"
    return f"{whose} memory ran out: {said}"


def memory_advice(config: TrainConfig | None, host: bool = False) -> str:
    """What to lower where memory ran out, with the values now in use; ``host``: in the machine's own memory."""
    if config is None:
        return "Lower data.batch_size or data.image_size, raise optim.accumulate, or set training.precision: bf16."
    data, precision = config.data, config.training.precision
    ways = [
        f"lower data.batch_size (now {data.batch_size})",
        f"raise optim.accumulate (now {config.optim.accumulate})",
        *([f"set training.precision: bf16 (now {precision})"] if precision == "fp32" else []),
        *([f"lower data.image_size (now {list(data.image_size)})"] if data.image_size else []),
        *([f"lower data.workers (now {data.workers} a rank)"] if host and data.workers else []),
    ]
    advice = ", or ".join(ways)
    return f"{advice[0].upper()}{advice[1:]}."


def shared_memory_advice(config: TrainConfig | None) -> str:
    now = "" if config is None else f" (now {config.data.workers} a rank)"
    return (
        "Loader workers hand over batches through /dev/shm: enlarge the container's (docker --shm-size, a Memory "
        f"emptyDir at /dev/shm, linuxParameters.sharedMemorySize), or lower data.workers{now}."
    )


def port_advice(port: int | str) -> str:
    return f"End what listens on it (ss -ltnp 'sport = :{port}' names it), or give another master port."
