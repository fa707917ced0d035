"""What it is to run a model, whatever its form. Torch is not imported: an ONNX file's memory is counted without it."""

from collections.abc import Callable

import numpy as np

Arrays = list[np.ndarray]
"""A model's inputs or outputs in its order, the batch in front."""
Run = Callable[[Arrays], Arrays]
"""One forward pass of any number of samples."""
