"""Dagster's storage of one machine, which remembers the states of checks (``deploy/dagster.yaml``)."""

from typing import Any

from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from training_assets.check_states import with_remembered_checks


class SqliteStorage(DagsterSqliteStorage):
    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Any:
        return with_remembered_checks(super().from_config_value(inst_data, config_value))
