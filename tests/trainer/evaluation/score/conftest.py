import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.__main__ import main

Score = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def score(capsys: pytest.CaptureFixture[str]) -> Score:
    """``score(task, ground_truth, predictions, *options)``: exit code, what it printed as JSON, and its report."""

    def run(task: str, truth: Path, predictions: Path, *options: object) -> tuple[int, dict[str, Any], str]:
        files = ["--ground-truth", str(truth), "--predictions", str(predictions)]
        code = main(["score", task, *files, *map(str, options)])
        printed = capsys.readouterr()
        return code, json.loads(printed.out or "{}"), printed.err

    return run
