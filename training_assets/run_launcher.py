"""How runs are started on one machine: as Dagster's default launcher does it, and their end is always noticed.

The default launcher notices that a run's process is gone only while the code server that started it lives. When both
were killed, or the machine restarted, the run would count as started for ever and keep its slot of the pool.
"""

import psutil
from dagster import DagsterEventType, DagsterRun
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus

CLOCK_TOLERANCE = 10.0
"""Seconds by which a process may seem to begin after its own first message."""


class WatchedRunLauncher(DefaultRunLauncher):
    """For a daemon on the machine that runs the code server: it looks for the run's process by its id."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        found = self._process(run.run_id)
        if found is None or _is_alive(*found):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.FAILED, f"process {found[0]} of the run is gone")

    def _process(self, run_id: str) -> tuple[int, float] | None:
        """The run's process id, and when the process said it; None: it has not said yet."""
        for entry in self._instance.all_logs(run_id, of_type=DagsterEventType.ENGINE_EVENT):
            event = entry.dagster_event
            pid = event.engine_event_data.metadata.get("pid") if event else None
            if pid is not None:
                return int(str(pid.value)), entry.timestamp
        return None


def _is_alive(pid: int, said_at: float) -> bool:
    try:
        process = psutil.Process(pid)
        # A process that began later is another one that was given the same id.
        return process.create_time() <= said_at + CLOCK_TOLERANCE and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
