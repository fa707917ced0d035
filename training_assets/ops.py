"""Work that makes no asset: clearing the store. Which of it is a job is in ``jobs.py``."""

import time

import dagster as dg
from pydantic import Field

from training_assets import metadata
from training_assets.places import Places
from training_assets.policies import reaching_storage
from training_assets.retention import KINDS, Report, passing, report
from training_assets.stores.fast_storage import FastStorage
from training_assets.stores.inventory import inventory, named, retire
from training_assets.stores.registry import Registry

DAY = 86_400.0


class RetentionConfig(dg.Config):
    """What is cleared away, and whether it really is."""

    dry_run: bool = Field(default=True, description="Only tell what would go.")
    keep_days: int = Field(
        default=30, ge=1, description="What was used in these days stays, whether anything refers to it or not."
    )


@dg.op(out=dg.Out(dg.Nothing))
def clear_store(
    context: dg.OpExecutionContext,
    config: RetentionConfig,
    places: dg.ResourceParam[Places],
    storage: dg.ResourceParam[FastStorage],
    registry: dg.ResourceParam[Registry],
) -> None:
    """Take away shards, training sets, runs, checkpoints and scratch that nothing refers to any more.

    The fast storage frees what its repository has too and nobody used in as many days.
    """
    before = time.time() - config.keep_days * DAY
    things = inventory(places)
    going = passing(things, named(places, registry, things), before)
    if not config.dry_run:
        going = retire(places, going, before)
        with reaching_storage():
            storage.release(config.keep_days, lambda amount: context.log.info(str(amount)))
    found = report(things, going)
    done = "would go (dry run)" if config.dry_run else "gone"
    context.log.info(f"{len(going)} of {len(things)} things, {found.bytes_going.total():,} bytes {done}")
    context.add_output_metadata(report_metadata(found, done))


def report_metadata(found: Report, done: str) -> dict[str, dg.MetadataValue]:
    rows = [(kind, found.things[kind], found.bytes[kind], found.going[kind], found.bytes_going[kind]) for kind in KINDS]
    return {
        "report": metadata.table(("kind", "things", "bytes", done, f"bytes {done}"), rows),
        "bytes": dg.MetadataValue.int(found.bytes.total()),
        "bytes_going": dg.MetadataValue.int(found.bytes_going.total()),
        **{f"bytes_going/{kind}": dg.MetadataValue.int(found.bytes_going[kind]) for kind in KINDS},
    }
