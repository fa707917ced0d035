"""Dagster's storage of a deployment, which remembers the states of checks (``deploy/dagster.postgres.yaml``)."""

from typing import Any

from dagster_postgres import DagsterPostgresStorage

from training_assets.check_states import with_remembered_checks


class PostgresStorage(DagsterPostgresStorage):
    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> Any:
        return with_remembered_checks(super().from_config_value(inst_data, config_value))
