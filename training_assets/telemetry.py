"""A training's telemetry in Dagster: the verdict, the shares of the phases, and two pictures over time."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from trainer.contract.results import Telemetry
from training_assets import metadata

if TYPE_CHECKING:
    import pandas as pd

BINS = 60
WIDTH, HEIGHT, MARGIN = 480, 160, 10
COLOURS = {
    "data_wait": "#dc2626",
    "forward": "#4f46e5",
    "backward": "#818cf8",
    "all_reduce": "#d97706",
    "optimizer": "#0d9488",
    "checkpoint": "#be185d",
    "callbacks": "#94a3b8",
}
LINES = ("#4f46e5", "#d97706", "#0d9488", "#be185d")


def of_run(telemetry: Telemetry | None, directory: Path) -> dict[str, Any]:
    """The metadata of the run in ``directory``; nothing when it was not measured."""
    if telemetry is None:
        return {}
    figures = {
        "samples_per_second_steady": telemetry.samples_per_second,
        "step_p50_ms": telemetry.step_p50_ms,
        "step_p95_ms": telemetry.step_p95_ms,
        "mfu": telemetry.mfu,
        "cpu_percent": telemetry.cpu_percent,
        "gpu_percent": telemetry.gpu_percent,
    }
    return {
        "bottleneck": telemetry.verdict,
        **metadata.numbers(figures),
        "phases": metadata.table(
            ("phase", "share of the step"), [(name, f"{share:.1%}") for name, share in telemetry.shares.items()]
        ),
        **_pictures(directory),
    }


def _pictures(directory: Path) -> dict[str, dg.MarkdownMetadataValue]:
    from trainer.contract.bottleneck import phase_table
    from trainer.contract.telemetry import read_steps, read_system

    steps, system = phase_table(read_steps(directory)), read_system(directory)
    pictures = {}
    if len(steps):
        pictures["phases_over_steps"] = metadata.drawing("phases over steps", phase_bars(steps))
    if len(system):
        pictures["utilisation"] = metadata.drawing("utilisation over time", utilisation_lines(system))
    return pictures


def phase_bars(table: "pd.DataFrame") -> str:
    """An SVG: the mean milliseconds of each phase, stacked, over the steps of ``phase_table``."""
    means = _binned(table, "step", list(COLOURS)) * 1000
    highest = float(means.sum(axis=1).max()) or 1.0
    width = (WIDTH - 2 * MARGIN) / len(means)
    parts = []
    for place, (_, row) in enumerate(means.iterrows()):
        top = float(HEIGHT)
        for phase, colour in COLOURS.items():
            height = float(row[phase]) / highest * (HEIGHT - 2 * MARGIN)
            top -= height
            x = MARGIN + place * width
            parts.append(f'<rect x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')
    title = f"steps {table['step'].min():.0f} to {table['step'].max():.0f}, the highest bar {highest:.3g} ms a step"
    return _svg(parts, COLOURS, title)


def utilisation_lines(system: "pd.DataFrame") -> str:
    """An SVG: CPU, I/O wait and GPU utilisation (0 to 100 %) over the time of ``read_system``."""
    gpus = system.filter(regex=r"^gpu\d+_percent$")
    series = system[["time"]].assign(CPU=system["cpu_percent"], **{"I/O wait": system["iowait_percent"]})
    if gpus.shape[1]:
        series = series.assign(GPU=gpus.mean(axis=1))
    names = [name for name in series.columns if name != "time" and series[name].notna().any()]
    means = _binned(series, "time", names)
    colours = dict(zip(names, LINES, strict=False))
    parts = []
    for name, colour in colours.items():
        points = " ".join(
            f"{MARGIN + place / max(1, len(means) - 1) * (WIDTH - 2 * MARGIN):.1f},"
            f"{HEIGHT - min(100.0, value) / 100 * (HEIGHT - 2 * MARGIN):.1f}"
            for place, value in enumerate(means[name])
            if value == value
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
    seconds = system["time"].max() - system["time"].min()
    legend = {f"{name} {series[name].mean():.0f} %": colour for name, colour in colours.items()}
    return _svg(parts, legend, f"0 to 100 % over {seconds:.0f} s")


def _binned(frame: "pd.DataFrame", over: str, columns: list[str]) -> "pd.DataFrame":
    """The means of ``columns`` in at most ``BINS`` equal parts of ``over``; parts without a row are left out."""
    import pandas as pd

    bins = pd.cut(frame[over], min(BINS, frame[over].nunique()), labels=False)
    return frame.groupby(bins)[columns].mean()


def _svg(parts: Sequence[str], legend: Mapping[str, str], title: str) -> str:
    height = HEIGHT + 44
    entries, x = [], MARGIN
    for name, colour in legend.items():
        entries.append(f'<text x="{x}" y="{HEIGHT + 18}" font-size="11" fill="{colour}">{escape(name)}</text>')
        x += 7 * len(name) + 8
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            *parts,
            *entries,
            f'<text x="{MARGIN}" y="{HEIGHT + 36}" font-size="11" fill="#334155">{escape(title)}</text>',
            "</svg>",
        ]
    )
