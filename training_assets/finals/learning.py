"""Learning back: what the sweep says of its recipe, and of the data that no settings make up for."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from trainer.contract.charts import read_charts
from trainer.contract.errors import ContractError
from trainer.contract.eval_report import EvalReport
from trainer.contract.manifest import Row
from trainer.contract.shard_index import read_data_spec, read_index
from trainer.contract.slices import Slices
from training_assets.facts import slices_of
from training_assets.finals.closing import Closing
from training_assets.finals.contenders import Contender
from training_assets.gates import JUDGED_SPLIT, GateResult, targets_met
from training_assets.records import Evaluation
from training_assets.stores.events import Outbox
from training_assets.sweeps.data_request import data_request, events_of, worst_first, write_data_request
from training_assets.sweeps.learning import propose, write_proposal
from training_assets.sweeps.regression import SPLIT
from training_assets.sweeps.report import SweepSummary

PROPOSAL = "proposal"


def proposed(closing: Closing, summary: SweepSummary) -> tuple[str | None, str]:
    """Where the change of the recipe lies that its winner proposes; or a word on why none is proposed."""
    if summary.outcome.winner is None:
        return None, ""
    recipes, winner = closing.profile.recipes, summary.trial(summary.outcome.winner)
    try:
        made = propose(
            summary,
            winner,
            recipes / f"{closing.plan.recipe}.yaml",
            recipes.parent,
            recipe_sha256=closing.plan.recipe_sha256,
        )
    except ContractError as error:
        return None, f"No change of the recipe is proposed: {' '.join(str(error).split())}"
    if not made.files:
        return None, "The winner is the recipe as it is: no change of it is proposed."
    path = write_proposal(made, closing.place.report / PROPOSAL)
    return path.relative_to(closing.place.report).as_posix(), ""


def asked_for_data(closing: Closing, judged: list[Contender], outbox: Outbox) -> str | None:
    """Where the request lies for data of the slices that all judged trials fail on val, told to others; None: none."""
    gates = {one.name: _slice_gates(closing, one) for one in judged if one.record.evaluation}
    if data_request(closing.place.tune, closing.recipe, gates, {}, {}) is None:
        return None
    evaluation = next(one.record.evaluation for one in judged if one.record.evaluation)
    slices, places = slices_of(evaluation, closing.places), closing.places
    learnt = _rows(closing, places.absolute(closing.plan.training_set.directory), "train")
    frames = Counter(part.name for row in learnt for part in slices.slices if part.holds(row))
    request = data_request(closing.place.tune, closing.recipe, gates, frames, _examples(closing, evaluation, slices))
    assert request is not None, "the same gates as above"
    path = write_data_request(request, closing.place.report)
    outbox.emit(events_of(request), closing.context.log.warning)
    return path.name


def _slice_gates(closing: Closing, one: Contender) -> list[GateResult]:
    evaluation = one.record.evaluation
    assert evaluation is not None, "only these are asked"
    slices = slices_of(evaluation, closing.places)
    return [one.gate, targets_met(_val_as_judged(evaluation.report), slices, closing.recipe)]


def _val_as_judged(report: EvalReport) -> EvalReport:
    """Test is no matter of a trial: the targets are asked of val."""
    return report.model_copy(update={"splits": {JUDGED_SPLIT: report.splits[SPLIT]}})


def _examples(closing: Closing, evaluation: Evaluation, slices: Slices) -> dict[str, tuple[str, ...]]:
    """Frames of val by slice, those that the best trial does worst on first."""
    rows = list(_rows(closing, closing.places.absolute(evaluation.data), SPLIT))
    members = {part.name: [row.sample_id for row in rows if part.holds(row)] for part in slices.slices}
    return worst_first(read_charts(closing.places.absolute(evaluation.directory)), members, SPLIT)


def _rows(closing: Closing, data: Path, split: str) -> Iterator[Row]:
    for name in read_data_spec(data).splits[split]:
        yield from (sample.row for sample in read_index(closing.places.shards / Path(name).name).samples)
