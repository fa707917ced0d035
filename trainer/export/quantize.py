"""Static int8 of the ONNX file, its ranges chosen on samples of train."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from trainer.export import onnx

if TYPE_CHECKING:
    from trainer.export.source import Source

FILE = "model.int8.onnx"
load = onnx.load


def write(source: "Source", path: Path) -> None:
    """QDQ nodes: activations of unsigned 8 bits, what x86 computes fastest with, and signed weights per channel.

    Weights have 7 bits (``reduce_range``): products of 8 bits overflow the 16-bit sums of CPUs without VNNI, where the
    file would say other things than elsewhere (``quantize_static``'s own guidance on parameters for CPUs).
    """
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_static

    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(path.with_name(onnx.FILE), prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            _CalibrationData(source),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_in_metres(prepared),
        )


def _in_metres(model: Path) -> list[str]:
    """The nodes that a task's own inputs reach, beside an image: 8 bits are too coarse for paths of tens of metres.

    Without an image they are the whole network, and none is left out.
    """
    from onnx import load as read_model

    from trainer.models.hydranet import IMAGE

    graph = read_model(model).graph
    own = {given.name for given in graph.input} - {IMAGE}
    if len(own) == len(graph.input):
        return []
    reached = []
    for node in graph.node:  # each stands behind what it takes
        if own.intersection(node.input):
            own.update(node.output)
            reached.append(node.name)
    return reached


class _CalibrationData:
    """One sample after the other, as ONNX Runtime's ``CalibrationDataReader`` gives them."""

    def __init__(self, source: "Source") -> None:
        self._rows = _rows(source)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


def _rows(source: "Source") -> Iterator[dict[str, np.ndarray]]:
    for given in source.calibration or ():
        yield {name: given[name][None].float().numpy() for name in source.network.inputs}
