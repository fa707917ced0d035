"""Learning back: what the sweep says of its recipe, and of the data that no settings make up for."""

from training_assets.finals.closing import Closing
from training_assets.finals.contenders import Contender
from training_assets.stores.events import Outbox
from training_assets.sweeps.report import SweepSummary


def proposed(closing: Closing, summary: SweepSummary) -> str | None:
    return None


def asked_for_data(closing: Closing, judged: list[Contender], outbox: Outbox) -> str | None:
    return None
