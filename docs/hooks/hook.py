"""What MkDocs builds besides the pages of ``docs/``: the reference out of the code, the benchmarks' tables out of their
results, and pages that lie elsewhere in the repository, with links between all of them.
"""

import logging
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import reference  # noqa: E402 - beside this file, as MkDocs puts it on the path
from performance import benchmark_tables  # noqa: E402

log = logging.getLogger("mkdocs.plugins.hook")

ELSEWHERE = {"deploy/README.md": "deploy.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages that lie outside of ``docs/``, and what they are called in the site."""
TABLES = "<!-- benchmarks/results -->"
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)\s#])")
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for uri, content in reference.pages().items():
        files.append(File.generated(config, uri, content=content))
    for source, uri in ELSEWHERE.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, uri, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if TABLES in markdown:
        markdown = markdown.replace(TABLES, benchmark_tables(ROOT))
    parts = FENCED.split(markdown)
    return "".join(part if part.startswith("```") else _relinked(part, page.file.src_uri) for part in parts)


def on_serve(server: object, config: MkDocsConfig, builder: object) -> object:
    for place in (*ELSEWHERE, "trainer", "training_assets", "benchmarks/results"):
        server.watch(str(ROOT / place))  # type: ignore[attr-defined]
    return server


def _relinked(markdown: str, uri: str) -> str:
    """``markdown`` of the page ``uri`` with links as they are in the site, where the repository has them otherwise."""
    return LINK.sub(lambda match: _in_site(match[1], uri), markdown)


def _in_site(link: str, uri: str) -> str:
    if "://" in link or link.startswith(("mailto:", "/")):
        return link
    sources = {page: source for source, page in ELSEWHERE.items()}
    here = sources.get(uri, f"docs/{uri}")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(here), link))
    if target in ELSEWHERE:
        found = ELSEWHERE[target]
    elif target.startswith("docs/"):
        found = target.removeprefix("docs/")
    elif target == "README.md":
        found = "index.md"
    else:
        log.warning("%s links to %s, which is not in the site: name the file in `…` instead", here, target)
        return link
    return posixpath.relpath(found, posixpath.dirname(uri) or ".")
