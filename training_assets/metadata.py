"""How things look in Dagster: tables, pictures and curves as metadata that needs no file server."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from trainer.contract.results import Epoch
from training_assets import gates
from training_assets.gates import GateResult

SKIPPED = "skipped"
"""What an observation calls the reason why a partition was passed over."""
IMAGE_LIMIT = 180_000
WIDTHS = (1280, 960, 640, 480, 320)
QUALITY = 80


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> dg.MarkdownMetadataValue:
    """A Markdown table; numbers are shown with four significant digits."""
    lines = [header, ["---"] * len(header), *rows]
    return dg.MetadataValue.md("\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines))


def counts(values: Mapping[str, int], what: str) -> dg.MarkdownMetadataValue:
    return table((what, "samples"), sorted(values.items()))


def numbers(values: Mapping[str, float | None], prefix: str = "") -> dict[str, float]:
    """Metrics as numbers that Dagster plots over time; what is not defined is left out."""
    return {f"{prefix}{name}": float(value) for name, value in values.items() if value is not None}


def image(path: Path, limit: int = IMAGE_LIMIT) -> dg.MarkdownMetadataValue:
    """The picture inside the metadata, made smaller until its JPEG has fewer than ``limit`` bytes."""
    import cv2

    picture = cv2.imread(str(path))
    if picture is None:
        return dg.MetadataValue.md(f"`{path}` is not a picture")
    for width in WIDTHS:
        scale = min(1.0, width / picture.shape[1])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        encoded = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes()
        if len(encoded) < limit:
            break
    return dg.MetadataValue.md(_data_uri(path.stem, "image/jpeg", encoded))


def loss_curve(epochs: Sequence[Epoch], monitor: str) -> dg.MarkdownMetadataValue:
    """Mean loss of each epoch, and the monitored metric, as a small drawing."""
    series: dict[str, list[float | None]] = {
        "loss": [epoch.losses["total"] for epoch in epochs],
        monitor: [epoch.metrics.get(monitor) for epoch in epochs],
    }
    return drawing("loss curve", _curves(series))


def gate_check(
    gate: GateResult, name: str | None = None, more: Mapping[str, dg.MetadataValue] | None = None
) -> dg.AssetCheckResult:
    """``gate`` as Dagster shows it, as the check ``name``; None: as the one that the caller is."""
    failed = [gates.in_words(row) for row in gate.rows if row.passed is False]
    return dg.AssetCheckResult(
        check_name=name,
        passed=gate.passed,
        severity=dg.AssetCheckSeverity.ERROR if gate.severity == "block" else dg.AssetCheckSeverity.WARN,
        description=gate.failures or f"{len(gate.rows)} comparisons, none failed",
        metadata={
            "comparisons": len(gate.rows),
            "gate": gate.name,
            **({"what_failed": dg.MetadataValue.md("\n".join(f"- {one}" for one in failed))} if failed else {}),
            "failed": len(failed),
            "undecided": sum(row.passed is None for row in gate.rows),
            "table": dg.MetadataValue.md(gates.markdown([gate])),
            **(more or {}),
        },
    )


def drawing(name: str, svg: str) -> dg.MarkdownMetadataValue:
    """An SVG inside the metadata."""
    return dg.MetadataValue.md(_data_uri(name, "image/svg+xml", svg.encode()))


def _curves(series: Mapping[str, Sequence[float | None]], width: int = 420, height: int = 160) -> str:
    """Each series on a scale of its own, its last value in the legend."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height + 40}" font-family="sans-serif">'
    ]
    parts.append(f'<rect width="{width}" height="{height + 40}" fill="white"/>')
    for index, ((name, values), colour) in enumerate(zip(series.items(), ("#4f46e5", "#d97706"), strict=False)):
        known = [(place, value) for place, value in enumerate(values) if value is not None]
        if not known:
            continue
        low, high = min(value for _, value in known), max(value for _, value in known)
        points = " ".join(
            f"{10 + place / max(1, len(values) - 1) * (width - 20):.1f},"
            f"{10 + (high - value) / ((high - low) or 1) * (height - 20):.1f}"
            for place, value in known
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        legend = f"{name}: {known[0][1]:.4g} → {known[-1][1]:.4g}"
        parts.append(f'<text x="10" y="{height + 14 + 16 * index}" font-size="12" fill="{colour}">{legend}</text>')
    return "".join([*parts, "</svg>"])


def _data_uri(name: str, kind: str, content: bytes) -> str:
    return f"![{name}](data:{kind};base64,{base64.b64encode(content).decode()})"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|").replace("\n", " ")
