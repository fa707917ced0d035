"""Figures with their 95 % intervals, as people read them: the same words in tables, pages and terminals."""

from trainer.contract.eval_report import Change, Interval

NOTHING = "–"


def figure(value: float | None) -> str:
    """Four significant digits."""
    return NOTHING if value is None else f"{value:.4g}"


def spread(interval: Interval | None) -> str:
    """``0.551…0.663``; empty where there is none."""
    return "" if interval is None else f"{interval[0]:.3g}…{interval[1]:.3g}"


def with_interval(value: float | None, interval: Interval | None) -> str:
    """``0.6123 (0.551…0.663)``."""
    return figure(value) if interval is None else f"{figure(value)} ({spread(interval)})"


def changed(change: Change | None) -> str:
    """How far from the reference, and the interval of that: ``+0.012 (-0.003…+0.027)``."""
    if change is None:
        return NOTHING
    low, high = change.interval
    return f"{change.value - change.reference:+.3g} ({low:+.3g}…{high:+.3g})"
