"""The report: what it shows is what the summary says, and the page needs nothing from anywhere."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright import sync_api as browsing

from tests.browser.fixtures import OpenFile, Scheme, is_dark
from tests.training_assets.sweeps import simulated
from training_assets.sweeps.goals import Goals, Objective
from training_assets.sweeps.report import SUMMARY_FILE, SweepSummary, read_summary, summarise, write_report
from training_assets.sweeps.report.defaults import recommended
from training_assets.sweeps.report.markdown import sweep_report
from training_assets.sweeps.report.page import page
from training_assets.sweeps.report.summary import Axis, BudgetFacts, Outcome, SweepFacts, TrialRow
from training_assets.sweeps.trials import Trials

GOLDEN = Path(__file__).with_name("golden_summary.json")
VOID = {"meta", "link", "br"}
SECTIONS = (
    "leaderboard", "parallel", "curves", "trade-offs", "importance", "defaults", "budget", "packages", "failures",
    "decisions", "provenance",
)  # fmt: skip


class Page(HTMLParser):
    """Tags with their attributes, and the text; every tag must be closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, name: str) -> Iterator[dict[str, str]]:
        yield from (attributes for tag, attributes in self.tags if tag == name)


@pytest.fixture(scope="module")
def summary() -> SweepSummary:
    return simulated.summary(36)


@pytest.fixture(scope="module")
def shown(summary: SweepSummary) -> Page:
    return Page(page(summary))


def test_the_summary_is_the_same_after_writing_and_reading(summary: SweepSummary, tmp_path: Path) -> None:
    write_report(summary, tmp_path)
    assert read_summary(tmp_path) == summary
    assert json.loads((tmp_path / SUMMARY_FILE).read_text())["format"] == 1


def test_the_summarys_form_is_kept_or_has_another_number() -> None:
    """``golden_summary.json`` is what others read; where it has to change, so has ``format``. To renew it::

    write_text(GOLDEN, simulated.summary(5, simulated.ONE).model_dump_json(indent=1) + "\\n")
    """
    assert json.loads(GOLDEN.read_text()) == json.loads(simulated.summary(5, simulated.ONE).model_dump_json())


def test_the_same_summary_makes_the_same_page_and_text(summary: SweepSummary) -> None:
    again = SweepSummary.model_validate_json(summary.model_dump_json())
    assert page(again) == page(summary)
    assert sweep_report(again) == sweep_report(summary)


def test_nothing_in_the_page_is_anywhere_else(summary: SweepSummary, shown: Page) -> None:
    text = page(summary)
    names = ("src", "href", "action", "data", "xlink:href")
    references = [value for _, attributes in shown.tags for name, value in attributes.items() if name in names]
    assert len(references) > 10
    assert all(reference.startswith(("data:", "#")) for reference in references)
    assert "url(" not in text
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg\")", text)
    (policy,) = (one["content"] for one in shown.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


def test_the_pages_own_script_may_run_and_no_other(summary: SweepSummary, shown: Page) -> None:
    (policy,) = (one["content"] for one in shown.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    (script,) = re.findall(r"<script>(.*?)</script>", page(summary), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert re.search(r"script-src ([^;]*)", policy)[1] == f"'sha256-{digest}'"  # type: ignore[index]
    assert not any(name.startswith("on") for _, attributes in shown.tags for name in attributes)


def test_every_section_is_there_and_linked_to(shown: Page) -> None:
    assert tuple(one["id"] for one in shown.of("section")) == SECTIONS
    assert tuple(one["href"].removeprefix("#") for one in shown.of("a")) == SECTIONS


def test_each_trial_is_a_row_and_a_line_in_every_figure_that_has_a_value_of_it(
    summary: SweepSummary, shown: Page
) -> None:
    rows = [int(one["data-trial"]) for one in shown.of("tr") if "data-trial" in one]
    assert rows[: len(summary.trials)] == [row.id for row in summary.trials]
    heights = [one["data-heights"] for one in shown.of("path") if "data-heights" in one]
    assert len(heights) == sum(row.rank is not None for row in summary.trials)
    axes = len(summary.parameters) + len(summary.objectives)
    assert {len(one.split()) for one in heights} == {axes}
    assert len([one for one in shown.of("rect") if one.get("class") == "brush"]) == axes


def test_the_evaluator_of_importance_is_named_in_text_and_page(summary: SweepSummary, shown: Page) -> None:
    for found in summary.importance:
        assert f"{found.metric}: {found.evaluator}" in shown.text
        assert f"**{found.metric}**, by {found.evaluator}, over {found.trials} trials" in sweep_report(summary)
    assert len(summary.importance) == 4


def test_the_simulations_own_rule_is_what_matters_most(summary: SweepSummary) -> None:
    first = [found.effects[0].parameter for found in summary.importance if found.metric == simulated.IOU]
    assert first == ["optim.lr", "optim.lr"]


def test_a_trial_that_was_ended_says_by_what_and_against_what(summary: SweepSummary, shown: Page) -> None:
    row = next(row for row in summary.trials if row.state == "stopped")
    (told,) = (one for one in row.decisions if one.verdict == "stop")
    assert f"stopped after epoch {told.epoch} by asha: {told.reason}" in shown.text
    alone = summary.model_copy(update={"trials": (row,), "front": (), "outcome": Outcome(ended="running")})
    assert f"| {row.name} | {told.epoch} | stop | asha | {told.rung} |" in sweep_report(alone)


def test_failures_are_named_and_have_no_rank(summary: SweepSummary, shown: Page) -> None:
    failed = [row for row in summary.trials if row.state == "failed"]
    assert failed, "the simulation fails some"
    assert all(row.rank is None for row in failed)
    for row in failed:
        assert f"| {row.name} | {row.epochs} | loss is not finite at step 412 |" in sweep_report(summary)
    assert "loss is not finite at step 412" in shown.text


def test_the_winner_is_the_best_that_may_win_and_stands_beside_the_baseline(summary: SweepSummary) -> None:
    winner = summary.trial(summary.outcome.winner)  # type: ignore[arg-type]
    assert winner.rank == 1
    assert winner.feasible
    text = sweep_report(summary)
    value, before = winner.objectives[simulated.IOU], 0.55
    assert f"Winner: {winner.name}, {simulated.IOU} {value:.4g} ({value - before:+.3g} to production)" in text
    assert f"optim.lr 0.004 → {winner.params['optim.lr']:.4g}" in text


def test_a_running_sweep_has_no_winner_but_a_best_so_far(summary: SweepSummary) -> None:
    running = summary.model_copy(update={"outcome": Outcome(ended="running")})
    assert "No winner. Best so far: quiet-otter-cv" in sweep_report(running)


def test_the_budget_shows_its_caps_and_forecast(summary: SweepSummary, shown: Page) -> None:
    used = summary.budget.caps[1]
    assert f"| USD | {used.used:.4g} | 40 | {used.used / 40:.0%} | {used.forecast:.4g} |" in sweep_report(summary)
    assert "cap 40" in shown.text
    assert f"forecast {used.forecast:.3g}" in shown.text


def test_what_the_best_trials_agree_on_is_recommended_and_what_hardly_matters_is_said(summary: SweepSummary) -> None:
    found = {one.parameter: one for one in summary.defaults}
    rate = found["optim.lr"]
    assert rate.recipe == 4.0e-3
    assert rate.low < 10**-2.3 < rate.high  # type: ignore[operator]
    assert found["data.augmentation.brightness"].matters < 0.05  # type: ignore[operator]
    assert re.search(r"data.augmentation.brightness \|.*hardly matters", sweep_report(summary))


def row_with(number: int, **params: Any) -> TrialRow:
    return TrialRow.model_validate(
        {
            "rank": number, "id": number, "name": str(number), "state": "completed", "parent": None, "params": params,
            "objectives": {"a/b": 1.0}, "differences": {}, "constraints": (), "feasible": None, "on_front": False,
            "epochs": 1, "best_epoch": 1, "gpu_hours": None, "cost_usd": None, "seconds": None, "error": None,
            "curve": {}, "decisions": (),
        }
    )  # fmt: skip


def test_recommended_are_the_geometric_median_of_logs_whole_numbers_of_whole_and_the_commonest_choice() -> None:
    axes = [
        Axis(name="lr", scale="log", low=1e-6, high=1.0),
        Axis(name="width", scale="linear", low=8, high=64),
        Axis(name="kind", scale="choice", choices=("a", True, 1)),
    ]
    best = [row_with(n, lr=10.0**-n, width=61 + n, kind=kind) for n, kind in ((1, 1), (2, True), (3, True))]
    worst = [row_with(n, lr=1e-6, width=8, kind="a") for n in range(4, 10)]
    rate, width, kind = recommended([*best, *worst], axes, best[0], {})
    assert rate.value == pytest.approx(1e-2)
    assert (rate.low, rate.high) == pytest.approx((10**-2.8, 10**-1.2), rel=1e-4)
    assert (width.value, type(width.value), width.at_edge) == (63, int, "high")
    assert (kind.value, kind.share) == (True, pytest.approx(2 / 3))


def test_fewer_than_three_trials_recommend_nothing() -> None:
    assert recommended([row_with(1, lr=0.1), row_with(2, lr=0.1)], [Axis(name="lr", scale="linear")], None, {}) == []


def test_a_sweep_without_a_trial_has_a_report_too() -> None:
    facts = SweepFacts(name="empty", recipe="r", project="p", strategy="random")
    bare = summarise(facts, Goals((Objective("a/b"),)), simulated.SPACE, Trials())
    text = Page(page(bare)).text
    for said in ("No winner.", "No trial was made.", "No trial has a value yet.", "No trial told of an epoch."):
        assert said in text
    assert "0 trials can be compared: too few" in sweep_report(bare)


def test_one_objective_is_set_against_its_constraints() -> None:
    one = simulated.summary(16, simulated.ONE)
    assert one.front == ()
    assert f"{simulated.IOU} and the constraint latency_p95_ms <= 30" in Page(page(one)).text


def test_names_from_the_sweep_are_text_and_no_markup(summary: SweepSummary) -> None:
    odd = "<script>alert(1)</script>"
    axes = tuple(axis.model_copy(update={"name": odd + axis.name}) for axis in summary.parameters)
    rows = tuple(
        row.model_copy(
            update={"name": odd + row.name, "params": {odd + name: value for name, value in row.params.items()}}
        )
        for row in summary.trials
    )
    sweep = summary.sweep.model_copy(update={"name": odd})
    budget = BudgetFacts(unit=odd, caps=summary.budget.caps)
    marked = summary.model_copy(update={"parameters": axes, "trials": rows, "sweep": sweep, "budget": budget})
    marked = marked.model_copy(update={"importance": ()})
    assert len(list(Page(page(marked)).of("script"))) == 1


@pytest.fixture
def saved(summary: SweepSummary, tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(page(summary))
    return path


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_page_with_no_error_and_no_request(
    saved: Path, scheme: Scheme, open_file: OpenFile
) -> None:
    shown, heard = open_file(saved, scheme)
    for section in SECTIONS:
        assert shown.locator(f"#{section}").is_visible()
    assert is_dark(shown) == (scheme == "dark")
    assert (heard.errors, heard.elsewhere) == ([], [])


@pytest.mark.browser
@pytest.mark.slow
def test_the_page_does_what_it_says_when_it_is_touched(saved: Path, open_file: OpenFile) -> None:
    shown, heard = open_file(saved, "light")
    _a_range_on_an_axis_keeps_some_trials_and_a_click_lets_go(shown)
    _a_trial_under_the_pointer_is_lit_everywhere_and_told(shown)
    _a_second_click_on_a_column_sorts_it_downwards(shown)
    assert heard.errors == []


def _a_range_on_an_axis_keeps_some_trials_and_a_click_lets_go(shown: browsing.Page) -> None:
    axis = shown.locator('.brush[data-axis="0"]')
    axis.scroll_into_view_if_needed()
    box = axis.bounding_box()
    assert box is not None
    x, top, middle = box["x"] + 5, box["y"] + 1, box["y"] + box["height"] / 2
    shown.mouse.move(x, top)
    shown.mouse.down()
    shown.mouse.move(x, middle)
    shown.mouse.up()
    assert 0 < shown.locator(".parallel .off").count() < shown.locator(".parallel .trial").count()
    shown.mouse.click(x, top)
    assert shown.locator(".off").count() == 0


def _a_trial_under_the_pointer_is_lit_everywhere_and_told(shown: browsing.Page) -> None:
    dot = shown.locator(".scatter .trial").first
    dot.dispatch_event("pointerover", {"bubbles": True})  # another trial's may lie over it
    assert shown.locator(f'.hot[data-trial="{dot.get_attribute("data-trial")}"]').count() >= 3
    assert "quiet-otter-cv" in (shown.locator("#tip").text_content() or "")


def _a_second_click_on_a_column_sorts_it_downwards(shown: browsing.Page) -> None:
    head = shown.locator('[data-table="leaderboard"] thead th:nth-child(4) button')
    head.click()
    head.click()
    cells = shown.locator('[data-table="leaderboard"] tbody td:nth-child(4)').all_text_contents()
    values = [float(cell) for cell in cells if re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell.strip())]
    assert len(values) > 2
    assert values == sorted(values, reverse=True)
