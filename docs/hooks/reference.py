"""The pages of the reference, each written from the code when the site is built."""

import importlib
from collections.abc import Callable
from pathlib import Path

import command_line
import interfaces
import models

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = (
    ("result.json", "what a training that ended well says of itself", "trainer.contract.results:TrainResult"),
    ("failure.json", "why a training ended badly", "trainer.contract.results:Failure"),
    ("exports.json", "the exported files of a model", "trainer.contract.results:Exports"),
    ("eval_report.json", "every score, by split and slice", "trainer.contract.eval_report:EvalReport"),
    ("charts.json", "curves and matrices as figures", "trainer.contract.charts:Charts"),
    ("score.json", "a cross-validation's score", "trainer.contract.run_infos:CrossValidationResult"),
    (
        "reference_profile.json",
        "the train split as the drift gate sees it",
        "trainer.contract.reference_profile:ReferenceProfile",
    ),
    (
        "sweep_summary.json",
        "what the report of a sweep is made of",
        "training_assets.sweeps.report.summary:SweepSummary",
    ),
    ("images.json", "the images that were built", "training_assets.images:BuiltImages"),
)
BACKENDS = (
    ("ecs", "training_assets.launchers.ecs.task:EcsSettings"),
    ("eks", "training_assets.launchers.eks.settings:Settings"),
    ("sagemaker", "training_assets.launchers.sagemaker.job:Settings"),
)


def pages() -> dict[str, str]:
    """The Markdown of each page, by its place in the site."""
    written: dict[str, Callable[[], str]] = {
        "index": _index,
        "recipe": _recipe,
        "manifest": _manifest,
        "slices": _slices,
        "sweep": _sweep,
        "profile": _profile,
        "files": _files,
        "command-line": _command_line,
        "interfaces": _interfaces,
    }
    return {f"reference/{name}.md": write() for name, write in written.items()}


def _index() -> str:
    return """# Reference

Written from the code when these pages are built, so it is what this version does.

| page | what |
| --- | --- |
| [Recipe](recipe.md) | every field of `recipes/*.yaml` |
| [Manifest row](manifest.md) | one sample of a delivery |
| [slices.yaml](slices.md) | the label map, the slices and what is asked on them |
| [sweep.yaml](sweep.md) | what is tuned, how, and within which budget |
| [Profile](profile.md) | where data lives, what launches, where models are registered |
| [Files that are written](files.md) | results, reports and records |
| [Command line](command-line.md) | every command and option |
| [Interfaces](interfaces.md) | what a new task, launcher, store or search follows |
"""


def _recipe() -> str:
    return f"""# Recipe

A recipe is one file, `recipes/NAME.yaml`; `NAME` is its `name`. Any field can be given otherwise without editing the
file, the later one wins:

1. in the environment: `TRAIN__OPTIM__LR=1e-3`, levels parted by two underscores;
2. on the command line: `--set optim.lr=1e-3`.

{_of("trainer.contract.train_config:TrainConfig")}"""


def _manifest() -> str:
    return f"""# Manifest row

A delivery has `golden_train.manifest`, `golden_val.manifest` and `golden_test.manifest`: JSON Lines, one sample a row,
paths relative to the manifest.

{_of("trainer.contract.manifest:Row")}"""


def _slices() -> str:
    return f"# slices.yaml\n\n{_of('trainer.contract.slices:Slices')}"


def _sweep() -> str:
    text = "[Sweeps](../sweeps.md) says what the keys mean together; distributions and metrics are there too."
    return f"# sweep.yaml\n\n{text}\n\n{_of('training_assets.sweeps.sweep_file:Sweep')}"


def _profile() -> str:
    backends = (f"## `backend` of {name}\n\n{_of(place, 3)}" for name, place in BACKENDS)
    head = f"""# Profile

A profile is `training_assets/profiles/NAME.yaml`; `TRAINING_ASSETS_PROFILE` chooses it, by default `local`.
`${{NAME:-default}}` takes a variable of the environment whose name begins with `TRAINING_ASSETS_`.

{_of("training_assets.profiles:Profile")}"""
    return "\n".join([head, *backends])


def _files() -> str:
    sections = (f"## `{file}`\n\n{what[0].upper()}{what[1:]}.\n\n{_of(place, 3)}" for file, what, place in WRITTEN)
    return "\n".join(["# Files that are written\n", *sections])


def _command_line() -> str:
    parts = (command_line.described(_parser(package)) for package in ("training_assets", "trainer"))
    return "\n".join(["# Command line\n", *parts])


def _interfaces() -> str:
    head = "# Interfaces\n\nA new part is one file that follows one of these, and a line where its kind is listed.\n"
    return f"{head}\n{interfaces.described(ROOT)}"


def _of(place: str, level: int = 2) -> str:
    module, _, name = place.partition(":")
    return models.described(getattr(importlib.import_module(module), name), level)


def _parser(package: str) -> "command_line.argparse.ArgumentParser":
    module = importlib.import_module(f"{package}.__main__")
    return module.parser() if hasattr(module, "parser") else module._parser()
