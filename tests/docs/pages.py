"""What the documents ask of a reader: their blocks, commands and files, taken from the pages themselves."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(?P<language>[\w+-]*)(?P<rest>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]+)"')
SHELL = ("bash", "sh", "shell", "console")


def pages() -> list[Path]:
    """README.md first, then as a reader would go on."""
    found = [ROOT / "README.md", ROOT / "docs" / "first-hour.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return list(dict.fromkeys([*found, ROOT / "deploy" / "README.md", ROOT / "CONTRIBUTING.md"]))


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. ``title`` is the file that its text is to be saved as."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str

    @property
    def commands(self) -> tuple[str, ...]:
        """Of a shell block: one a line, lines that go on joined, without comments."""
        return tuple(_commands(self.text)) if self.language in SHELL else ()


@dataclass(frozen=True)
class Command:
    """One command line and where it stands."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}: {self.text}"


def blocks(page: Path) -> list[Block]:
    content = page.read_text()
    return [_block(page, content, match) for match in FENCE.finditer(content)]


def commands(page: Path) -> list[Command]:
    return [Command(page, block.line, text) for block in blocks(page) for text in block.commands]


def titles() -> set[str]:
    """The files that a reader saves from a page."""
    return {block.title for page in pages() for block in blocks(page) if block.title}


def is_setting(command: str) -> bool:
    """Whether it only sets variables, for the commands after it."""
    return bool(re.fullmatch(r"(export )?[A-Z_]+=\S*?(\$\(.*\)\S*)?", command))


def _block(page: Path, content: str, match: re.Match[str]) -> Block:
    title = TITLE.search(match["rest"])
    line = content.count("\n", 0, match.start()) + 1
    return Block(page, line, match["language"], title and title[1], match["text"])


def _commands(text: str) -> Iterator[str]:
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        command = re.sub(r"(^|\s+)#.*$", "", line).strip()
        if command:
            yield command
