"""A TensorRT plan of the ONNX file where ``trtexec`` is, else the command that makes it.

A plan runs on the kind of GPU and the version of TensorRT that it was made with, so the command is always in the
package. It asks for no precision: TensorRT 11 has no flags for it, the ONNX file's own types decide (float32, which
TensorRT computes in TF32 where the GPU has it).
"""

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.contract.files import write_text
from trainer.contract.results import TensorRT
from trainer.export import onnx

TOOL = "trtexec"
FILE = "model.plan"
COMMAND_FILE = "tensorrt_command.txt"


def make_plan(inputs: Mapping[str, Sequence[int]], batch: int, package: Path) -> TensorRT:
    """For 1 to ``batch`` samples, fastest for one; ``inputs`` are the shapes of one sample, batch in front."""
    command = plan_command(inputs, batch)
    write_text(package / COMMAND_FILE, shlex.join(command) + "\n")
    plan, note = _run(command, package)
    return TensorRT(command=shlex.join(command), command_file=COMMAND_FILE, plan=plan, note=note)


def plan_command(inputs: Mapping[str, Sequence[int]], batch: int) -> list[str]:
    """To be run in the package."""

    def shapes(samples: int) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, (samples, *shape[1:])))}" for name, shape in inputs.items())

    profile = [f"--{end}Shapes={shapes(samples)}" for end, samples in (("min", 1), ("opt", 1), ("max", batch))]
    return [TOOL, f"--onnx={onnx.FILE}", f"--saveEngine={FILE}", *profile]


def _run(command: Sequence[str], package: Path) -> tuple[str | None, str]:
    """The plan's name if there is one, and what is to be said of it."""
    if shutil.which(TOOL) is None:
        return None, f"no {TOOL} on PATH: run the command in the package, where TensorRT is"
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=package, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode or not (package / FILE).is_file():
        (package / FILE).unlink(missing_ok=True)
        last = (done.stdout.strip().splitlines() or ["it said nothing"])[-1]
        return None, f"{TOOL} ended with {done.returncode} and made no plan: {last}"
    return FILE, f"made by {TOOL} here; its outputs were not compared with eager's"
