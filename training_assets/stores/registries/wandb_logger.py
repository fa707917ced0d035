"""Logs one artifact as a run of W&B; what is on stdin says which. A program of its own: wandb takes over the console,
the signals and the exit of the process that it is in.

Online the client is that of dagster-wandb's ``wandb_resource``. Its I/O manager is not used: it names an artifact by
the first component of an asset's key, makes a run of each Dagster run, and pickles what is no artifact.
"""

import json
import sys
import traceback
from typing import Any

CANNOT_REACH = 75
INIT_S = 30.0
UPLOAD_S = 60


def main() -> int:
    asked = json.load(sys.stdin)
    if asked["mode"] == "offline":
        import wandb

        _log(wandb, asked)
        return 0
    try:
        _log(_client(asked["host"]), asked)
    except Exception:
        # Whatever it was, the registry tells it again later; nothing here could be told apart for sure.
        traceback.print_exc()
        return CANNOT_REACH
    return 0


def _log(wandb: Any, asked: dict[str, Any]) -> None:
    online = asked["mode"] == "online"
    quiet = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        init_timeout=INIT_S,
        x_disable_stats=True,
        x_disable_meta=True,
    )
    run = wandb.init(
        project=asked["project"],
        entity=asked["entity"],
        id=asked["run"],
        job_type="registry",
        dir=asked["directory"],
        mode=asked["mode"],
        settings=quiet,
        **({"resume": "allow"} if online else {}),
    )
    artifact = wandb.Artifact(asked["artifact"], type="model", metadata=asked["metadata"])
    for name, uri in asked["files"].items():
        artifact.add_reference(uri, name=name, checksum=False)
    logged = run.log_artifact(artifact, aliases=asked["aliases"])
    if online:
        logged.wait(timeout=UPLOAD_S)
    run.finish()


def _client(host: str) -> Any:
    """The key is read from the environment by its name."""
    from dagster import build_init_resource_context
    from dagster_wandb import wandb_resource

    config = {"api_key": {"env": "WANDB_API_KEY"}, "host": host}
    return wandb_resource(build_init_resource_context(config=config))["sdk"]


if __name__ == "__main__":
    sys.exit(main())
