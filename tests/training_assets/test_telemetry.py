"""How a training's telemetry looks in Dagster."""

import base64
from pathlib import Path
from xml.etree import ElementTree

import pytest

from trainer.contract.bottleneck import Conditions, summarise
from trainer.contract.telemetry import (
    STEP_COLUMNS,
    SYSTEM_COLUMNS,
    gpu_columns,
    read_steps,
    read_system,
    steps_file,
    system_file,
)
from trainer.engine.telemetry.journal import Journal
from training_assets.telemetry import BINS, COLOURS, HEIGHT, of_run

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """200 steps of which the second half waits for data, and a node with one GPU."""
    steps = Journal(steps_file(tmp_path, 0, 1), STEP_COLUMNS, ("step", "epoch"))
    phases = {"forward": 0.1, "backward": 0.2, "optimizer": 0.1}
    steps.append(
        [
            {"step": number, "epoch": number // 50, "time": 1e9 + number, "data_wait": 0.4 * (number > 100), **phases}
            for number in range(1, 201)
        ]
    )
    system = Journal(system_file(tmp_path, "node", 1), (*SYSTEM_COLUMNS, *gpu_columns(1)))
    system.append(
        [
            dict.fromkeys(SYSTEM_COLUMNS, 0.0) | {"time": 1e9 + n, "cpu_percent": 50.0, "gpu0_percent": 100.0}
            for n in range(400)
        ]
    )
    return tmp_path


def drawn(metadata: dict, name: str) -> ElementTree.Element:
    return ElementTree.fromstring(base64.b64decode(metadata[name].md_str.split("base64,")[1].rstrip(")")))  # noqa: S314


def test_the_metadata_has_the_verdict_the_shares_and_the_figures(run_dir):
    telemetry = summarise(read_steps(run_dir), read_system(run_dir), Conditions(batch_size=8, workers=1))
    metadata = of_run(telemetry, run_dir)
    assert metadata["bottleneck"].startswith("input-bound")
    assert "| data_wait | 3" in metadata["phases"].md_str
    assert metadata["gpu_percent"] == 100
    assert "mfu" not in metadata


def test_the_bars_stack_to_the_time_of_their_steps(run_dir):
    telemetry = summarise(read_steps(run_dir), read_system(run_dir), Conditions(batch_size=8, workers=1))
    picture = drawn(of_run(telemetry, run_dir), "phases_over_steps")
    bars = [bar for bar in picture.findall(f"{SVG}rect") if bar.get("fill") in COLOURS.values()]
    assert len(bars) == BINS * len(COLOURS)
    waits = [float(bar.get("height", 0)) for bar in bars if bar.get("fill") == COLOURS["data_wait"]]
    others = sum(float(bar.get("height", 0)) for bar in bars[-len(COLOURS) :]) - waits[-1]
    assert waits[0] == 0
    assert waits[-1] == pytest.approx(others, rel=0.01)
    assert all(0 <= float(bar.get("y", -1)) <= HEIGHT for bar in bars)


def test_the_lines_are_the_loads_that_the_node_has(run_dir):
    telemetry = summarise(read_steps(run_dir), read_system(run_dir), Conditions(batch_size=8, workers=1))
    picture = drawn(of_run(telemetry, run_dir), "utilisation")
    assert len(picture.findall(f"{SVG}polyline")) == 3
    texts = [text.text for text in picture.findall(f"{SVG}text")]
    assert texts[:3] == ["CPU 50 %", "I/O wait 0 %", "GPU 100 %"]


def test_a_run_that_was_not_measured_has_no_such_metadata(tmp_path):
    assert of_run(None, tmp_path) == {}


def test_a_run_whose_files_are_gone_keeps_its_verdict(run_dir, tmp_path_factory):
    telemetry = summarise(read_steps(run_dir), read_system(run_dir), Conditions(batch_size=8, workers=1))
    metadata = of_run(telemetry, tmp_path_factory.mktemp("elsewhere"))
    assert metadata["bottleneck"] == telemetry.verdict
    assert "utilisation" not in metadata
