"""One run of a W&B sweep: what its agent starts. Trains through a launcher, and logs each epoch to the W&B run.

``python -m training_assets.sweeps.wandb_trial RECIPE --data DIR --runs DIR --params JSON``. The agent says in the
environment which run it is (``WANDB_RUN_ID``); when W&B ends the run it stops this process, which stops the training.
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.contract.epochs import read_epochs
from trainer.contract.errors import ContractError
from trainer.contract.files import write_text
from trainer.contract.names import new_run_id
from trainer.contract.results import Epoch
from trainer.contract.train_config import read_config
from trainer.contract.yaml_io import dump_yaml
from training_assets.launchers import Launcher, LaunchSpec, Status, launcher_for
from training_assets.launchers.session import new_attempt
from training_assets.profiles import load_profile
from training_assets.sweeps.parameters import as_value, overrides

Log = Callable[[dict[str, float], int], None]
"""Takes metrics and the epoch, 1 is the first."""


@dataclass(frozen=True)
class WandbTrial:
    """``params`` are the parameters as W&B chose them, ``sets`` overrides of every run."""

    recipe: Path
    data: Path
    runs: Path
    params: Mapping[str, object]
    sets: tuple[str, ...] = ()

    def spec(self, run_id: str) -> LaunchSpec:
        """
        Raises:
            ContractError: the recipe does not take these parameters.
        """
        chosen = overrides({name: as_value(value) for name, value in self.params.items()})
        # This process is the run at W&B: a second one of the same id would write over it.
        config = read_config(self.recipe, [*self.sets, *chosen, "tracking.mode=disabled"])
        run_dir = (self.runs / run_id).absolute()
        write_text(run_dir / "recipe.yaml", dump_yaml(config.model_dump(mode="json")))
        arguments = ("train", str(run_dir / "recipe.yaml"), "--data", str(self.data.absolute()))
        where = ("--run-dir", str(run_dir), "--run-id", run_id)
        return LaunchSpec((*arguments, *where), run_dir, new_attempt(), launch=config.launch, project=config.project)


def train(trial: WandbTrial, run_id: str, launcher: Launcher, log: Log) -> Status:
    """Train to the end, whatever it is; whatever stops this stops the training too."""
    spec = trial.spec(run_id)
    handle, logged = launcher.launch(spec), 0
    try:
        while True:
            # Asked before the epochs are read: what it wrote last is read too.
            status = launcher.poll(handle)
            for epoch in read_epochs(spec.run_dir)[logged:]:
                logged = epoch.epoch + 1
                log(_figures(epoch), logged)
            if status.state != "running":
                return status
            time.sleep(launcher.poll_seconds)
    finally:
        launcher.stop(handle)


def _figures(epoch: Epoch) -> dict[str, float]:
    metrics = {name: value for name, value in epoch.metrics.items() if value is not None}
    return {**metrics, **{f"loss/{name}": value for name, value in epoch.losses.items()}}


def main(argv: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(argv)
    trial = WandbTrial(asked.recipe, asked.data, asked.runs, json.loads(asked.params), tuple(asked.set))
    # Ended like this by the agent: a SystemExit, so that the training is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    import wandb

    run, code = wandb.init(), 1
    try:
        code = _trained(trial, run.id or new_run_id(), run.log)
    finally:
        run.finish(exit_code=code)
    return code


def _trained(trial: WandbTrial, run_id: str, log: Log) -> int:
    try:
        status = train(trial, run_id, launcher_for(load_profile()), log)
    except ContractError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(status.reason or f"the training {status.state}", file=sys.stderr)
    return 0 if status.state == "succeeded" else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training_assets.sweeps.wandb_trial", description=__doc__)
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="the recipe's file")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a delivery or a data directory")
    parser.add_argument("--runs", type=Path, required=True, metavar="DIR", help="run directories go there")
    parser.add_argument(
        "--params", default="{}", metavar="JSON", help="the parameters, as the agent's args_json has them"
    )
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override a field of the recipe")
    return parser


if __name__ == "__main__":
    sys.exit(main())
