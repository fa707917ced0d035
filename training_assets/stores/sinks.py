"""Where events go: a file beside the store's other things, and what a profile names: a bus of Amazon EventBridge,
other registries (``registries/``)."""

import functools
import os
from pathlib import Path
from typing import IO, Any

from trainer.contract.files import sync_directory
from training_assets.aws import client
from training_assets.profiles import Profile
from training_assets.stores.event_types import Event
from training_assets.stores.events import Refused, Sink, Unreachable
from training_assets.stores.registries import mirrors_of

EVENTS_FILE = "events.jsonl"


def sinks_of(profile: Profile) -> list[Sink]:
    """What the profile asks for; the file always."""
    bus = [] if profile.events is None else [EventBridge(profile.events.event_bus, profile.events.source)]
    return [JsonLines(profile.store / EVENTS_FILE), *bus, *mirrors_of(profile)]


class JsonLines:
    """One event a line. Only whole lines end in a newline; a last line that a killed writer left is taken away."""

    name = "jsonl"

    def __init__(self, path: Path) -> None:
        self.path = path

    def send(self, event: Event) -> None:
        try:
            with open(self.path, "a+b") as stream:
                _cut_torn_line(stream)
                stream.write(f"{event.model_dump_json()}\n".encode())
                stream.flush()
                os.fsync(stream.fileno())
            sync_directory(self.path.parent)
        except OSError as error:
            raise Unreachable(f"{self.path}: {error.strerror or error}") from None


def _cut_torn_line(stream: IO[bytes]) -> None:
    size = stream.seek(0, os.SEEK_END)
    if size == 0:
        return
    stream.seek(size - 1)
    if stream.read(1) != b"\n":
        stream.seek(0)
        stream.truncate(stream.read().rfind(b"\n") + 1)


class EventBridge:
    """``PutEvents`` on one bus: the event's type is the detail-type, the event itself the detail.

    Region and credentials are boto3's own business (the environment, the host's role).
    """

    name = "eventbridge"

    def __init__(self, bus: str, source: str) -> None:
        self.bus, self.source = bus, source

    def send(self, event: Event) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        entry = {
            "Time": event.at,
            "Source": self.source,
            "DetailType": event.type,
            "Detail": event.model_dump_json(),
            "EventBusName": self.bus,
        }
        try:
            answer = self._client.put_events(Entries=[entry])
        except ClientError as error:
            raise Refused(str(error)) from None
        except BotoCoreError as error:
            raise Unreachable(str(error)) from None
        # The call succeeds even where the bus took nothing.
        if answer["FailedEntryCount"]:
            failed = answer["Entries"][0]
            raise Refused(f"{failed.get('ErrorCode')}: {failed.get('ErrorMessage')}")

    @functools.cached_property
    def _client(self) -> Any:
        return client("events", tries=2, connect_timeout=3, read_timeout=10)
