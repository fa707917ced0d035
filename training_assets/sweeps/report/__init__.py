"""The report of a sweep: ``summarise`` makes the summary, ``write_report`` all three files of it."""

from pathlib import Path

from trainer.contract.files import write_text
from training_assets.sweeps.report.markdown import sweep_report
from training_assets.sweeps.report.page import page
from training_assets.sweeps.report.summarise import summarise
from training_assets.sweeps.report.summary import SUMMARY_FILE, SweepSummary, read_summary, write_summary

MARKDOWN_FILE = "sweep_report.md"
PAGE_FILE = "sweep_report.html"

__all__ = ["MARKDOWN_FILE", "PAGE_FILE", "SUMMARY_FILE", "SweepSummary", "read_summary", "summarise", "write_report"]


def write_report(summary: SweepSummary, directory: Path) -> Path:
    """Write summary, text and page into ``directory``; returns the page."""
    write_summary(summary, directory)
    write_text(directory / MARKDOWN_FILE, sweep_report(summary))
    path = directory / PAGE_FILE
    write_text(path, page(summary))
    return path
