"""ONNX, run by ONNX Runtime; reading one needs no torch."""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.export.passes import Arrays, Run

if TYPE_CHECKING:
    from trainer.export.source import Source

FILE = "model.onnx"


def write(source: "Source", path: Path) -> None:
    import torch.onnx

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            source.program,
            f=path,
            input_names=source.network.inputs,
            output_names=source.outputs,
            dynamic_shapes=source.dynamic_shapes,  # for the dimension's name: the program has them already
            external_data=False,
            verbose=False,
        )


def load(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(arrays: Arrays) -> Arrays:
        found: Arrays = session.run(None, dict(zip(names, arrays, strict=True)))
        return found

    return run
