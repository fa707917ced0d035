"""SQLite with a password, as Postgres has one: it shows what becomes of a secret in ``dagster.yaml``."""

from typing import Any

from dagster import StringSource
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData


class GuardedStorage(DagsterSqliteStorage):
    def __init__(self, base_dir: str, password: str, inst_data: ConfigurableClassData | None = None) -> None:
        assert password, "the server was started without it"
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {"base_dir": StringSource, "password": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "GuardedStorage":
        return cls(inst_data=inst_data, **config_value)
