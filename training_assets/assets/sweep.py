"""The end of a sweep: its best trials once more, the winner registered, and the report."""

import dagster as dg

from trainer.contract.train_config import TrainConfig
from training_assets import partitions


def sweep_report_asset(recipe: TrainConfig) -> dg.AssetsDefinition:
    @dg.asset(
        key=[recipe.name, "sweep_report"],
        partitions_def=partitions.sweeps(recipe.name),
        description="What a sweep came to: `sweep_report.md`, `sweep_summary.json`, its best models and the winner.",
    )
    def sweep_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        raise dg.Failure("not yet", allow_retries=False)

    return sweep_report
