"""One table of ends, in the code and in the documents."""

import re
from pathlib import Path
from typing import get_args

from trainer.contract.results import FailureKind
from training_assets.launchers.outcomes import OUTCOMES

DOCUMENT = Path(__file__).parents[3] / "docs" / "launching.md"


def test_every_way_to_end_has_its_treatment() -> None:
    assert set(OUTCOMES) == set(get_args(FailureKind))


def test_the_document_says_what_the_code_does() -> None:
    section = DOCUMENT.read_text().partition("## How attempts end")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| (.+) \|$", section, re.MULTILINE)
    told = {kind: ("none" if budget == "never tried again" else budget, meaning) for kind, budget, meaning in rows}
    assert told == {kind: (outcome.budget, outcome.meaning) for kind, outcome in OUTCOMES.items()}
