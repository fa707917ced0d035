"""A small good delivery that tests then spoil."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from trainer.contract.delivery import read_delivery
from trainer.contract.errors import ContractError, Problem

SLICES = {
    "labels": {"semantic": {"classes": ["road", "sky"], "ignore_id": 255}, "boxes": ["car"]},
    "slices": [{"name": "night", "where": {"attributes.time_of_day": "night"}}],
}


class DeliveryKit:
    """Rows as plain JSON values, by split; ``write`` puts them on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "images").mkdir(parents=True)
        self.rows: dict[str, list[dict[str, Any]]] = {}
        for number, split in enumerate(("train", "val", "test")):
            self.rows[split] = [self.row(f"{split}-{place}", seed=10 * number + place) for place in range(2)]
        self.slices: Any = SLICES

    def row(self, sample_id: str, seed: int) -> dict[str, Any]:
        picture = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        mask = np.random.default_rng(seed).integers(0, 2, (24, 32), dtype=np.uint8)
        image_sha256 = self.put(f"images/{sample_id}.png", cv2.imencode(".png", picture)[1].tobytes())
        mask_sha256 = self.put(f"images/{sample_id}-mask.png", cv2.imencode(".png", mask)[1].tobytes())
        return {
            "sample_id": sample_id,
            "source-ref": f"images/{sample_id}.png",
            "sha256": image_sha256,
            "captured_at": "2026-01-07T12:00:00Z",
            "attributes": {"time_of_day": "night"},
            "boxes": [{"category": "car", "bbox": [1.0, 2.0, 10.0, 8.0]}],
            "semantic-ref": f"images/{sample_id}-mask.png",
            "semantic-sha256": mask_sha256,
            "licence": "CC0-1.0",
            "origin": "made up",
        }

    def put(self, reference: str, content: bytes) -> str:
        (self.root / reference).write_bytes(content)
        return hashlib.sha256(content).hexdigest()

    def replace_image(self, row: dict[str, Any], content: bytes) -> None:
        """Other bytes under the row's image, with a sha256 that is right for them."""
        row["sha256"] = self.put(row["source-ref"], content)

    def write(self) -> Path:
        for split, rows in self.rows.items():
            lines = [json.dumps(row) + "\n" for row in rows]
            (self.root / f"golden_{split}.manifest").write_text("".join(lines))
        (self.root / "slices.yaml").write_text(json.dumps(self.slices))
        return self.root

    def problems(self) -> list[Problem]:
        """What reading the delivery as it is now reports."""
        root = self.write()
        with pytest.raises(ContractError) as caught:
            read_delivery(root)
        return caught.value.problems


@pytest.fixture
def kit(tmp_path: Path) -> DeliveryKit:
    return DeliveryKit(tmp_path / "delivery")


@pytest.fixture
def only() -> Callable[[list[Problem]], Problem]:
    """The one problem of a report that must hold exactly one."""

    def take(problems: list[Problem]) -> Problem:
        assert len(problems) == 1, problems
        return problems[0]

    return take
