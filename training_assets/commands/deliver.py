"""``deliver``: check a delivery wholly, then put it where the sensor sees it."""

import shutil
from collections import Counter
from pathlib import Path

from trainer.contract.delivery import DeliveryReader
from trainer.terminal.answers import Answer
from trainer.terminal.progress import counted
from training_assets.in_process import say
from training_assets.localised import localised
from training_assets.places import Places
from training_assets.profiles import load_profile
from training_assets.stores.inbox import inbox_of


def deliver(directory: Path, name: str | None) -> Answer:
    """Put the delivery in ``directory`` into the inbox; what is there already under this name is kept if it is equal.

    Files that its rows name in S3 are fetched and delivered with it.

    Raises:
        ContractError: it is not a delivery, all its problems in one report; or another one has the name.
    """
    profile, name = load_profile(), name or directory.resolve().name
    inbox = inbox_of(profile.inbox)
    scratch = Places(profile.store).fetched / f"remote-{name}"
    whole = localised(directory, scratch, counted("fetched", "files"))
    say(f"checking {directory}")
    rows = Counter(sample.split for sample in DeliveryReader(whole, progress=counted("checked", "samples")))
    say(f"it is sound: {', '.join(f'{split} {count}' for split, count in rows.items())}")
    found = inbox.put(whole, name, counted("put", "files"))
    shutil.rmtree(scratch, ignore_errors=True)
    uri = f"{inbox.uri}/{found.name}"
    said = f"• delivered as {uri}: the delivery sensor takes it from there"
    return Answer({"delivery": found.name, "uri": uri, "rows": dict(rows)}, said)
