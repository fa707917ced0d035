"""``evaluate``: a registered version on any data. Dagster's job does it, here in this process."""

from dataclasses import asdict

from trainer.terminal.answers import Answer
from training_assets.control import EVALUATE_JOB, run_tags
from training_assets.definitions import build_defs
from training_assets.evaluating import Asked
from training_assets.home import instance
from training_assets.in_process import finish
from training_assets.profiles import load_profile

SHOWN = ("version", "data", "compared_with", "report", "dashboard")


def evaluate(asked: Asked) -> Answer:
    """Its scores stay where the answer says; the registry is as before.

    Raises:
        Stopped: there is no such version or data, or the evaluation failed; with what was said.
    """
    job = build_defs(profile=load_profile()).resolve_job_def(EVALUATE_JOB)
    config = {"ops": {"evaluate_version": {"config": asdict(asked)}}, "loggers": {"console": {}}}
    with instance() as dagster_instance:
        done = job.execute_in_process(
            instance=dagster_instance,
            run_config=config,
            tags=run_tags("manual", "on the command line"),
            raise_on_error=False,
        )
    finish(done)
    (output,) = (event.step_output_data.metadata for event in done.all_events if event.is_successful_output)
    found = {name: output[name].value for name in SHOWN}
    return Answer(found, [f"• {name.replace('_', ' ')}: {value}" for name, value in found.items()])
