"""What an object store promises, the same for a directory and for a bucket.

An object's name is a path below the root (``models/scenes/1.2.0/best.pt``). It is there whole or not at all, and
carries the sha256 of what was written: whoever reads it gets that, or an error that names the object and both digests.
An object that another tool put there carries none, and is taken as it is unless the reader says what it must be.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.errors import ContractError, Problem

# No part begins with a dot: those are the stores' own.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@=+-]*(?:/[A-Za-z0-9_][A-Za-z0-9._@=+-]*)*")


class StoreUnreachable(Exception):
    """The store cannot be reached, or does not let itself be read or written; another try may do better."""


class Changed(Exception):
    """The object is another one than was read before, or gone."""


class CorruptObject(ContractError):
    """An object's bytes are not those that were written."""

    def __init__(self, at: str, found: str, expected: str) -> None:
        problem = Problem(at, f"sha256 {found}", f"{expected}, the sha256 that it was written with")
        super().__init__("an object is damaged", [problem], "Put it there again, or restore it from a backup.")


@dataclass(frozen=True)
class Stored:
    """An object without its content. ``version`` changes with every write; ``sha256`` is None where none is known."""

    bytes: int
    sha256: str | None
    version: str


@dataclass(frozen=True)
class ObjectRead:
    content: bytes
    version: str


class ObjectStore(ABC):
    """One store. Several processes on several machines may use it at the same time.

    Raises (everything here): StoreUnreachable; ContractError for a name that is no name of an object.
    """

    uri: str

    def at(self, name: str) -> str:
        """Where the object is, for people and for other programs."""
        return f"{self.uri}/{name}"

    @abstractmethod
    def read(self, name: str) -> ObjectRead:
        """
        Raises:
            FileNotFoundError: there is no such object.
            CorruptObject: it is not what was written.
        """

    @abstractmethod
    def create(self, name: str, content: bytes) -> str:
        """Write a new object; its version. Of several writers at the same time one gets through.

        Raises:
            FileExistsError: there is one already; it stays as it is.
        """

    @abstractmethod
    def replace(self, name: str, content: bytes, version: str) -> str:
        """Write ``content`` over the ``version`` that was read; the new version.

        Raises:
            Changed: the object has another version by now, or is gone; it stays as it is.
        """

    @abstractmethod
    def stat(self, name: str) -> Stored | None:
        """What is known of an object without fetching it; None where there is none."""

    @abstractmethod
    def list(self, folder: str) -> "list[str]":
        """The names of all objects below ``folder``, sorted."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """What is not there is gone already."""

    @abstractmethod
    def upload(self, path: Path, name: str) -> Stored:
        """Put a file here, over what is there; nothing is sent where the same is there already.

        An upload that was killed goes on where it was: parts that arrived are not sent again.

        Raises:
            FileNotFoundError: there is no such file.
            ContractError: the file changed while it was read.
            Changed: another file was put there at the same time.
        """

    @abstractmethod
    def download(self, name: str, target: Path, sha256: str | None = None) -> None:
        """Write the object to ``target``, which is there whole or not at all; nothing is done where it is there.

        A download that was killed goes on where it was. ``sha256`` is what the object must be, by default what it was
        written with.

        Raises:
            FileNotFoundError: there is no such object.
            CorruptObject: its bytes have another sha256.
            Changed: it was replaced meanwhile.
        """

    @abstractmethod
    def path(self, name: str) -> Path | None:
        """Where the object is a file of this machine; None for a store elsewhere."""


def checked_name(name: str) -> str:
    """
    Raises:
        ContractError: not the name of an object.
    """
    if not NAME.fullmatch(name):
        expected = "parts of A-Z, a-z, 0-9 and '._@=+-', joined by '/', none of which begins with a dot"
        raise ContractError("no usable name of an object", [Problem("object", f"'{name}'", expected)])
    return name


def changed_file(path: Path) -> ContractError:
    problem = Problem(str(path), "other bytes than a moment ago", "a file that nobody writes to")
    return ContractError("a file changed while it was stored", [problem])
