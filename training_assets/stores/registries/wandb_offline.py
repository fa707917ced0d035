"""Logs one artifact as an offline run of W&B; what is on stdin says which. A program of its own: wandb takes over the
console, the signals and the exit of the process that it is in.
"""

import json
import sys

import wandb


def main() -> None:
    asked = json.load(sys.stdin)
    quiet = wandb.Settings(
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        x_disable_stats=True,
        x_disable_meta=True,
    )
    run = wandb.init(
        project=asked["project"],
        entity=asked["entity"],
        id=asked["run"],
        job_type="registry",
        dir=asked["directory"],
        mode="offline",
        settings=quiet,
    )
    artifact = wandb.Artifact(asked["artifact"], type="model", metadata=asked["metadata"])
    for name, uri in asked["files"].items():
        artifact.add_reference(uri, name=name, checksum=False)
    run.log_artifact(artifact, aliases=asked["aliases"])
    run.finish()


if __name__ == "__main__":
    main()
