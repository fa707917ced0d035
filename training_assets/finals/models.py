"""The model of a contender: that of its trial, or where its trial was a cross-validation one that is trained now."""

from training_assets.assets.evaluation import export
from training_assets.finals.closing import Closing, kept
from training_assets.finals.contenders import Contender
from training_assets.finals.trainings import finish, prepared
from training_assets.records import Checkpoint, ExportedModel, Record


class Model(Record):
    checkpoint: Checkpoint
    exported: ExportedModel


def model_of(closing: Closing, one: Contender) -> Model:
    """
    Raises:
        OutOfBudget: it is to be trained, and may not be.
        dg.RetryRequested, dg.Failure: as a training and an export do.
    """
    checkpoint, exported = one.record.checkpoint, one.record.exported
    if checkpoint is not None and exported is not None:
        return Model(checkpoint=checkpoint, exported=exported)
    return kept(closing.directory(one.name) / "model.json", Model, lambda: _trained(closing, one))


def _trained(closing: Closing, one: Contender) -> Model:
    """On all of the sweep's training set, with the recipe's own seed."""
    run = prepared(closing, one, closing.place.recipe.seed, closing.plan.training_set, "model")
    finish(closing, run)
    plan = closing.place.trial(one.id).plan
    overrides = plan.overrides if plan else ()
    checkpoint = run.record(closing.places, closing.context.run.run_id, overrides, closing.profile.name)
    return Model(checkpoint=checkpoint, exported=export(closing.context, closing.launcher, closing.places, checkpoint))
