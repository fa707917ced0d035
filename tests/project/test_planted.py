"""The search for planted secrets finds them wherever they could be: a search that finds nothing proves nothing else."""

import base64
import gzip
import sqlite3
import zipfile
import zlib
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.planted import ENVIRONMENT, SECRETS, found_below, found_in_value


def put_into_database(path: Path, value: str | bytes) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE event_logs (id INTEGER, event TEXT)")
        connection.execute("INSERT INTO event_logs VALUES (1, ?)", (value,))
        connection.commit()


def put_into_zip(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.txt", text)


WAYS = {
    "text": lambda path, secret: path.write_text(f"key={secret}\n"),
    "url": lambda path, secret: path.write_text(f"https://a:{quote(secret, '')}@b/"),
    "base64": lambda path, secret: path.write_bytes(base64.b64encode(f"user:{secret}!".encode())),
    "base64_of_urls": lambda path, secret: path.write_bytes(base64.urlsafe_b64encode(f"me:{secret}!".encode())),
    "gzip": lambda path, secret: path.write_bytes(gzip.compress(secret.encode())),
    "zip": put_into_zip,
    "database": lambda path, secret: put_into_database(path, "x" * 4000 + secret),
    "packed_in_a_database": lambda path, secret: put_into_database(
        path, base64.b64encode(zlib.compress((secret + "x" * 99).encode())).decode()
    ),
    "name": lambda path, secret: (path.parent / quote(secret, "")).touch(),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("way", WAYS)
def test_a_secret_is_found_in_whatever_form(way: str, secret: str, tmp_path: Path) -> None:
    (tmp_path / "harmless.log").write_text("epoch 1/8")
    WAYS[way](tmp_path / "place", SECRETS[secret])
    found = found_below([tmp_path])
    assert list(found.values()) == [{secret}]


def test_a_secret_is_found_in_what_was_sent() -> None:
    for name in ("DAGSTER_POSTGRES_URL", "SLACK_WEBHOOK_URL"):
        assert found_in_value({"containers": [{"environment": [ENVIRONMENT[name]]}]})
    assert not found_in_value({"containers": [{"secrets": list(SECRETS)}]}), "a name is no secret"
