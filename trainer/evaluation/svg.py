"""Charts as SVG: small, sharp at any size, and the same bytes for the same figures."""

from collections.abc import Iterator
from colorsys import hls_to_rgb
from html import escape

from trainer.contract.charts import SUMMARY, Chart, Confusion, Curves, Line

PLOT, LEFT, TOP, BOTTOM = 300, 50, 34, 44
LEGEND, ROW = 210, 15
CELL, NAMES = 40, 130
INK, FAINT, SHADE = "#1e293b", "#cbd5e1", (29, 78, 216)
DASHES = ("", "6 3", "2 3")
WORDS = {
    "precision_recall": ("precision over recall at IoU 0.5", "recall", "precision"),
    "roc": ("each class against all others", "false positive rate", "true positive rate"),
    "reliability": ("reliability", "confidence", "accuracy"),
}
DIAGONAL = ("roc", "reliability")
"""Curves that are read against the diagonal: chance, or perfect calibration."""
LEAST_SHARE = 0.005
LONGEST = 20


def svg_of(task: str, chart: Chart) -> str:
    """The picture of ``chart``."""
    return _confusion(task, chart) if chart.kind == "confusion" else _curves(task, chart)


def _curves(task: str, curves: Curves) -> str:
    title, across, up = WORDS[curves.kind]
    lines = sorted(curves.lines, key=lambda line: -line.summary)
    height = max(TOP + PLOT + BOTTOM, TOP + ROW * (len(lines) + 1))
    parts = [_text(LEFT, 20, f"{task}: {title}", size=13), *_axes(across, up)]
    if curves.kind in DIAGONAL:
        parts.append(_path([_place(0, 0), _place(1, 1)], INK, "2 4", 1))
    if not lines:
        parts.append(_text(LEFT + 20, TOP + PLOT / 2, "not defined: no samples to draw it from"))
    for number, line in enumerate(lines):
        colour = _colour(number, len(lines))
        parts.append(_path([_place(x, y) for x, y in zip(line.x, line.y, strict=True)], colour, DASHES[number % 3]))
        parts += _bins(line, colour)
        legend = f"{SUMMARY[curves.kind]} {line.summary:.3f}  {_short(line.name)}"
        parts.append(_text(LEFT + PLOT + 14, TOP + ROW * number + 10, legend, colour))
    return _document(LEFT + PLOT + LEGEND, height, parts)


def _axes(across: str, up: str) -> Iterator[str]:
    for tick in (0, 0.25, 0.5, 0.75, 1):
        for ends in (((tick, 0), (tick, 1)), ((0, tick), (1, tick))):
            yield _path([_place(*end) for end in ends], FAINT, width=1)
        yield _text(_place(tick, 0)[0], TOP + PLOT + 14, f"{tick:g}", anchor="middle")
        yield _text(LEFT - 6, _place(0, tick)[1] + 4, f"{tick:g}", anchor="end")
    yield _text(LEFT + PLOT / 2, TOP + PLOT + 32, across, anchor="middle")
    place = f"{14:g} {TOP + PLOT / 2:g}"
    yield f'<g transform="translate({place}) rotate(-90)">{_text(0, 0, up, anchor="middle")}</g>'


def _bins(line: Line, colour: str) -> Iterator[str]:
    """Of each bin a dot, the larger the more predictions are in it."""
    total = sum(line.predictions or ()) or 1
    for x, y, count in zip(line.x, line.y, line.predictions or (), strict=False):
        left, top = _place(x, y)
        yield f'<circle cx="{left:.1f}" cy="{top:.1f}" r="{2 + 8 * (count / total) ** 0.5:.1f}" fill="{colour}"/>'


def _confusion(task: str, chart: Confusion) -> str:
    size = CELL * len(chart.classes)
    parts = [
        _text(8, 20, f"{task}: confusion", size=13),
        _text(8, 36, "rows: truth, columns: prediction; share of row"),
    ]
    for number, (name, counts) in enumerate(zip(chart.classes, chart.counts, strict=True)):
        middle = NAMES + CELL * (number + 0.5)
        parts.append(_text(NAMES - 6, middle + 4, _short(name), anchor="end"))
        label = _text(0, 0, _short(name))
        parts.append(f'<g transform="translate({middle + 4:g} {NAMES - 6:g}) rotate(-60)">{label}</g>')
        parts += _cells(NAMES + CELL * number, counts)
    frame = f'<rect x="{NAMES}" y="{NAMES}" width="{size}" height="{size}" fill="none" stroke="{FAINT}"/>'
    return _document(NAMES + max(size, CELL * 4) + NAMES // 2, NAMES + size + 10, [*parts, frame])


def _cells(top: float, counts: tuple[int, ...]) -> Iterator[str]:
    """One row; what rounds to nothing is left blank."""
    total = sum(counts)
    for column, count in enumerate(counts):
        share = count / total if total else 0.0
        if share >= LEAST_SHARE:
            left, colour = NAMES + CELL * column, "white" if share > 0.5 else INK
            fill = "#" + "".join(f"{round(255 - share * (255 - part)):02x}" for part in SHADE)
            yield f'<rect x="{left}" y="{top}" width="{CELL}" height="{CELL}" fill="{fill}"/>'
            yield _text(left + CELL / 2, top + CELL / 2 + 4, f"{share:.2f}", colour, anchor="middle")


def _document(width: float, height: float, parts: list[str]) -> str:
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"'
            f' width="{width:g}" height="{height:g}" font-family="sans-serif">',
            f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _place(x: float, y: float) -> tuple[float, float]:
    """A point of 0…1 in pixels."""
    return LEFT + x * PLOT, TOP + (1 - y) * PLOT


def _path(points: list[tuple[float, float]], colour: str, dash: str = "", width: float = 1.8) -> str:
    coordinates = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{coordinates}" fill="none" stroke="{colour}" stroke-width="{width:g}"{dashed}/>'


def _text(x: float, y: float, text: str, colour: str = INK, size: int = 11, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'


def _colour(number: int, of: int) -> str:
    """Hues as far apart as so many can be, dark enough to be seen on white."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in hls_to_rgb(number / max(of, 1), 0.4, 0.75))


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
