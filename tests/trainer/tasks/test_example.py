"""The task that docs/first-hour.md shows as an example is one: it trains, and its metrics come with the others."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import trainer.tasks
from trainer.contract.train_config import read_config
from trainer.data.loader import open_data
from trainer.data.staging import data_directory
from trainer.engine.loop import Trainer
from trainer.engine.parallel import Ranks

PAGE = Path(__file__).parents[3] / "docs" / "first-hour.md"


@pytest.fixture
def weather(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's file, beside the other tasks."""
    (code,) = re.findall(r"^```python title=\S+\n(\"\"\"Weather:.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "weather.py").write_text(code.replace('attributes["weather"]', 'attributes["time_of_day"]'))
    monkeypatch.setattr(trainer.tasks, "__path__", [*trainer.tasks.__path__, str(tmp_path / "tasks")])
    yield
    sys.modules.pop("trainer.tasks.weather", None)


@pytest.mark.usefixtures("weather")
def test_the_example_is_trained_beside_another(recipe: Path, delivery: Path, tmp_path: Path) -> None:
    value = yaml.safe_load(recipe.read_text())
    value["tasks"] = {"weather": {"classes": ["day", "night"]}, "segmentation": value["tasks"]["segmentation"]}
    value["training"] |= {"epochs": 1, "monitor": "weather/accuracy"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(value))
    config = read_config(tmp_path / "recipe.yaml", ["data.workers=0"], environment={})
    data = open_data(data_directory(delivery, tmp_path / "data", lambda text: None), ("train", "val"))
    result = Trainer(config, data, tmp_path / "run", "abcd1234", Ranks(0, 1, torch.device("cpu")), []).fit()
    assert set(result.epochs[0].losses) == {"weather", "segmentation", "total"}
    assert 0 <= (result.best_metric or 0) <= 1
    assert result.epochs[0].metrics["weather/accuracy"] == result.best_metric
    assert result.epochs[0].metrics["segmentation/mIoU"] is not None
