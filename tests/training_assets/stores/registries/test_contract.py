"""What every registry shows of ours: the same tests for our own, SageMaker's (moto) and W&B's offline runs."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests.emulators.wandb import wandb_server
from tests.training_assets.stores.registries.conftest import World
from training_assets.profiles import SageMaker, Wandb, parse_profile
from training_assets.stores.event_types import ModelPromoted
from training_assets.stores.events import Event, Refused, Unreachable, promotion_events, registration_events
from training_assets.stores.registries import MirrorSink, SageMakerMirror, WandbMirror
from training_assets.stores.sinks import sinks_of

MIRRORS = ["sagemaker", pytest.param("wandb", marks=pytest.mark.slow)]


def test_a_version_is_there_once_with_its_data_code_and_scores(world: World) -> None:
    assert world.looking.versions() == {}
    world.register("aaaaaaaa")
    world.register("bbbbbbbb")
    world.tell()
    versions = world.looking.versions()
    assert set(versions) == {"scenes@1.0.0", "scenes@1.1.0"}
    facts = versions["scenes@1.0.0"]
    assert facts["dataset_dvc"] == "77.dir"
    assert facts["git_sha"] == "d" * 40
    assert facts["image_digest"] == "sha256:" + "1" * 64
    assert facts["test/detection/AP50"] == 0.4
    assert world.looking.production() is None
    assert world.said == []


@pytest.mark.slow
def test_one_version_is_in_production_and_a_way_back_is_one_too(world: World) -> None:
    for run_id in ("aaaaaaaa", "bbbbbbbb"):
        world.register(run_id)
    for version in ("1.0.0", "1.1.0", "1.0.0"):
        world.promote(version)
        assert world.looking.production() == f"scenes@{version}"
    assert set(world.looking.versions()) == {"scenes@1.0.0", "scenes@1.1.0"}


@pytest.mark.parametrize("world", MIRRORS, indirect=True)
def test_what_a_mirror_did_not_take_is_registered_all_the_same_and_told_it_again(world: World) -> None:
    world.mirror.fails = [Unreachable("the line is cut"), Refused("not now")]
    world.register("aaaaaaaa")
    world.registry.promote("scenes", "1.0.0", by="ann")
    assert world.registry.resolve("scenes", "production") is not None
    assert world.looking.versions() == {}
    world.tell()  # the registration is refused, the promotion gets through and registers
    assert ["the line is cut" in world.said[0], "not now" in world.said[1]] == [True, True]
    assert len(world.outbox.waiting(world.mirror.name)) == 1
    world.tell()
    assert set(world.looking.versions()) == {"scenes@1.0.0"}
    assert world.looking.production() == "scenes@1.0.0"
    assert world.outbox.waiting(world.mirror.name) == []


@pytest.mark.parametrize("world", MIRRORS, indirect=True)
def test_a_mirror_that_is_told_twice_has_it_once(world: World) -> None:
    world.register("aaaaaaaa")
    world.promote("1.0.0")
    for event in (*_events(world),) * 2:
        world.outbox.sinks[0].send(event)
    assert set(world.looking.versions()) == {"scenes@1.0.0"}
    assert world.looking.production() == "scenes@1.0.0"


def _events(world: World) -> list[Event]:
    return [*registration_events(world.registry, "scenes"), *promotion_events(world.registry, "scenes")]


@pytest.mark.slow
@pytest.mark.parametrize("world", ["sagemaker"], indirect=True)
def test_a_promotion_that_waited_does_not_undo_a_later_one(world: World) -> None:
    for run_id in ("aaaaaaaa", "bbbbbbbb"):
        world.register(run_id)
    world.promote("1.0.0")
    (late,) = (event for event in _events(world) if isinstance(event, ModelPromoted))
    world.promote("1.1.0")
    world.outbox.sinks[0].send(late)
    assert world.looking.production() == "scenes@1.1.0"


@pytest.mark.parametrize("world", ["sagemaker"], indirect=True)
def test_a_version_that_is_older_than_the_mirror_is_registered_there_when_it_is_promoted(world: World) -> None:
    world.registry.register(world.draft("aaaaaaaa"), world.files)
    sinks, world.outbox.sinks = world.outbox.sinks, []
    world.tell()
    world.outbox.sinks = sinks
    world.promote("1.0.0")
    assert set(world.looking.versions()) == {"scenes@1.0.0"}
    assert world.looking.production() == "scenes@1.0.0"


@pytest.mark.parametrize("world", ["sagemaker"], indirect=True)
def test_sagemaker_gets_the_files_in_s3_the_report_and_what_serves_them(world: World) -> None:
    world.register("aaaaaaaa")
    (package,) = world.looking.packages()
    where = f"{world.registry.archive.uri}/models/scenes/1.0.0"
    (container,) = package["InferenceSpecification"]["Containers"]
    assert container["ModelDataSource"]["S3DataSource"]["S3Uri"] == f"{where}/"
    assert package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"] == f"{where}/eval_report.json"


@pytest.mark.parametrize("world", ["sagemaker"], indirect=True)
def test_a_group_with_too_long_a_name_is_refused_with_what_to_do(world: World) -> None:
    world.mirror.mirror.settings = SageMaker(group_prefix="sixteen-letters-")
    world.draft = partial(world.draft, project="p" * 48)
    entry = world.registry.register(world.draft(), world.files)
    with pytest.raises(Refused, match="longer than 63 characters: give a shorter group_prefix"):
        world.mirror.register(entry)


@pytest.mark.slow
@pytest.mark.parametrize("world", ["sagemaker"], indirect=True)
def test_sagemaker_out_of_reach_leaves_the_version_in_the_outbox(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    world.register("aaaaaaaa")
    assert "127.0.0.1:9" in world.said[0]
    assert len(world.outbox.waiting(world.mirror.name)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("world", ["wandb"], indirect=True)
def test_wandb_keeps_everything_in_the_store_and_names_each_file(world: World) -> None:
    world.register("aaaaaaaa")
    (artifact,) = world.looking.artifacts()
    assert (artifact["name"], artifact["type"]) == ("scenes", "model")
    assert "v1.0.0" in artifact["aliases"]
    assert set(artifact["files"]) == {
        f"{world.registry.archive.uri}/models/scenes/1.0.0/{name}" for name in world.files
    }


@pytest.mark.slow
@pytest.mark.parametrize("world", ["wandb"], indirect=True)
def test_wandb_online_has_versions_and_production_through_dagster_wandb(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a server of ours; W&B's own needs an account."""
    mirror, key = world.mirror.mirror, "k" * 40
    assert isinstance(mirror, WandbMirror)
    mirror.settings = Wandb(entity="team", mode="online", host="http://127.0.0.1:9")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    world.register("aaaaaaaa")
    assert "no WANDB_API_KEY" in world.said[-1]
    assert len(world.outbox.waiting(mirror.name)) == 1
    monkeypatch.setenv("WANDB_API_KEY", key)
    with wandb_server() as server:
        mirror.settings = Wandb(entity="team", mode="online", host=server.url)
        world.promote("1.0.0")
        (artifact,) = server.named("scenes")
    assert (artifact.type, artifact.committed) == ("model", True)
    assert set(artifact.aliases) == {"latest", "v1.0.0", "production"}
    assert artifact.metadata["reference"] == "scenes@1.0.0"
    assert {entry["ref"] for entry in artifact.manifest["contents"].values()} == {
        f"{world.registry.archive.uri}/models/scenes/1.0.0/{name}" for name in world.files
    }
    assert not world.outbox.waiting(mirror.name)
    for path in world.registry.root.rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes(), path


def test_a_profile_names_the_mirrors(tmp_path: Path) -> None:
    given = {"inbox": "d", "store": "s", "recipes": "r", "launcher": "local", "windows": {"start": "2024-01-01"}}
    named = {**given, "archive": "s3://bucket/models", "registries": [{"sagemaker": {}}, {"wandb": {"entity": "team"}}]}
    profile = parse_profile(json.loads(json.dumps(named)), Path("p.yaml"), {})
    _, first, second = sinks_of(profile)
    assert isinstance(first, MirrorSink)
    assert isinstance(first.mirror, SageMakerMirror)
    assert first.registry.archive.uri == "s3://bucket/models"
    assert isinstance(second, MirrorSink)
    assert isinstance(second.mirror, WandbMirror)
    assert [first.name, second.name] == ["sagemaker-training-assets-", "wandb"]
