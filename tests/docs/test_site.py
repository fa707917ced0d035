"""The documents as a site: each page is in the navigation, each link leads somewhere, nothing comes from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

LOADED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//([^"'>\s]+)""")
STYLED = re.compile(r"""(?:url\(|@import )["']?(?:https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as ``make docs`` does: strictly, a link or an anchor that leads nowhere ends it."""
    out = tmp_path_factory.mktemp("site")
    mkdocs = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(out)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(mkdocs, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.mark.slow
def test_every_page_is_reached_from_the_navigation(site: Path) -> None:
    home = (site / "index.html").read_text()
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")} - {"404.html"}
    assert len(pages) > 30
    assert not sorted(page for page in pages if f'href="{page}"' not in home and page != "index.html")


@pytest.mark.slow
def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    pages = [path.read_text() for path in site.rglob("*.html")]
    assert [host for page in pages for host in LOADED.findall(page)] == []
    assert not [path for path in site.rglob("*.css") if STYLED.search(path.read_text())]


@pytest.mark.slow
def test_the_reference_has_every_field_of_a_recipe(site: Path) -> None:
    from trainer.contract.train_config import TrainConfig

    text = (site / "reference" / "recipe.html").read_text()
    assert not [name for name in TrainConfig.model_fields if f"<code>{name}</code>" not in text]
