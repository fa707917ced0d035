"""A secret is found wherever it is put: a look that cannot find one would prove nothing."""

import base64
import gzip
import sqlite3
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.browser.leaks import below, leaks, texts

SECRET = "0123456789abcdef" * 2


def database(path: Path, content: object) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE kept (content)")
    connection.execute("INSERT INTO kept VALUES (?)", (content,))
    connection.commit()
    connection.close()


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("inside", SECRET)


HIDING: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text(f"https://user:{SECRET}@host"),
    "binary": lambda path: path.write_bytes(b"\0\xff" + SECRET.encode() + b"\0"),
    "picture": lambda path: path.write_text(
        f"data:x;base64,{base64.b64encode(f'<svg>{SECRET}</svg>'.encode()).decode()}"
    ),
    "zip": archive,
    "gzip": lambda path: path.write_bytes(gzip.compress(SECRET.encode())),
    "row": lambda path: database(path, SECRET),
    "compressed row": lambda path: database(path, zlib.compress(SECRET.encode())),
    "parquet": lambda path: pd.DataFrame({"column": [SECRET]}).to_parquet(path),
}


@pytest.mark.parametrize("how", HIDING)
def test_a_secret_in_a_file_is_found_and_named_with_its_place(how: str, tmp_path: Path) -> None:
    root = tmp_path / "store"
    (root / "deep").mkdir(parents=True)
    assert leaks({"TOKEN": SECRET}, below(root)) == []
    HIDING[how](root / "deep" / "file")
    assert leaks({"TOKEN": SECRET, "OTHER": "f" * 32}, below(root)) == ["TOKEN in store/deep/file"]


def test_a_secret_on_a_page_is_found_and_named_with_its_place() -> None:
    assert leaks({"TOKEN": SECRET}, texts("page", ["nothing", f"<b>{SECRET}</b>"])) == ["TOKEN in page 1"]
