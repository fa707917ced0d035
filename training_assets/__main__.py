"""The command line of the graph: ``python -m training_assets COMMAND``. What a command does is in its own module."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

EXAMPLES = """\
examples:
  python -m training_assets demo                         synthetic scenes, newest window
  python -m training_assets demo --data deliveries/camvid --recipe camvid_segmentation
  python -m training_assets ui                           Dagster's web page and daemon on the same storage
  python -m training_assets deliver drops/2026-02-16     check a delivery, put it where the sensor sees it
  python -m training_assets train scenes_multitask       the newest window; in the queue where a daemon is at work
  python -m training_assets train scenes_multitask --window 2026-02-09 --from production --set optim.lr=1e-4
  python -m training_assets sweep start sweeps/scenes.yaml
  python -m training_assets sweep status brisk-harbour-417
  python -m training_assets tune sweeps/scenes.yaml --recipe recipes/scenes_multitask.yaml \\
      --data deliveries/scenes --artifact-dir tunes
  python -m training_assets status                       what waits, runs and failed; what each window has
  python -m training_assets runs                         what runs where, at which step, at what cost
  python -m training_assets profile check ecs            what is missing, before anything costs money
  python -m training_assets lineage scenes@1.0.0         from a registered model back to its frames
  python -m training_assets evaluate scenes@1.1.0 --data deliveries/rain --against 1.0.0
  python -m training_assets promote scenes@1.0.0         make it the production model
  python -m training_assets rollback scenes --reason "misses cyclists"
  python -m training_assets restore 3f1c0a9b deliveries/restored

Places are relative to the repository: deliveries arrive in var/inbox, var/store holds everything that was made,
var/dagster_home is Dagster's own. Environment: TRAINING_ASSETS_PROFILE, _INBOX, _STORE, _ARCHIVE,
_RECIPES.

exit codes: 0 done (with --detach: in the queue), 1 a gate or a run failed (the report names it) or the inbox or archive
cannot be reached, 2 bad input (the report says what), 130 interrupted (a run that waits or was started in the queue
goes on)
"""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    from trainer.contract.errors import ContractError
    from training_assets.stores.inbox import InboxUnreachable
    from training_assets.stores.objects import StoreUnreachable

    try:
        run: Callable[[argparse.Namespace], int] = arguments.run
        return run(arguments)
    except ContractError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except InboxUnreachable as error:
        print(f"error: the inbox cannot be used: {error}", file=sys.stderr)
        return 1
    except StoreUnreachable as error:
        print(f"error: the archive cannot be used: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training_assets",
        description="Drive the asset graph from a terminal: from a delivery to a registered model, and back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = command("demo", _demo, "Materialise everything that is out of date for the newest window of a delivery.")
    sub.add_argument("--data", type=Path, metavar="DIR", help="a delivery; default: synthetic scenes, made on the spot")
    sub.add_argument("--recipe", metavar="NAME", help="only this recipe; default: each one that fits the delivery")
    sub.add_argument("--window", metavar="DATE", help="first day of the window; default: the newest one with rows")

    sub = command("demo-sweep", _demo_sweep, "Sweep on synthetic scenes with Dagster's daemon, to the report.")
    sub.add_argument("--file", type=Path, metavar="FILE", help="the sweep; default: sweeps/demo.yaml")
    sub.add_argument("--limit", type=float, default=3600, metavar="SECONDS", help="how long it may take")

    sub = command("train", _train, "Train a window of a recipe, judge and register the model, up to date or not.")
    sub.add_argument("recipe", metavar="RECIPE", help="its name")
    sub.add_argument("--window", metavar="DATE", help="first day of the window; default: the newest one with rows")
    sub.add_argument("--dataset", metavar="VERSION", help="a pinned dataset version; default: the current one")
    begin = "begin with these weights: a version or an alias of the recipe's project, or a checkpoint file"
    sub.add_argument("--from", dest="warm_start", metavar="VERSION_OR_CHECKPOINT", help=begin)
    sub.add_argument("--profile", metavar="NAME", help="launch as this profile does; its store must be the same")
    setting = "a setting of the recipe for this run alone, as optim.lr=1e-3; repeat for more"
    sub.add_argument("--set", dest="overrides", action="append", default=[], metavar="A.B=C", help=setting)
    sub.add_argument("--detach", action="store_true", help="put it into the daemon's queue and do not wait for it")

    sub = command("deliver", _deliver, "Check a whole delivery, and put it into the inbox, where the sensor sees it.")
    sub.add_argument("directory", type=Path, metavar="DIR", help="the delivery; it stays as it is")
    sub.add_argument("--name", metavar="NAME", help="its name in the inbox; default: that of DIR")

    _sweep_commands(command("sweep", _sweep, "Search better settings for a recipe, within a budget."))

    sub = command("tune", _tune, "Carry a sweep out on this machine, without Dagster: each trial a cross-validation.")
    sub.add_argument("file", type=Path, metavar="SWEEP_FILE", help="a sweep.yaml, or any W&B sweep file")
    sub.add_argument("--recipe", type=Path, required=True, metavar="FILE", help="what is tuned")
    sub.add_argument("--data", type=Path, required=True, metavar="DIR", help="a delivery or a data directory")
    where = "everything lies below it: TUNE/TUNE-cvN/…"
    sub.add_argument("--artifact-dir", type=Path, required=True, metavar="DIR", dest="artifacts", help=where)
    sub.add_argument("--name", metavar="NAME", help="the tune's; a readable random one when not given")
    sub.add_argument("--resume", action="store_true", help="go on with the one of this name")
    side = "tune-parallel: a trial on each of the recipe's devices at a time"
    sub.add_argument("--parallel", choices=("serial", "tune-parallel"), default="serial", help=side)

    sub = command("status", _status, "What waits, runs and failed, and why; what each window, slice and delivery has.")
    sub.add_argument("--json", action="store_true", help="everything, for programs")

    sub = command("runs", _runs, "Trainings wherever they run: attempt, step, samples/s, cost so far, why they wait.")
    sub.add_argument("--all", action="store_true", help="those that have ended too")
    sub.add_argument("--json", action="store_true", help="for programs")

    sub = command("profile", _profile, "Tell what a profile lacks before it can launch anything, and what it costs.")
    sub.add_argument("action", choices=("check",))
    sub.add_argument("name", metavar="NAME", help="a file of training_assets/profiles, without .yaml")

    sub = command("ui", _ui, "Open Dagster's web page on this code location and storage.")
    sub.add_argument("--port", type=int, default=3000)

    sub = command("image", _image, "Build both images from the last commit, push them to ECR, record their digests.")
    digest = "REPOSITORY@sha256:…"
    sub.add_argument("--base", required=True, metavar=digest, help="what the trainer's image starts from")
    sub.add_argument("--dagster-base", metavar=digest, help="what Dagster's starts from; default: as the trainer's")
    sub.add_argument("--build-base", metavar=digest, help="what pip runs in; default: the base of each image")
    sub.add_argument("--no-push", dest="push", action="store_false", help="build only; no digest is recorded")
    sub.add_argument("--registry", metavar="HOST", help="default: the one that ECR names for these credentials")
    out = "for images.json and the bills of materials; default: var/images"
    sub.add_argument("--out", type=Path, default=Path("var/images"), metavar="DIR", help=out)
    sub.add_argument("--tool", choices=("docker", "podman"), help="default: the first of them that works")
    sub.add_argument("--pip-config", type=Path, metavar="FILE", help="pip's configuration, as a secret of the build")
    passed = "passed on to the build: --build-option=--network=host; repeat for more"
    sub.add_argument("--build-option", dest="options", action="append", default=[], metavar="OPTION", help=passed)

    command("summary", _summary, "What was made last: scores, gates, latency, versions, places.")

    sub = command("lineage", _lineage, "Print the way from a registered model back to its frames.")
    _reference(sub)
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--frames", action="store_true", help="only the frames, one a line")
    form.add_argument("--json", action="store_true", help="for programs")

    sub = command("promote", _promote, "Make a registered model the production model of its project.")
    _reference(sub)
    sub.add_argument("--reason", default="", help="kept in the alias's history")

    sub = command("rollback", _rollback, "Make the version before the production model of a project again.")
    sub.add_argument("project", metavar="PROJECT")
    sub.add_argument("--reason", required=True, help="kept in the alias's history")

    _evaluate_options(command("evaluate", _evaluate, "Judge a registered version on any data; nothing else changes."))

    sub = command("restore", _restore, "Bring a pinned dataset version back, byte for byte.")
    sub.add_argument("version", metavar="DATASET_VERSION", help="its digest, or the first characters of it")
    sub.add_argument("out", type=Path, metavar="OUT", help="a directory that does not exist yet")
    return parser


def _sweep_commands(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    sub = actions.add_parser("start", help="have the daemon carry a sweep file out")
    sub.add_argument("file", type=Path, metavar="FILE", help="a sweep.yaml, or any W&B sweep file (docs/sweeps.md)")
    sub.add_argument("--recipe", metavar="NAME", help="what is tuned, where the file does not say it")
    sub.add_argument("--name", metavar="NAME", help="the sweep's; a readable random one when not given")
    sub.add_argument("--window", metavar="DATE", help="first day of the window; default: the newest one with rows")
    sub = actions.add_parser("status", help="how sweeps stand: trials, best, budget")
    sub.add_argument("name", nargs="?", metavar="SWEEP", help="one of them with its trials; default: a line for each")
    sub.add_argument("--json", action="store_true", help="for programs")
    sub = actions.add_parser("stop", help="end a sweep: its trials save and end, then its report is made")
    sub.add_argument("name", metavar="SWEEP")
    sub.add_argument("--reason", default="", help="kept with the sweep")
    sub = actions.add_parser("apply", help="change the recipe and the library as the sweep's report proposes")
    sub.add_argument("name", metavar="SWEEP")
    sub = actions.add_parser("export", help="the file as a strict W&B sweep file; made in W&B, with agents")
    sub.set_defaults(run=_sweep_export)
    sub.add_argument("file", type=Path, metavar="FILE", help="a sweep.yaml")
    sub.add_argument("--recipe", metavar="NAME", help="what is tuned, where the file does not say it")
    sub.add_argument("--out", type=Path, metavar="FILE", help="write it there; default: print it")
    sub.add_argument("--create", action="store_true", help="make the sweep in W&B, with the account that is logged in")
    sub.add_argument("--project", metavar="NAME", help="W&B's; default: the file's, else the recipe's")
    sub.add_argument("--entity", metavar="NAME", help="W&B's; default: the file's, else the account's own")
    sub.add_argument("--agents", type=int, default=0, metavar="N", help="with --create: work on it until it is through")
    sub.add_argument("--data", type=Path, metavar="DIR", help="a delivery or a data directory, which runs train on")


def _evaluate_options(sub: argparse.ArgumentParser) -> None:
    _reference(sub)
    data = "a delivery in the inbox, or the path of a delivery or manifest; default: what was pinned last"
    sub.add_argument("--data", default="", metavar="DATA", help=data)
    sub.add_argument("--split", default="test", choices=("train", "val", "test"), help="which of it; default: test")
    own = "another slices.yaml; default: the one beside the data, else the pinned one"
    sub.add_argument("--slices", default="", metavar="FILE", help=own)
    other = "compare with this version or alias of the project; default: production; '' for none"
    sub.add_argument("--against", default="production", metavar="VERSION", help=other)


def _reference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="REF", help="PROJECT@VERSION or PROJECT@ALIAS, as in scenes@production")


def _demo(arguments: argparse.Namespace) -> int:
    from training_assets.demo import demo
    from training_assets.in_process import Stopped

    try:
        return demo(arguments.data, arguments.recipe, arguments.window)
    except Stopped as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        return 1


def _demo_sweep(arguments: argparse.Namespace) -> int:
    from training_assets.demo_sweep import demo_sweep
    from training_assets.in_process import Stopped

    try:
        return demo_sweep(arguments.file, arguments.limit)
    except Stopped as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        return 1


def _train(arguments: argparse.Namespace) -> int:
    from training_assets.commands.train import Asked, train
    from training_assets.in_process import Stopped

    fields = ("recipe", "window", "dataset", "warm_start", "profile", "detach")
    asked = Asked(**{name: getattr(arguments, name) for name in fields}, overrides=tuple(arguments.overrides))
    try:
        return train(asked)
    except Stopped as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        return 1


def _sweep_export(arguments: argparse.Namespace) -> int:
    from training_assets.commands.sweep_export import Asked, export

    fields = ("file", "recipe", "out", "create", "project", "entity", "agents", "data")
    return export(Asked(**{name: getattr(arguments, name) for name in fields}))


def _sweep(arguments: argparse.Namespace) -> int:
    from training_assets.commands import sweep
    from training_assets.in_process import Stopped

    try:
        if arguments.action == "start":
            fields = ("file", "recipe", "name", "window")
            sweep.start_sweep(sweep.Asked(**{name: getattr(arguments, name) for name in fields}))
            return 0
        if arguments.action == "apply":
            return sweep.apply_proposal(arguments.name)
        if arguments.action == "stop":
            return sweep.stop_sweep(arguments.name, arguments.reason)
        return sweep.sweep_status(arguments.name, arguments.json)
    except Stopped as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        return 1


def _tune(arguments: argparse.Namespace) -> int:
    from training_assets.commands.tune import Asked, tune

    fields = ("file", "recipe", "data", "artifacts", "name", "resume", "parallel")
    return tune(Asked(**{name: getattr(arguments, name) for name in fields}))


def _deliver(arguments: argparse.Namespace) -> int:
    from training_assets.commands.deliver import deliver

    return deliver(arguments.directory, arguments.name)


def _status(arguments: argparse.Namespace) -> int:
    from training_assets.commands.status import status

    return status(arguments.json)


def _runs(arguments: argparse.Namespace) -> int:
    from training_assets.commands.runs import runs

    return runs(arguments.json, arguments.all)


def _profile(arguments: argparse.Namespace) -> int:
    from training_assets.commands.profile import check

    return check(arguments.name)


def _ui(arguments: argparse.Namespace) -> int:
    from training_assets.home import prepare_home
    from training_assets.profiles import REPOSITORY

    home = prepare_home()
    print(f"http://127.0.0.1:{arguments.port} (storage in {home}; Ctrl-C ends it)", flush=True)
    os.chdir(REPOSITORY)
    # Started in the background by a script, SIGINT is ignored, and Dagster takes SIGTERM to be like it: unstoppable.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    dagster = str(Path(sys.executable).with_name("dagster"))
    os.execv(dagster, [dagster, "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(arguments.port)])  # noqa: S606


def _image(arguments: argparse.Namespace) -> int:
    from training_assets.commands.image import DAGSTER, TRAINER, Asked, image

    fields = ("build_base", "registry", "push", "out", "tool", "pip_config")
    return image(
        Asked(
            **{name: getattr(arguments, name) for name in fields},
            bases={TRAINER: arguments.base, DAGSTER: arguments.dagster_base or arguments.base},
            options=tuple(arguments.options),
        )
    )


def _summary(arguments: argparse.Namespace) -> int:
    from training_assets.summary import summary

    return summary()


def _lineage(arguments: argparse.Namespace) -> int:
    import json

    from training_assets.lineage import as_dict, describe, frame_line, frames
    from training_assets.profiles import load_profile
    from training_assets.stores.registry import registry_of

    registry = registry_of(load_profile())
    entry = registry.find(arguments.reference)
    if arguments.json:
        print(json.dumps(as_dict(entry, registry), indent=2, ensure_ascii=False))
    elif arguments.frames:
        for frame in frames(entry, registry.root):
            print(frame_line(frame))
    else:
        print(describe(entry, registry))
    return 0


def _promote(arguments: argparse.Namespace) -> int:
    from training_assets.commands.promote import promote

    return promote(arguments.reference, arguments.reason)


def _rollback(arguments: argparse.Namespace) -> int:
    from training_assets.commands.promote import rollback

    return rollback(arguments.project, arguments.reason)


def _evaluate(arguments: argparse.Namespace) -> int:
    from training_assets.commands.evaluate import evaluate
    from training_assets.evaluating import Asked
    from training_assets.in_process import Stopped

    fields = ("data", "split", "slices", "against")
    try:
        return evaluate(Asked(model=arguments.reference, **{name: getattr(arguments, name) for name in fields}))
    except Stopped as stopped:
        print(f"stopped: {stopped}", file=sys.stderr)
        return 1


def _restore(arguments: argparse.Namespace) -> int:
    from training_assets.profiles import load_profile
    from training_assets.stores.dvc import DvcStore

    pin = DvcStore(load_profile().store).restore(arguments.version, arguments.out)
    print(f"restored {pin.version} (DVC {pin.dvc_hash}): {pin.files} files, {pin.bytes:,} bytes in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
