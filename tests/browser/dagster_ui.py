"""Dagster's web page as a person uses it: opening pages and clicking, by roles and texts that they read."""

import re
from urllib.parse import quote

from playwright.sync_api import Locator, Page, expect

BROKEN = ("An unexpected error occurred", "Sorry, the page you requested", "A GraphQL error occurred", "PythonError")
PATIENCE_MS = 20_000


class DagsterUi:
    """One tab at the web server of ``address`` (``http://host:port``).

    ``seen`` gets each page that was opened, once it had what was waited for.
    """

    def __init__(self, page: Page, address: str, seen: list[str]) -> None:
        self.page, self.address, self.seen = page, address, seen
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)

    def open(self, path: str, *said: str | re.Pattern[str]) -> None:
        """Go to ``path`` and wait until each text of ``said`` is on the page."""
        self.page.goto(f"{self.address}{path}", wait_until="commit")
        self.wait_for(*said)

    def wait_for(self, *said: str | re.Pattern[str]) -> None:
        for text in said:
            expect(self.page.get_by_text(text).first).to_be_visible()
        self.remember()

    def remember(self) -> None:
        """Keep what is shown now.

        Raises:
            AssertionError: it is an error of the page.
        """
        shown = self.page.content()
        self.seen.append(shown)
        assert not [flaw for flaw in BROKEN if flaw in shown]

    def asset(self, key: str, view: str, *said: str | re.Pattern[str]) -> None:
        """A tab of an asset's page: overview, partitions, events, checks, lineage."""
        self.open(f"/assets/{quote(key)}?view={view}", *said)

    def graph(self, groups: list[str]) -> str:
        """The global lineage with all groups open; the text that is drawn in it."""
        self.open("/asset-groups", *groups)
        corner = self.page.get_by_role("button", name="zoom_out").bounding_box()
        assert corner is not None
        self.page.mouse.click(corner["x"] - 60, corner["y"], button="right")  # where there are no nodes
        self.page.get_by_role("menuitem", name="Expand all groups").click()
        self.page.wait_for_url("**expanded=**")
        self.remember()
        return "\n".join(self.page.locator("svg foreignObject > *").all_inner_texts())

    def launch(self, asset: str, partitions: str, button: str) -> str:
        """Materialise ``partitions`` of an asset, as its page's dialog wants them written, and go to what was started.

        ``button``: what the dialog's last button then says. The path of the run's or the backfill's page.
        """
        dialog = self.launch_dialog(asset)
        chosen = dialog.get_by_role("textbox").first
        chosen.fill(partitions)
        chosen.press("Enter")
        self.remember()
        dialog.get_by_role("button", name=button).last.click()
        self.page.get_by_text("View", exact=True).click()
        self.page.wait_for_url("**/runs/**")
        return self.page.url.removeprefix(self.address)

    def launch_dialog(self, asset: str) -> Locator:
        """The dialog behind an asset's button "Materialize…", with all of its partitions."""
        self.asset(asset, "overview")
        return self.click_materialize()

    def click_materialize(self) -> Locator:
        """``launch_dialog``, where the asset's page is open."""
        self.page.get_by_role("button", name="Materialize").first.click()
        dialog = self.page.get_by_role("dialog").first
        recent = dialog.get_by_role("button", name="Show all partitions")
        everything = dialog.get_by_role("button", name="All time")
        expect(recent.or_(everything).first).to_be_visible()
        if recent.is_visible():  # some partitions are older than 90 days
            recent.click()
        expect(everything).to_be_visible()
        return dialog

    def ended(self, status: str, seconds: float) -> None:
        """Wait on the page of a run or a backfill until it says ``status``."""
        expect(self.page.get_by_text(status, exact=True).first).to_be_visible(timeout=1000 * seconds)
        self.remember()
