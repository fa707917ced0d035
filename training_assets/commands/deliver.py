"""``deliver``: check a delivery wholly, then put it where the sensor sees it."""

import shutil
import sys
from collections import Counter
from pathlib import Path

from trainer.contract.delivery import DeliveryReader
from training_assets.in_process import say
from training_assets.localised import localised
from training_assets.places import Places
from training_assets.profiles import load_profile
from training_assets.stores.inbox import inbox_of


def deliver(directory: Path, name: str | None) -> int:
    """Put the delivery in ``directory`` into the inbox; what is there already under this name is kept if it is equal.

    Files that its rows name in S3 are fetched and delivered with it.

    Raises:
        ContractError: it is not a delivery, all its problems in one report; or another one has the name.
    """
    profile, name = load_profile(), name or directory.resolve().name
    inbox = inbox_of(profile.inbox)
    scratch = Places(profile.store).fetched / f"remote-{name}"
    whole = localised(directory, scratch, _count("fetched", "files"))
    say(f"checking {directory}")
    rows = Counter(sample.split for sample in DeliveryReader(whole, progress=_count("checked", "samples")))
    say(f"it is sound: {', '.join(f'{split} {count}' for split, count in rows.items())}")
    found = inbox.put(whole, name, _count("put", "files"))
    shutil.rmtree(scratch, ignore_errors=True)
    say(f"delivered as {inbox.uri}/{found.name}: the delivery sensor takes it from there")
    return 0


class _count:
    """Progress on a terminal, on one line; silent elsewhere."""

    def __init__(self, verb: str, what: str) -> None:
        self.verb, self.what = verb, what

    def __call__(self, done: int, total: int) -> None:
        if sys.stdout.isatty():
            end = "\n" if done == total else "\r"
            print(f"  {self.verb} {done} of {total} {self.what}", end=end, flush=True)
