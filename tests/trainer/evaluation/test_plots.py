"""Pictures: what is drawn is what was counted, and the worst is the worst whichever way a metric points."""

from types import SimpleNamespace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch

from trainer.contract.charts import Confusion, Curves, Line
from trainer.contract.manifest import Row, Track, tracks_sha256
from trainer.contract.train_config import Task as TaskConfig
from trainer.contract.train_config import TrainConfig
from trainer.data.augment import whole
from trainer.data.sample import Labelled
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.model import Checkpoint
from trainer.evaluation.plots import best_and_worst, write_charts
from trainer.evaluation.svg import LEFT, PLOT, TOP, svg_of
from trainer.models.hydranet import HydraNet
from trainer.tasks import build_tasks
from trainer.tasks.base import Task

SVG = "{http://www.w3.org/2000/svg}"


def drawn(chart):
    return ElementTree.fromstring(svg_of("detection", chart))  # noqa: S314 - our own


def texts(picture):
    return [one.text for one in picture.iter(f"{SVG}text")]


def test_every_class_has_its_line_and_its_figure_the_best_first():
    lines = (
        Line(name="car", x=(0.0, 1.0), y=(1.0, 0.5), summary=0.25),
        Line(name="<b>&", x=(0.0, 0.5, 1.0), y=(1.0, 1.0, 0.0), summary=0.75),
    )
    picture = drawn(Curves(kind="precision_recall", lines=lines))
    assert [text for text in texts(picture) if text.startswith("AP50")] == ["AP50 0.750  <b>&", "AP50 0.250  car"]
    points = [one.get("points") for one in picture.iter(f"{SVG}polyline")]
    assert f"{LEFT:.1f},{TOP:.1f} {LEFT + PLOT:.1f},{TOP + PLOT / 2:.1f}" in points


def test_a_bin_with_more_predictions_has_a_larger_dot():
    line = Line(name="all classes", x=(0.2, 0.9), y=(0.1, 0.8), predictions=(1, 99), summary=0.1)
    few, many = (float(one.get("r")) for one in drawn(Curves(kind="reliability", lines=(line,))).iter(f"{SVG}circle"))
    assert few < many


def test_a_curve_without_lines_says_so():
    assert any("not defined" in text for text in texts(drawn(Curves(kind="roc", lines=()))))


def test_a_confusion_matrix_shows_shares_of_rows():
    chart = Confusion(classes=("car", "person"), counts=((3, 1), (0, 0)))
    said = texts(drawn(chart))
    assert [text for text in said if "." in text] == ["0.75", "0.25"]
    assert said.count("person") == 2


class Fake(Task):
    """A task whose records are its metric's values."""

    name = "fake"
    head = targets = loss = record = draw = None

    def __init__(self, headline):
        self.headlines = (headline,)

    def statistics(self, records):
        values = np.array([np.nan if value is None else value for value in records])
        return SimpleNamespace(metrics=lambda counts: {self.headlines[0]: values[counts.argmax(axis=1)]})


def ranked(values, headline):
    evaluated = [SimpleNamespace(index=place, records={"fake": value}) for place, value in enumerate(values)]
    best, worst = best_and_worst(evaluated, Fake(headline))
    return [one.index for one, _ in best], [one.index for one, _ in worst]


@pytest.mark.parametrize(("headline", "first", "last"), [("AP", 9, 0), ("ADE", 0, 9)])
def test_the_best_is_the_highest_score_or_the_lowest_error(headline, first, last):
    best, worst = ranked([place / 10 for place in range(10)], headline)
    assert (best[0], worst[0]) == (first, last)
    assert len(best) == len(worst) == 4


def test_few_samples_are_shown_once_and_undefined_ones_never():
    assert ranked([0.1, None, 0.3, 0.2], "AP") == ([2, 3, 0], [])
    assert ranked([None, None], "AP") == ([], [])


def test_a_large_split_is_looked_at_evenly():
    best, worst = ranked(list(np.linspace(0, 1, 1000)), "AP")
    assert best[0] >= 990
    assert worst[0] == 0


def test_a_task_has_no_charts_unless_it_says_so():
    assert Fake("AP").charts([0.5]) == []


class Walks:
    """Rows with one path each, the way a shard reader gives them; without images."""

    def __len__(self):
        return 6

    def row(self, index):
        points = tuple((0.4 * step, 0.02 * index * step**2) for step in range(20))
        tracks = (Track(track_id="a", hz=2.5, observed=8, points=points),)
        return Row(
            sample_id=f"walk{index}", sha256=tracks_sha256(tracks), captured_at="2026-01-05T00:00:00Z", tracks=tracks,
            licence="x", origin="y",
        )  # fmt: skip


def test_forecasts_without_an_image_are_shown_from_above_the_straightest_first(tmp_path):
    config = TrainConfig.model_validate(
        {
            "name": "walks",
            "project": "tests",
            "data": {"image_size": None},
            "tasks": {"trajectory": {"options": {"hidden": 8, "max_agents": 1}}},
            "training": {"monitor": "trajectory/ADE"},
        }
    )
    tasks = build_tasks(config.tasks)
    model = HydraNet(config.model, tasks, camera=False)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)  # goes on at constant velocity
    checkpoint, device = Checkpoint(model.eval(), config, tasks, "abcd1234", 1, "c" * 64), torch.device("cpu")
    evaluated = evaluate(model, tasks, Walks(), config.data, range(6), device)
    charts = write_charts(tmp_path, "test", checkpoint, Walks(), evaluated, device)
    assert charts.drawings == ()
    (sheet,) = charts.sheets
    assert (sheet.metric, [one.sample_id for one in sheet.best]) == (
        "trajectory/ADE", ["walk0", "walk1", "walk2", "walk3"],
    )  # fmt: skip
    assert [one.sample_id for one in sheet.worst] == ["walk5", "walk4"]
    assert sheet.best[0].value == pytest.approx(0, abs=1e-4)
    picture = cv2.imread(str(tmp_path / sheet.file)).astype(int)
    worst = picture[picture.shape[0] // 2 :, : picture.shape[1] // 4]
    blue, green, red = worst[20:].reshape(-1, 3).T
    assert ((green - red > 40) & (green - blue > 40)).any(), "where it went"
    assert ((red - green > 80) & (red - blue > 80)).any(), "where it was thought to go"


def test_lanes_are_drawn_beside_the_true_ones():
    task = build_tasks({"lanes": TaskConfig()})[0]
    row = Walks().row(0).model_copy(update={"lanes": (((10.0, 60.0), (30.0, 10.0)),)})
    sample = Labelled(row, whole((64, 64), (64, 64)), (64, 64), None)
    where = torch.full((6, 8, 8), -9.0)
    where[0, :, 5] = 9.0
    present = torch.full((6, 8), -9.0)
    present[0] = 9.0
    drawn = task.draw(np.zeros((64, 64, 3), np.uint8), {"where": where, "present": present}, sample)
    assert drawn[35, 20].min() > 100, "the truth is white"
    own = drawn[30, 44]
    assert own.max() > 100 > own.min(), "the prediction has a colour"
