"""The trainer's command line: ``python -m trainer COMMAND``."""

import os

from trainer.process import die_with_torchrun

if "TORCHELASTIC_RUN_ID" in os.environ:
    die_with_torchrun()  # before all other imports, which take their time: torchrun may be killed meanwhile

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.contract.attempts import BAD_INPUT, GATE_FAILED
from trainer.contract.errors import ContractError
from trainer.contract.manifest import SPLITS

if TYPE_CHECKING:
    from trainer.contract.train_config import TrainConfig


EXAMPLES = """\
examples:
  python -m trainer scenes --out deliveries/scenes
  python -m trainer import camvid SRC deliveries/camvid --start 2026-01-05
  torchrun --nproc-per-node 2 -m trainer train recipes/scenes_multitask.yaml \\
      --data deliveries/scenes --run-dir runs/first --set training.epochs=4
  python -m trainer crossval recipes/scenes_multitask.yaml --data deliveries/scenes --artifact-dir artifacts \\
      --folds 5 --method kfold
  python -m trainer evaluate runs/first/best.pt --data deliveries/scenes --out runs/first/evaluation
  python -m trainer export runs/first/best.pt --out runs/first/export --data deliveries/scenes
  python -m trainer score detection --ground-truth gt.json --predictions dt.json

exit codes: 0 done, 2 bad input (the report says what), 3 a gate inside the training ended it (it says which and why),
75 stopped by SIGTERM with a checkpoint saved, 1 anything else
"""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except ContractError as error:
        return _refuse(error)


def _refuse(error: ContractError) -> int:
    if os.environ.get("RANK", "0") == "0":
        print(f"error: {error}", file=sys.stderr, flush=True)
    return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer",
        description="Train, evaluate and export perception models from curated manifests.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = command("train", _train, "Train a recipe; run under torchrun. Goes on where RUN_DIR was left.")
    sub.add_argument("config", type=Path, metavar="CONFIG", help="the recipe (train.yaml)")
    _data_argument(sub)
    places = sub.add_mutually_exclusive_group(required=True)
    places.add_argument("--run-dir", type=Path, help="checkpoints, best.pt and result.json go here")
    places.add_argument("--artifact-dir", type=Path, metavar="DIR", help="or into DIR/_runs/NAME-RUN_ID")
    sub.add_argument("--run-id", help="eight characters of a-z and 0-9; chosen at random when not given")
    for label, what in (("name", "name"), ("group", "group (its tune)"), ("job-type", "type (its cross-validation)")):
        sub.add_argument(f"--{label}", help=f"the run's {what} in experiment tracking")
    _training_arguments(sub)

    _crossval_command(command("crossval", _crossval, "Cross-validate a recipe: train it on each fold with each seed."))

    sub = command("copy-checkpoints", _copy_checkpoints, "Copy a run's finished checkpoints to an object store.")
    sub.add_argument("run_dir", type=Path)
    sub.add_argument("store", metavar="URI", help="a directory, or what fsspec knows, like s3://bucket/prefix")
    sub.add_argument("--every", type=int, default=1, help="least steps between copied checkpoints")
    sub.add_argument("--keep-last", type=int, default=2)
    sub.add_argument("--keep-every", type=int, help="steps between checkpoints that are kept for good")
    sub.add_argument("--watch", action="store_true", help="go on until a line comes on standard input")

    sub = command("profile", _profile, "Describe a delivery's train split, and how val and test differ from it.")
    sub.add_argument("delivery", type=Path, help="directory with the golden manifests")
    sub.add_argument("--out", type=Path, required=True, help="reference_profile.json and .html pages go here")
    sub.add_argument("--pinned", type=Path, metavar="DIR", help="take the rows of this dataset version instead")

    sub = command("evaluate", _evaluate, "Score a checkpoint on splits, overall and per slice.")
    _checkpoint_argument(sub)
    _data_argument(sub)
    sub.add_argument("--out", type=Path, required=True, help="eval_report.json, charts.json and pictures go here")
    sub.add_argument("--split", action="append", choices=SPLITS, help="default: val and test")
    sub.add_argument("--against", type=Path, metavar="FILE", help="compare with this best.pt on the same samples")

    sub = command("export", _export, "Write a checkpoint as ONNX, .pt2, TorchScript and int8 ONNX, beside eager.")
    _checkpoint_argument(sub)
    sub.add_argument("--out", type=Path, required=True, help="the models and exports.json go here")
    sub.add_argument(
        "--data", type=Path, metavar="DIR", help="calibrate int8 on its train split, judge it on val; without: no int8"
    )
    sub.add_argument("--batch", type=_at_least_2, default=8, metavar="N", help="samples of a large batch (default 8)")

    sub = command("track", _track, "Tell Weights & Biases what it was not told yet of a run (docs/tracking.md).")
    sub.add_argument("run_dir", type=Path)

    sub = command("shard", _shard, "Stage rows as content-addressed WebDataset shards.")
    sub.add_argument("root", type=Path, metavar="DELIVERY", help="the directory that the rows' paths are relative to")
    sub.add_argument("--out", type=Path, required=True, help="the shards go here")
    sub.add_argument("--list", type=Path, required=True, help="directory for the list of each manifest's shards")
    sub.add_argument(
        "--manifest", type=Path, action="append", metavar="FILE", help="rows to stage; default: the golden manifests"
    )

    sub = command("scenes", _scenes, "Make the synthetic driving delivery.")
    sub.add_argument("--out", type=Path, required=True)
    sub.add_argument("--seed", type=int, default=42)
    sub.add_argument("--rare", type=_at_least_1, metavar="N", help="N frames of rare conditions, test alone, instead")

    _import_command(command("import", _import, "Turn a public data set into a delivery."))
    _score_command(command("score", _score, "Score files in standard formats, made by anybody; prints JSON."))
    return parser


def _training_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--warm-start", type=Path, metavar="FILE", help="begin with the weights of this best.pt")
    sub.add_argument("--no-warm-start", action="store_true", help="whatever the recipe says, begin at random")
    sub.add_argument("--copy-to", metavar="URI", help="copy finished checkpoints there; a new host resumes there")
    sub.add_argument("--set", action="append", default=[], metavar="A.B=C", help="override a field of the recipe")
    sub.add_argument("--profile", type=Path, metavar="FILE", help="reference profile for the drift gate (see profile)")
    sub.add_argument("--history", type=Path, metavar="FILE", help="earlier runs' metrics for the median rule (JSON)")


def _crossval_command(sub: argparse.ArgumentParser) -> None:
    from trainer.crossval.command import add_arguments

    add_arguments(sub)
    _training_arguments(sub)


def _data_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a delivery or a data directory")


def _checkpoint_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="best.pt of a run")


def _import_command(parser: argparse.ArgumentParser) -> None:
    from trainer.data.readers import READERS, reader_named

    formats = parser.add_subparsers(title="formats", metavar="FORMAT", required=True)
    for name in READERS:
        reader = reader_named(name)
        sub = formats.add_parser(name, help=(reader.__doc__ or "").splitlines()[0], description=reader.__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
        reader.add_arguments(sub)
        sub.set_defaults(reader=reader)


def _score_command(parser: argparse.ArgumentParser) -> None:
    from trainer.evaluation.score import add_arguments

    add_arguments(parser)


def _at_least_1(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def _at_least_2(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"{number} is less than 2: one sample at a time is measured anyway")
    return number


def _train(arguments: argparse.Namespace) -> int | None:
    from trainer.contract.train_config import read_config
    from trainer.engine.failure import explained
    from trainer.engine.fork import forked, forks_of

    if arguments.run_dir is None:
        arguments.run_dir = _place_of_run(arguments)
    with explained(arguments.run_dir):
        config = read_config(arguments.config, arguments.set)
        forks = forks_of(config.launch)
    return forked(forks, lambda: _rank_of(arguments, config)) if forks > 1 else _train_here(arguments, config)


def _place_of_run(arguments: argparse.Namespace) -> Path:
    """As told, or drawn once: before the ranks are forked."""
    from trainer.contract.errors import Problem
    from trainer.crossval.place import place_of_run

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        problem = Problem("--artifact-dir", "several ranks, which do not know of each other yet", "--run-dir")
        raise ContractError("the ranks have no run directory in common", [problem])
    place = place_of_run(arguments.artifact_dir, arguments.name, arguments.run_id)
    arguments.name, _, arguments.run_id = place.name.rpartition("-")
    print(f"training in {place}", flush=True)
    return place


def _rank_of(arguments: argparse.Namespace, config: "TrainConfig") -> int:
    try:
        return _train_here(arguments, config)
    except ContractError as error:
        return _refuse(error)


def _train_here(arguments: argparse.Namespace, config: "TrainConfig") -> int:
    """One rank."""
    from trainer.engine.callbacks.gates import GateInputs
    from trainer.engine.callbacks.stopping import Stop
    from trainer.engine.failure import explained
    from trainer.engine.loop import GateFailed
    from trainer.engine.run import train

    try:
        with explained(arguments.run_dir) as subject:
            subject.config = config
            train(
                config,
                arguments.data,
                arguments.run_dir,
                arguments.run_id,
                warm_start=None if arguments.no_warm_start else arguments.warm_start or config.model.warm_start,
                copy_to=arguments.copy_to,
                inputs=GateInputs(arguments.profile, arguments.history),
                tracked={name: value for name in ("name", "group", "job_type") if (value := getattr(arguments, name))},
            )
    except Stop as stop:
        if os.environ.get("RANK", "0") == "0":
            print(stop, flush=True)
        return stop.exit_code
    except GateFailed as failed:
        print(f"ended by a gate: {failed}", file=sys.stderr, flush=True)
        return GATE_FAILED
    return 0


def _crossval(arguments: argparse.Namespace) -> int:
    from trainer.crossval.command import run

    return run(arguments)


def _copy_checkpoints(arguments: argparse.Namespace) -> None:
    from trainer.engine.copier import CopyPlan, copy_finished, store_at, watch

    root, store = arguments.run_dir / "checkpoints", store_at(arguments.store)
    plan = CopyPlan(arguments.every, arguments.keep_last, arguments.keep_every)
    if arguments.watch:
        watch(root, store, plan)
    else:
        print(f"copied to {store}: {', '.join(copy_finished(root, store, plan)) or 'nothing new'}")


def _profile(arguments: argparse.Namespace) -> None:
    from trainer.data.profile import write_profile

    write_profile(arguments.delivery, arguments.out, lambda text: print(text, flush=True), arguments.pinned)


def _evaluate(arguments: argparse.Namespace) -> None:
    from trainer.evaluation.report import REPORT_FILE, write_report
    from trainer.tracking import tell_made

    splits = arguments.split or ("val", "test")
    write_report(arguments.checkpoint, arguments.data, arguments.out, splits, print, arguments.against)
    print(f"wrote {arguments.out / REPORT_FILE}")
    tell_made(arguments.checkpoint.parent, "evaluation", arguments.out, print)


def _export(arguments: argparse.Namespace) -> None:
    from trainer.export.export import export
    from trainer.tracking import tell_made

    def say(text: str) -> None:
        print(text, flush=True)

    export(arguments.checkpoint, arguments.out, say, arguments.data, arguments.batch)
    tell_made(arguments.checkpoint.parent, "export", arguments.out, say)


def _track(arguments: argparse.Namespace) -> int:
    from trainer.tracking import catch_up_by_hand

    return 0 if catch_up_by_hand(arguments.run_dir, print) else 1


def _shard(arguments: argparse.Namespace) -> None:
    from trainer.contract.delivery import manifest_name
    from trainer.data.staging import stage_manifest

    for manifest in arguments.manifest or [arguments.root / manifest_name(split) for split in SPLITS]:
        stage_manifest(manifest, arguments.root, arguments.out, arguments.list, print)


def _scenes(arguments: argparse.Namespace) -> None:
    from trainer.data.scenes import make_rare_scenes, make_scenes

    if arguments.rare:
        make_rare_scenes(arguments.out, frames=arguments.rare, seed=arguments.seed, progress=_counted("scenes"))
    else:
        make_scenes(arguments.out, seed=arguments.seed, progress=_counted("scenes"))


def _import(arguments: argparse.Namespace) -> None:
    arguments.reader.run(arguments, _counted("samples"))


def _score(arguments: argparse.Namespace) -> None:
    from trainer.evaluation.score import score

    print(json.dumps(score(arguments), indent=2))


def _counted(what: str) -> Callable[[int, int], None]:
    """Progress for people: a line for each tenth of the way."""

    def progress(done: int, total: int) -> None:
        if done == total or done * 10 // total != (done - 1) * 10 // total:
            print(f"  {done}/{total} {what}", flush=True)

    return progress


def _leave(code: int) -> None:
    """Exit with ``code``, whatever threads of native libraries are at work: tearing them down may abort the process."""
    sys.stdout.flush()
    sys.stderr.flush()
    if code:
        os._exit(code)
    sys.exit(0)


if __name__ == "__main__":
    _leave(main())
