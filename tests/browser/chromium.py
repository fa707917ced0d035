"""Chromium as tests, benchmarks and pictures drive it: the one of the system, and what its pages asked and said."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Error, Page, Response, WebSocket, sync_playwright

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOCAL = ("data:", "blob:", "about:")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window. While it is there, this thread has asyncio's loop: nothing else may run one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=list(ARGUMENTS))
        yield browser
        browser.close()


@contextlib.contextmanager
def person_with(profile: Path) -> Iterator[BrowserContext]:
    """As ``chromium``, of a person who keeps a profile: what was loaded and compiled once is there the next time."""
    with sync_playwright() as playwright:
        start = playwright.chromium.launch_persistent_context
        context = start(profile, executable_path=EXECUTABLE, args=list(ARGUMENTS))
        yield context
        context.close()


@dataclass
class Heard:
    """What pages asked and said. ``home`` is what they may ask: an origin, or the URI of a file."""

    home: str
    elsewhere: list[str] = field(default_factory=list)
    """URLs of anything else that was asked."""
    errors: list[str] = field(default_factory=list)
    """Of the console and of scripts."""
    answers: list[str] = field(default_factory=list)
    """Bodies of what ``home`` answered, scripts and styles apart, and the frames of its web sockets."""

    def listen(self, page: Page) -> Page:
        page.on("request", lambda request: self._asked(request.url))
        page.on("websocket", self._socket)
        page.on("response", self._answered)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        return page

    def _asked(self, url: str) -> None:
        if not url.startswith((self.home, *LOCAL)):
            self.elsewhere.append(url)

    def _socket(self, socket: WebSocket) -> None:
        self._asked(socket.url.replace("ws", "http", 1))
        for direction in ("framereceived", "framesent"):
            socket.on(direction, lambda frame: self.answers.append(str(frame)))

    def _answered(self, response: Response) -> None:
        if response.request.resource_type not in ("fetch", "xhr", "document"):
            return
        with contextlib.suppress(Error):  # left before it had come: nobody saw it
            self.answers.append(f"{response.request.post_data or ''} {response.text()}")
