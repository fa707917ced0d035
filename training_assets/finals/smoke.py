"""The smoke set: synthetic scenes of rare conditions, made once for a store. A model that fails in them is seen here.

No gate goes by it: what is painted is not the road.
"""

import dagster as dg

from trainer.contract.delivery import manifest_name
from trainer.contract.slices import SLICES_FILE, read_slices
from training_assets.finals.closing import Closing
from training_assets.gates import JUDGED_SPLIT
from training_assets.launchers import LaunchSpec
from training_assets.launchers.session import new_attempt, run_to_end
from training_assets.places import Places
from training_assets.records import Record, ShardList
from training_assets.staging import Stager
from training_assets.stores.record_store import WHOLE, RecordStore

FRAMES = 48
KEY = dg.AssetKey("smoke_set")
"""Its record has the place of an asset's: retention keeps the shards that records name."""


class SmokeSet(Record):
    """The shards of rare conditions; ``directory`` holds the ``slices.yaml`` that tells these apart."""

    directory: str
    shards: ShardList

    def misfits(self, closing: Closing) -> list[str]:
        """Why models of the sweep's recipe cannot be judged on it; empty where they can."""
        slices = read_slices(closing.places.absolute(self.directory) / SLICES_FILE)
        return closing.recipe.misfits(slices, self.shards.label_counts)


def smoke_set(closing: Closing) -> SmokeSet:
    """The store's, made where there is none, or where its shards are gone."""
    records, places = RecordStore(closing.places), closing.places
    if records.has(KEY):
        known = records.read(KEY, WHOLE, SmokeSet)
        if all((places.shards / f"{shard.key}.json").is_file() for shard in known.shards.shards):
            return known
    made = _made(closing, places)
    records.write(KEY, WHOLE, made)
    return made


def _made(closing: Closing, places: Places) -> SmokeSet:
    directory = places.root / "smoke"
    delivery = directory / "rare"
    command = ("scenes", "--out", str(delivery), "--rare", str(FRAMES))
    run_to_end(closing.context, closing.launcher, LaunchSpec(command, directory, new_attempt()))
    manifest = delivery / manifest_name(JUDGED_SPLIT)
    stager = Stager(closing.context, closing.launcher, places, closing.dvc)
    shards = stager.manifests(delivery, {manifest.stem: manifest})[manifest.stem]
    return SmokeSet(directory=places.relative(delivery), shards=shards)
