import pytest
from pydantic import ValidationError

from trainer.contract.charts import Charts, Confusion, Curves, Drawing, Line, Sheet, Shown, SplitCharts, read_charts

CURVE = Curves(kind="roc", lines=(Line(name="car", x=(0.0, 1.0), y=(0.0, 1.0), summary=0.5),))
MATRIX = Confusion(classes=("car", "background"), counts=((3, 1), (2, 0)))


def charts() -> Charts:
    drawings = (
        Drawing(task="segmentation", file="roc_segmentation_test.svg", chart=CURVE),
        Drawing(task="detection", file="confusion_detection_test.svg", chart=MATRIX),
    )
    sheet = Sheet(
        task="detection", metric="detection/AP", file="samples_detection_test.jpg",
        best=(Shown(sample_id="a", value=1.0),), worst=(),
    )  # fmt: skip
    return Charts(checkpoint_sha256="c" * 64, splits={"test": SplitCharts(drawings=drawings, sheets=(sheet,))})


def test_charts_read_back_as_they_were_written_each_of_its_kind(tmp_path):
    (tmp_path / "charts.json").write_text(charts().model_dump_json())
    found = read_charts(tmp_path)
    assert found == charts()
    assert [type(one.chart) for one in found.splits["test"].drawings] == [Curves, Confusion]
    assert list(found.files()) == [
        "roc_segmentation_test.svg", "confusion_detection_test.svg", "samples_detection_test.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["../roc.svg", "a/b.svg", ".svg", "roc.html", "roc.svg\n"])
def test_a_picture_lies_beside_the_file_and_nowhere_else(name):
    with pytest.raises(ValidationError, match="file"):
        Drawing(task="segmentation", file=name, chart=CURVE)


def test_unequal_lines_and_matrices_that_are_not_square_are_refused():
    with pytest.raises(ValidationError, match="unequal length"):
        Line(name="car", x=(0.0,), y=(0.0, 1.0), summary=0.5)
    with pytest.raises(ValidationError, match="unequal length"):
        Line(name="car", x=(0.0,), y=(0.0,), summary=0.5, predictions=(1, 2))
    with pytest.raises(ValidationError, match="2×2"):
        Confusion(classes=("a", "b"), counts=((1, 2),))
