"""What each asset takes and makes, as people read it in the sidebar below its description. By the last part of its key.

Assets are named as in the graph; everything that an asset depends on there is among what it takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Flow:
    """``takes`` and ``makes``: a line each."""

    takes: tuple[str, ...]
    makes: tuple[str, ...]

    @property
    def markdown(self) -> str:
        return "\n\n".join(f"**{title}**\n{_list(lines)}" for title, lines in (("In", self.takes), ("Out", self.makes)))


def _list(lines: tuple[str, ...]) -> str:
    return "\n".join(f"- {line}" for line in lines)


CURATION = "a delivery in the inbox, made by curation"
PRODUCTION = "the version in production, where there is one"
FLOW: Mapping[str, Flow] = {
    "train": Flow((CURATION,), ("one line a sample: image, labels, attributes, licence, capture time",)),
    "val": Flow((CURATION,), ("one line a sample; models are chosen on it",)),
    "test": Flow((CURATION,), ("one line a sample; models are judged on it",)),
    "slices": Flow((CURATION,), ("named parts of the data, and what is asked of a model on each",)),
    "dataset_version": Flow(
        ("`golden/train`, `golden/val`, `golden/test`, `golden/slices`, and the images that they name",),
        ("the delivery pinned with DVC, its hash and digest", "its rows by window; counts by class, slice, licence"),
    ),
    "windows": Flow(("`dataset_version`",), ("how many rows of train each window has, and their sha256",)),
    "reference_profile": Flow(
        ("`dataset_version` and its images",),
        ("`reference_profile.json`: features of the train split", "a page on how far val and test are from it"),
    ),
    "staged_shards": Flow(
        ("`golden/windows`: the rows of a window, and their images",),
        ("WebDataset shards on fast storage, by content: each frame once", "the list of the window's shards"),
    ),
    "eval_shards": Flow(("`dataset_version`: the rows of val and test",), ("the shards of both splits",)),
    "mined_slice": Flow(
        ("`slices/<partition>.manifest` in the inbox, made by mining",), ("its shards, the images checked before",)
    ),
    "training_set": Flow(
        ("`staged_shards` of this window and those before it", "`mined_slice`: those that the recipe may learn from",
         "`eval_shards`: val, to choose the best checkpoint on"),
        ("`data.json`: the list of shards, and its digest",),
    ),
    "checkpoint": Flow(
        ("`training_set`", "`reference_profile`, for the check of drift", "the recipe, and weights to begin with"),
        ("`best.pt` and checkpoints to resume from", "loss curve, telemetry, cost", "a verdict of each check inside"),
    ),
    "exported_model": Flow(
        ("`checkpoint`",), ("ONNX, `.pt2`, TorchScript, int8 ONNX", "parity with eager; latency p50, p95, p99 of each")
    ),
    "eval_report": Flow(
        ("`checkpoint` and `exported_model`", "`eval_shards` and `slices`: what it is judged on and by", PRODUCTION),
        ("`eval_report.json`: metrics with intervals, by slice", "`dashboard.html`; curves, matrices, sample sheets"),
    ),
    "model_card": Flow(
        ("`checkpoint`, `exported_model` and `eval_report`",), ("`model_card.md`: use, data, scores, caveats",)
    ),
    "registry_entry": Flow(
        ("`checkpoint`, `exported_model`, `eval_report` and `model_card`, all of one model", "every gate, asked again"),
        ("a version with its lineage and files", "the alias `candidate/<task>/<date>`"),
    ),
    "slice_eval": Flow(
        ("`mined_slice`", PRODUCTION), ("production's scores on the slice", "whether they meet the recipe's targets")
    ),
    "trial": Flow(
        ("`training_set`, as it was when the sweep began", "settings that the search chose"),
        ("the trial's scores on val, cost and loss curve", "its checkpoint, which the sweep's end may choose"),
    ),
    "sweep_report": Flow(
        ("the trials of the sweep that this partition names", "test, and simulated scenes of rare conditions"),
        ("`sweep_report.md`, `sweep_summary.json`, a page", "packages of the best trials; the winner, registered",
         "a proposal for the recipe, a request for data"),
    ),
}  # fmt: skip


def described(name: str, text: str | None) -> str:
    """``text`` and below it what the asset takes and makes."""
    flow = FLOW.get(name)
    return "\n\n".join(part for part in (text, flow and flow.markdown) if part)
