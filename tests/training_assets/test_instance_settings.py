"""The settings that are shipped for Dagster's instance are those that Dagster loads and goes by."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionResolvedStatus

from trainer.contract.ports import free_port
from training_assets.check_states import CheckStates
from training_assets.run_coordinator import PrioritizedRunCoordinator
from training_assets.run_launcher import WatchedRunLauncher

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def home_with(settings: str, directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    shutil.copyfile(DEPLOY / settings, directory / "dagster.yaml")
    return directory


def retries_only_lost_runs_once(instance: dg.DagsterInstance) -> bool:
    asked = (instance.run_retries_max_retries, instance.run_retries_retry_on_asset_or_op_failure)
    return instance.run_retries_enabled and instance.run_monitoring_enabled and asked == (1, False)


def remembers_check_states(instance: dg.DagsterInstance) -> bool:
    return isinstance(getattr(instance.event_log_storage.get_asset_check_state, "__self__", None), CheckStates)


def test_one_machine_has_a_queue_a_watched_launcher_one_gpu_slot_and_one_retry_of_lost_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.from_config(str(home_with("dagster.yaml", tmp_path))) as instance:
        assert isinstance(instance.run_coordinator, PrioritizedRunCoordinator)
        assert isinstance(instance.run_launcher, WatchedRunLauncher)
        concurrency = instance.get_concurrency_config()
        assert concurrency.run_queue_config is not None
        assert concurrency.run_queue_config.max_concurrent_runs == 2
        assert concurrency.pool_config.default_pool_limit == 1
        assert retries_only_lost_runs_once(instance)
        assert instance.telemetry_enabled is False
        assert remembers_check_states(instance)
        ours = instance.get_ref()
        assert {path.name for path in tmp_path.iterdir()} >= {"history", "schedules"}
        with dg.DagsterInstance.from_ref(ours) as in_another_process:
            assert remembers_check_states(in_another_process)


@pytest.fixture
def postgres() -> Iterator[int]:
    """The port of a PostgreSQL server of its own, with a database and a user called ``dagster``."""
    found = shutil.which("pg_ctl") or next((str(p) for p in Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")), None)
    if found is None:
        pytest.skip("needs PostgreSQL's server (Debian's package postgresql) on this machine")
    tools = Path(found).resolve().parent
    # Not below tmp_path: the server does not run as root, and pytest's directories are closed to others.
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    port = free_port()
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        shutil.chown(directory, user)

    def run(tool: str, *arguments: str) -> None:
        command = [str(tools / tool), *arguments]
        subprocess.run(command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    (directory / "password").write_text("s3cret")
    data = str(directory / "data")
    run("initdb", "-D", data, "-U", "dagster", "-A", "scram-sha-256", "--no-sync", f"--pwfile={directory}/password")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} -c fsync=off"
    run("pg_ctl", "-D", data, "-w", "-l", str(directory / "log"), "-o", options, "start")
    try:
        yield port
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.slow
def test_a_deployment_keeps_everything_in_postgres_with_what_the_environment_says(
    postgres: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = home_with("dagster.postgres.yaml", tmp_path)
    monkeypatch.setenv("DAGSTER_PG_HOST", "127.0.0.1")
    monkeypatch.setenv("DAGSTER_PG_PORT", str(postgres))
    monkeypatch.setenv("DAGSTER_PG_DB", "postgres")
    monkeypatch.setenv("DAGSTER_PG_USERNAME", "dagster")
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "s3cret")

    @dg.asset
    def thing() -> int:
        return 1

    @dg.asset_check(asset=thing)
    def good() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert "Postgres" in type(instance.run_storage).__name__
        assert isinstance(instance.run_coordinator, PrioritizedRunCoordinator)
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1
        assert retries_only_lost_runs_once(instance)
        assert remembers_check_states(instance)
        assert dg.materialize([thing, good], instance=instance).success
        states = instance.event_log_storage.get_asset_check_state([(good.check_key, None)])
        assert states[good.check_key].subsets[AssetCheckExecutionResolvedStatus.SUCCEEDED].bool_value
    with dg.DagsterInstance.from_config(str(home)) as again:
        assert again.get_latest_materialization_event(dg.AssetKey("thing")) is not None


def test_a_deployment_without_its_secrets_says_which_variable_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="DAGSTER_PG_HOST"):
        dg.DagsterInstance.from_config(str(home_with("dagster.postgres.yaml", tmp_path))).__enter__()
