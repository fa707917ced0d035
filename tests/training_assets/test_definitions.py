"""The code location as a whole: every asset spec is on record, a bad recipe takes only its own chain away."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from training_assets.definitions import build_defs
from training_assets.profiles import MirrorRegistry, load_profile

ROOT = Path(__file__).parents[2]
SNAPSHOT = Path(__file__).parent / "asset_specs.json"
UPDATE = "UPDATE_SNAPSHOTS"


def specs_of(defs: dg.Definitions) -> dict[str, Any]:
    graph = defs.resolve_asset_graph()
    found = {}
    for key in sorted(graph.get_all_asset_keys(), key=dg.AssetKey.to_user_string):
        node = graph.get(key)
        partitions = node.partitions_def
        found[key.to_user_string()] = {
            "deps": sorted(parent.to_user_string() for parent in node.parent_keys),
            "partitions": None if partitions is None else type(partitions).__name__,
            "group": node.group_name,
            "kinds": sorted(name.split("/")[-1] for name in node.tags if name.startswith("dagster/kind/")),
            "owners": sorted(node.owners),
            "pools": sorted(node.pools or ()),
            "described": bool(node.description),
            "executable": node.is_executable,
            "checks": {
                check.name: "blocking" if graph.get(check).blocking else "informing"
                for check in sorted(node.check_keys)
            },
        }
    return found


def test_every_asset_is_as_recorded(profile: Any) -> None:
    """Set UPDATE_SNAPSHOTS=1 to write the file anew, and look at the difference in review."""
    found = specs_of(build_defs(profile=profile))
    if os.environ.get(UPDATE):
        SNAPSHOT.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(SNAPSHOT.read_text())


def test_the_repositorys_own_recipes_have_each_a_chain_and_a_job() -> None:
    defs = build_defs(profile=load_profile("local", {}))
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    for path in (ROOT / "recipes").glob("*.yaml"):
        assert f"{path.stem}/registry_entry" in keys
        assert f"{path.stem}/broken_recipe" not in keys
        assert defs.resolve_job_def(f"{path.stem}_job")


def test_a_bad_recipe_takes_only_its_own_chain_away_and_says_why(profile: Any) -> None:
    good = (profile.recipes / "tiny.yaml").read_text()
    (profile.recipes / "askew.yaml").write_text(
        good.replace("name: tiny", "name: askew").replace("epochs: 2", "epochs: x")
    )
    (profile.recipes / "other_name.yaml").write_text(good)
    (profile.recipes / "no_yaml.yaml").write_text("{")
    graph = build_defs(profile=profile).resolve_asset_graph()
    keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert "tiny/registry_entry" in keys
    assert {"askew/broken_recipe", "other_name/broken_recipe", "no_yaml/broken_recipe"} <= keys
    assert "askew/checkpoint" not in keys
    description = graph.get(dg.AssetKey(["askew", "broken_recipe"])).description or ""
    assert "training.epochs" in description
    assert "found 'x'" in description


@pytest.mark.slow
def test_the_command_line_materialises_a_string_selection(profile: Any, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(tmp_path),
        "TRAINING_ASSETS_STORE": str(profile.store),
        "TRAINING_ASSETS_INBOX": profile.inbox,
        "TRAINING_ASSETS_RECIPES": str(profile.recipes),
    }
    # An expression, not a plain key: it goes through the parser that an older antlr breaks.
    selection = 'key:"dataset_version" or (kind:"webdataset" and key:"eval*")'
    command = [Path(sys.executable).with_name("dagster"), "asset", "materialize"]
    command += ["-m", "training_assets.definitions", "--select", selection]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (profile.store / "records" / "dataset_version" / "whole.json").is_file()
    assert (profile.store / "records" / "eval_shards" / "whole.json").is_file()


def test_tests_can_put_another_launcher_in(graph: Any, trainer: Any) -> None:
    assert graph.defs.resources["launcher"] is trainer


def test_every_asset_says_what_it_takes_and_makes_and_names_all_that_it_depends_on(profile: Any) -> None:
    graph = build_defs(profile=profile).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        _, _, below = (node.description or "").partition("**In**")
        takes, _, makes = below.partition("**Out**")
        assert takes, key
        assert makes, key
        for parent in node.parent_keys:
            assert f"`{parent.path[-1]}`" in takes or f"`{parent.to_user_string()}`" in takes, (key, parent)


def test_the_profile_decides_which_kinds_are_in_a_bucket(profile: Any) -> None:
    places = {"inbox": "s3://b/inbox", "archive": "s3://b/archive", "checkpoint_store": "s3://b/checkpoints"}
    mirrors = (MirrorRegistry(wandb={}), MirrorRegistry(sagemaker={}))
    found = specs_of(build_defs(profile=profile.model_copy(update={**places, "registries": mirrors})))
    assert found["golden/train"]["kinds"] == ["json", "s3"]
    assert found["tiny/checkpoint"]["kinds"] == ["pytorch", "s3", "wandb"]
    assert found["tiny/registry_entry"]["kinds"] == ["registry", "s3", "wandb"], "the first three of four"
