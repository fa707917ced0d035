"""The best few: judged on what no trial has seen, and each packaged as a release would hold it."""

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from trainer.contract.eval_report import EvalReport
from trainer.contract.files import digest_of, write_text
from training_assets.assets.evaluation import evaluate
from training_assets.assets.release import draft_of, refuse_other_model, released_files
from training_assets.dashboard import write_dashboard
from training_assets.facts import facts_of
from training_assets.finals.closing import Closing, kept
from training_assets.finals.contenders import Contender, slice_gate
from training_assets.finals.models import Model, model_of
from training_assets.finals.smoke import SmokeSet
from training_assets.finals.trainings import OutOfBudget
from training_assets.gates import JUDGED_SPLIT, GateResult
from training_assets.model_card import model_card
from training_assets.records import Checkpoint, Evaluation, ExportedModel, ModelCard
from training_assets.stores.entries import Draft, SweepLineage

EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True)
class Package:
    """One of the best. ``draft`` is what would be registered of it, with the gates of a release.

    ``smoke`` is its score on the simulated rare conditions, None where its recipe cannot be judged on them.
    """

    contender: Contender
    directory: Path
    files: Mapping[str, Path]
    evaluation: Evaluation
    draft: Draft
    smoke: EvalReport | None

    @property
    def passes(self) -> bool:
        return not any(gate.blocks for gate in self.draft.gates)

    @property
    def failures(self) -> str:
        """Which gates it does not pass, where and by how much."""
        return "; ".join(f"{gate.name}: {gate.failures}" for gate in self.draft.gates if gate.blocks)


def packages_of(closing: Closing, best: list[Contender], smoke: SmokeSet | None) -> tuple[list[Package], list[str]]:
    """``best``, in this order, below ``report/top``; what lay there before is replaced. And why one is not there."""
    top, made, missing = closing.place.report / "top", [], []
    for rank, one in enumerate(best, start=1):
        try:
            model = model_of(closing, one)
        except (OutOfBudget, dg.Failure) as why:
            missing.append(f"{one.name} is not packaged, its model could not be made: {_why(why)}.")
            continue
        made.append(_judged(closing, one, model, top / f"{rank}-{one.name}", smoke))
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(top)
    for package in made:
        _gather(package)
    return made, missing


def _why(error: Exception) -> str:
    return " ".join(str(error).split())


def _judged(closing: Closing, one: Contender, model: Model, directory: Path, smoke: SmokeSet | None) -> Package:
    checkpoint, exported = model.checkpoint, model.exported
    evaluation = _evaluated(closing, one, checkpoint)
    refuse_other_model(checkpoint, evaluation, exported, closing.places)
    card = _described(closing, checkpoint, evaluation, exported)
    draft = draft_of(
        closing.recipe,
        checkpoint,
        evaluation,
        exported,
        closing.places,
        closing.registry,
        SweepLineage(tune=closing.place.tune, trial=one.name),
    )
    return Package(
        contender=one,
        directory=directory,
        files=released_files(checkpoint, evaluation, exported, card, closing.places),
        evaluation=evaluation,
        draft=draft.model_copy(update={"gates": (*draft.gates, *_against_today(closing, evaluation))}),
        smoke=None if smoke is None else _smoked(closing, one, checkpoint, smoke),
    )


def _against_today(closing: Closing, evaluation: Evaluation) -> list[GateResult]:
    """The sweep's own gate once more: production may be another than when the trial was judged."""
    asked = slice_gate(closing, evaluation)
    return [] if asked is None else [asked]


def _evaluated(closing: Closing, one: Contender, checkpoint: Checkpoint) -> Evaluation:
    """On val and the held-out test, beside what is in production now."""
    shards, production = closing.plan.eval_shards, closing.production
    out = _named(closing, one, "evaluation", checkpoint, [shards.digest, production.reference if production else None])

    def make() -> Evaluation:
        return evaluate(
            closing.context,
            closing.launcher,
            closing.places,
            checkpoint.training_set.dataset,
            checkpoint=_weights(closing, checkpoint),
            splits={"val": shards.val, JUDGED_SPLIT: shards.test},
            out=out,
            against=closing.production_weights,
            overrides=checkpoint.overrides,
        )

    return kept(out / EVALUATION_FILE, Evaluation, make)


def _smoked(closing: Closing, one: Contender, checkpoint: Checkpoint, smoke: SmokeSet) -> EvalReport | None:
    """No gate goes by it: where it fails, the model is released without."""
    production = closing.production
    out = _named(closing, one, "smoke", checkpoint, [smoke.shards.digest, production.reference if production else None])

    def make() -> Evaluation:
        return evaluate(
            closing.context,
            closing.launcher,
            closing.places,
            smoke,
            checkpoint=_weights(closing, checkpoint),
            splits={JUDGED_SPLIT: smoke.shards},
            out=out,
            against=closing.production_weights,
            overrides=checkpoint.overrides,
        )

    try:
        return kept(out / EVALUATION_FILE, Evaluation, make).report
    except dg.Failure as failure:
        closing.context.log.warning(f"{one.name} is not judged on the smoke set: {failure.description}")
        return None


def _named(closing: Closing, one: Contender, what: str, checkpoint: Checkpoint, asked: list[str | None]) -> Path:
    """A directory of its own for each model, data and production that is compared with."""
    return closing.directory(one.name) / f"{what}-{digest_of([checkpoint.sha256, *asked])[:8]}"


def _weights(closing: Closing, checkpoint: Checkpoint) -> Path:
    return closing.places.absolute(checkpoint.directory) / checkpoint.result.best_checkpoint


def _described(closing: Closing, checkpoint: Checkpoint, evaluation: Evaluation, exported: ExportedModel) -> ModelCard:
    facts = facts_of(closing.recipe, checkpoint, evaluation, exported.exports, closing.places, closing.registry)
    write_dashboard(facts)
    path = closing.places.absolute(evaluation.directory) / "model_card.md"
    write_text(path, model_card(facts))
    return ModelCard(path=closing.places.relative(path))


def _gather(package: Package) -> None:
    """All its files in one directory: the same files under a second name, or copies where that cannot be."""
    for name, path in package.files.items():
        target = package.directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)
