"""The page: what it shows is what the report says, and it needs nothing from anywhere."""

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from tests.browser.fixtures import OpenFile, Scheme, is_dark
from trainer.contract.charts import SplitCharts
from trainer.contract.eval_report import Change, Comparison, EvalReport, SliceScore, SplitScore
from trainer.contract.slices import parse_slices
from training_assets.dashboard import dashboard, write_dashboard
from training_assets.gates import GateResult, GateRow

IOU, ADE = "segmentation/mIoU", "trajectory/ADE"
SECTIONS = ("gates", "slices", "crossed", "curves", "confusion", "samples", "latency", "provenance")
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Tags, their attributes, and the text of each table cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.cells: dict[tuple[str, str], tuple[str, str]] = {}
        self.text = ""
        self._cell: tuple[str, str, str] | None = None
        self.feed(text)
        self.close()
        assert self.open == [], "every tag is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "td" and "data-slice" in given:
            self._cell = (given["data-slice"], given["data-metric"], given["class"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "td":
            self._cell = None
        self.text += " "

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell is not None:
            name, metric, tone = self._cell
            before = self.cells.get((name, metric), ("", ""))[0]
            self.cells[name, metric] = (f"{before} {data}".strip(), tone)

    def references(self) -> Iterator[str]:
        for _, attributes in self.tags:
            yield from (value for name, value in attributes.items() if name in ("src", "href", "action", "data"))


def judged() -> EvalReport:
    """Two tasks, two slices of which one is too small, one crossed pair, beside a production model."""
    intervals = {IOU: (0.55, 0.65)}
    night = SliceScore(samples=12, metrics={IOU: 0.5, ADE: 2.0}, intervals=intervals)
    rain = SliceScore(samples=3, metrics={IOU: 0.1, ADE: None})
    both = SliceScore(samples=2, metrics={IOU: 0.125, ADE: None})
    test = SplitScore(
        samples=30,
        metrics={IOU: 0.6123456, ADE: 1.25, "segmentation/IoU/<car>": 0.4},
        intervals=intervals,
        slices={"night": night, "rain": rain},
        crossed={"night × rain": both},
    )
    changes = {
        "all": {
            IOU: Change(value=0.6123456, reference=0.5, interval=(0.05, 0.2)),
            ADE: Change(value=1.25, reference=1.0, interval=(0.1, 0.4)),
        },
        "night": {IOU: Change(value=0.5, reference=0.52, interval=(-0.1, 0.06))},
        "rain": {IOU: Change(value=0.1, reference=0.9, interval=(-0.9, -0.7))},
    }
    against = Comparison(run_id="pppppppp", checkpoint_sha256="d" * 64, splits={"test": changes})
    return EvalReport(
        run_id="ab12cd34",
        recipe="tiny",
        checkpoint_sha256="c" * 64,
        data_digest="a" * 64,
        splits={"test": test},
        against=against,
    )


@pytest.fixture
def known(facts: Any) -> Any:
    slices = [{"name": "night", "safety_critical": True, "min_samples": 10}, {"name": "rain", "min_samples": 5}]
    row = GateRow(metric=IOU, slice="night", value=0.5, limit=0.52, passed=False, verdict="failed", margin=-0.02)
    gate = GateResult(name="no_regression", passed=False, severity="block", rows=(row,))
    return facts(report=judged(), slices=parse_slices({"slices": slices}), gates=(gate,))


@pytest.fixture
def page(known: Any) -> Page:
    return Page(dashboard(known))


def test_nothing_in_the_page_is_anywhere_else(known: Any, page: Page) -> None:
    assert len(list(page.references())) > 10
    assert all(reference.startswith(("data:", "#")) for reference in page.references())
    assert "url(" not in dashboard(known)
    (policy,) = (a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_the_pages_own_script_may_run_and_no_other(known: Any, page: Page) -> None:
    (policy,) = (a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    (script,) = re.findall(r"<script>(.*?)</script>", dashboard(known), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert re.search(r"script-src ([^;]*)", policy)[1] == f"'sha256-{digest}'"
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_tables_are_sorted_by_the_figures_that_they_show(page: Page) -> None:
    keyed = [attributes for _, attributes in page.tags if "data-sort" in attributes]
    cells = {(a["data-slice"], a["data-metric"]): a["data-sort"] for a in keyed if "data-slice" in a}
    assert cells == {place: text.split()[0] for place, (text, _) in page.cells.items()}
    assert [a["data-sort"] for a in keyed if "data-slice" not in a] == ["all", "night", "rain", "night × rain"]


def test_every_section_is_there_and_linked_to(page: Page) -> None:
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == list(SECTIONS)
    assert [reference for reference in page.references() if reference.startswith("#")] == [f"#{s}" for s in SECTIONS]


def test_each_cell_holds_the_value_of_the_report_its_interval_and_the_change(page: Page) -> None:
    assert page.cells["all", IOU][0] == "0.6123 0.55…0.65 +0.112 (+0.05…+0.2)"
    assert page.cells["night", ADE][0] == "2"
    assert page.cells["rain", ADE][0] == "–"
    assert page.cells["night × rain", IOU][0] == "0.125"
    report = judged().splits["test"]
    for name, part in {"all": report, **report.slices, **report.crossed}.items():
        for metric in (IOU, ADE):
            value = part.metrics[metric]
            assert page.cells[name, metric][0].split()[0] == ("–" if value is None else f"{value:.4g}")


def test_better_and_worse_than_production_are_coloured_by_what_is_beyond_noise(page: Page) -> None:
    assert page.cells["all", IOU][1] == "better"
    assert page.cells["all", ADE][1] == "worse", "an error that rose"
    assert page.cells["night", IOU][1] == "same"
    assert page.cells["rain", IOU][1] == "", "too few samples to say"


def test_too_few_samples_are_said_on_slices_and_on_crossed_ones(page: Page) -> None:
    assert "too few samples (3 of 5)" in page.text
    assert "too few samples (2 of 10)" in page.text
    assert page.text.count("too few samples") == 2


def test_gates_stand_with_their_margins_and_what_they_decide(page: Page) -> None:
    assert "not to be released" in page.text
    assert re.search(r"segmentation/mIoU\s*night\s*0\.5\s*0\.52\s*-0\.02\s*failed", page.text)


def test_pictures_are_inside_as_they_were_drawn(known: Any, page: Page) -> None:
    inside = [base64.b64decode(r.partition(",")[2]) for r in page.references() if r.startswith("data:image")]
    assert inside == [(known.pictures / name).read_bytes() for name in known.charts.files()]
    assert "car AP50 0.6" in page.text
    assert "test001 0.9" in page.text


def test_where_it_comes_from_is_all_there(page: Page) -> None:
    for fact in ("ab12cd34", "c" * 64, "5" * 64, "77.dir", "d" * 40, "2026-01-12", "CC0-1.0 (78 frames)"):
        assert fact in page.text


def test_latency_is_there_in_batches_too_with_memory_and_what_int8_costs(page: Page) -> None:
    said = " ".join(page.text.split())
    assert "p50 ms p95 ms p99 ms batch 8: p50 ms batch 8: samples/s batch 8: peak MB" in said
    assert "model.onnx 1.25 2.5 3 8 1000 64 1e-06 9" in said
    assert "on 8 samples of val; above zero, int8 loses. metric eager int8 loss" in said
    assert f"{IOU} 0.61 0.585 0.025" in said


def test_names_from_the_data_are_text_and_no_markup(page: Page) -> None:
    assert "segmentation/IoU/<car>" in page.text
    assert "car" not in {tag for tag, _ in page.tags}


def test_a_model_without_charts_or_production_has_a_page_too(facts: Any) -> None:
    bare = facts()
    charts = bare.charts.model_copy(update={"splits": {"test": SplitCharts(drawings=(), sheets=())}})
    text = Page(dashboard(facts(charts=charts))).text
    assert "There was no other model to compare with." in text
    assert text.count("The tasks have none.") == 2


def test_the_same_facts_make_the_same_page(known: Any) -> None:
    assert dashboard(known) == dashboard(known)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_page_with_no_error_and_no_request(known: Any, scheme: Scheme, open_file: OpenFile) -> None:
    page, heard = open_file(write_dashboard(known), scheme)
    for section in SECTIONS:
        assert page.locator(f"#{section}").is_visible()
    assert is_dark(page) == (scheme == "dark")
    shown = page.evaluate("[...document.images].every((one) => one.complete && one.naturalWidth > 0)")
    assert shown, "all pictures are there"
    assert (heard.errors, heard.elsewhere) == ([], [])


@pytest.mark.browser
def test_a_click_on_a_column_sorts_the_slices_and_another_one_turns_them_around(
    known: Any, open_file: OpenFile
) -> None:
    page, heard = open_file(write_dashboard(known), "light")
    slices = page.locator("#slices table").first
    slices.get_by_role("button").first.click()
    first = slices.locator("tbody tr").first.inner_text()
    slices.get_by_role("button").first.click()
    assert slices.locator("tbody tr").first.inner_text() != first
    assert heard.errors == []
