"""A browser for tests, and a picture of what each of them saw last."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.chromium import EXECUTABLE, Heard, chromium

Scheme = Literal["light", "dark"]
OpenFile = Callable[[Path, Scheme], tuple[Page, Heard]]
SCREENSHOTS = Path(__file__).parents[2] / "var" / "screenshots"
VIEW = {"width": 1440, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Gone with the module: what comes after it in this process may run asyncio's loops again."""
    if EXECUTABLE is None:
        pytest.skip("needs a Chromium, as the package chromium of Debian has it")
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_file(browser: Browser, request: pytest.FixtureRequest) -> Iterator[OpenFile]:
    """Opens an HTML file in light or dark, and keeps a picture of each."""
    pages: list[tuple[str, Page]] = []

    def opened(path: Path, scheme: Scheme) -> tuple[Page, Heard]:
        heard = Heard(path.as_uri())
        page = heard.listen(browser.new_page(color_scheme=scheme, viewport=VIEW))
        pages.append((scheme, page))
        page.goto(path.as_uri())
        return page, heard

    yield opened
    for scheme, page in pages:
        keep_picture(page, f"{request.node.name}-{scheme}")
        page.close()


def keep_picture(page: Page, name: str) -> None:
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def is_dark(page: Page) -> bool:
    """Whether what is read is lighter than half way to white."""
    light = "getComputedStyle(document.body).color.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    return bool(page.evaluate(light) > 3 * 128)
