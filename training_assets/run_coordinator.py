"""How runs wait: Dagster's queue, in which every run says why it is there and how urgent it is.

Sensors, schedules and the command line say so themselves; what a person starts on the web page is told apart here.
"""

from dagster import DagsterRun
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._core.storage.tags import BACKFILL_ID_TAG

from training_assets.control import CAUSE_TAG, run_tags


class PrioritizedRunCoordinator(QueuedRunCoordinator):
    """A run without a cause is a backfill's or a person's."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        run = context.dagster_run
        if CAUSE_TAG not in run.tags:
            backfill = run.tags.get(BACKFILL_ID_TAG)
            tags = run_tags("backfill", f"backfill {backfill}") if backfill else run_tags("manual", "started by hand")
            # A priority that somebody gave the run on the web page is meant.
            self._instance.add_run_tags(run.run_id, {**tags, **run.tags})
        return super().submit_run(context)
