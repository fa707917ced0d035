"""The figures that Dagster plots over windows. Their keys stay as they are: a plot is that of a key."""

from collections.abc import Mapping

from trainer.contract.eval_report import OVERALL, EvalReport
from trainer.contract.results import Exports
from training_assets.gates import JUDGED_SPLIT, LATENCY_FORMAT
from training_assets.launchers.session import Spent
from training_assets.metadata import numbers

SCORES: Mapping[str, str] = {
    "mAP": "detection/AP",
    "AP50": "detection/AP50",
    "mIoU": "segmentation/mIoU",
    "lane_F1": "lanes/F1",
    "FDE": "trajectory/FDE",
}
"""One figure a task, and COCO's second; of the whole test split."""


def scores(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """The headline metrics among ``<task>/<metric>``; what is not defined is left out."""
    return numbers({key: metrics.get(metric) for key, metric in SCORES.items()})


def report_headlines(report: EvalReport) -> dict[str, float]:
    """Scores on test, and how far each is from production's."""
    judged = report.splits.get(JUDGED_SPLIT)
    if judged is None:
        return {}
    changes = report.against.splits.get(JUDGED_SPLIT, {}).get(OVERALL, {}) if report.against else {}
    moved = {
        f"{key}_to_production": changes[metric].value - changes[metric].reference
        for key, metric in SCORES.items()
        if metric in changes
    }
    return {**scores(judged.metrics), **moved}


def latency_headline(exports: Exports) -> dict[str, float]:
    """The p95 of one forward pass with batch 1, of the format that the gate asks."""
    timed = [one.latency.p95_ms for one in exports.files if one.format == LATENCY_FORMAT]
    return {"p95_latency_ms": timed[0]} if timed else {}


def cost_headlines(spent: Spent) -> dict[str, float]:
    """GPU hours and US dollars of all attempts at a training; no dollars where no price is known."""
    price = {} if spent.usd is None else {"cost_usd": round(spent.usd, 2)}
    return {"gpu_hours": round(spent.gpu_hours, 3), **price}
