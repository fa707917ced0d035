"""SageMaker's channels, held to botocore's own model of CreateTrainingJob."""

from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from tests.training_assets.stores.fast_storage.conftest import FILE_SYSTEM
from trainer.contract.errors import ContractError
from training_assets.places import Places
from training_assets.profiles import Profile, parse_profile
from training_assets.stores.fast_storage.channels import (
    ROOT,
    FileSystemChannel,
    S3Channel,
    input_data_config,
    on_hosts,
    run_channels,
)

PROFILE = {"inbox": "d", "store": "s", "recipes": "r", "launcher": "local", "windows": {"start": "2024-01-01"}}
INPUT = botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape


def profile(mount: Path, **more: object) -> Profile:
    links = [{"directory": str(mount / "inbox"), "uri": "s3://bucket/inbox"}]
    staging = {
        "kind": "fsx",
        "file_system_id": FILE_SYSTEM,
        "mount": str(mount),
        "mount_name": "abcdbev",
        "links": links,
    }
    return parse_profile({**PROFILE, "store": str(mount / "store"), "staging": staging, **more}, Path("p.yaml"), {})


def errors_of(channels: list[dict[str, Any]]) -> str:
    """What botocore would say before it sends them."""
    return str(ParamValidator().validate(channels, INPUT.members["InputDataConfig"]).generate_report())


def test_the_places_of_a_run_are_channels_of_the_file_system_and_only_the_run_can_be_written(mount: Path) -> None:
    places = Places(mount / "store")
    described = input_data_config(profile(mount), run_channels(places, places.run("scenes", "ab12cd34")))
    assert errors_of(described) == ""
    store, run = (one["DataSource"]["FileSystemDataSource"] for one in described)
    assert (store["DirectoryPath"], store["FileSystemAccessMode"]) == ("/abcdbev/store", "ro")
    assert (run["DirectoryPath"], run["FileSystemAccessMode"]) == ("/abcdbev/store/runs/_runs/scenes-ab12cd34", "rw")
    for source in (store, run):
        assert (source["FileSystemId"], source["FileSystemType"]) == (FILE_SYSTEM, "FSxLustre")


def test_the_launcher_can_say_each_path_as_the_hosts_see_it(mount: Path) -> None:
    places = Places(mount / "store")
    run = places.run("scenes", "ab12cd34")
    channels = run_channels(places, run)
    assert on_hosts(run / "recipe.yaml", channels) == ROOT / "run" / "recipe.yaml"
    assert on_hosts(places.shards / "a.tar", channels) == ROOT / "store" / "shards" / "a.tar"
    with pytest.raises(ContractError, match="in no channel"):
        on_hosts(mount / "inbox" / "d1", channels)


def test_s3_channels_are_replicated_unless_told_otherwise(mount: Path) -> None:
    more = [S3Channel("a", "s3://bucket/a"), S3Channel("b", "s3://bucket/b/", sharded=True, streamed=False)]
    described = input_data_config(profile(mount), [], more)
    assert errors_of(described) == ""
    whole, part = (one["DataSource"]["S3DataSource"] for one in described)
    assert (whole["S3Uri"], whole["S3DataDistributionType"]) == ("s3://bucket/a/", "FullyReplicated")
    assert (part["S3Uri"], part["S3DataDistributionType"]) == ("s3://bucket/b/", "ShardedByS3Key")
    assert [one["InputMode"] for one in described] == ["FastFile", "File"]


def test_botocore_would_refuse_what_it_does_not_know() -> None:
    assert "Unknown parameter" in errors_of([{"ChannelName": "a", "DataSource": {"Fsx": {}}}])


def test_a_place_beside_the_file_system_is_refused(mount: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="not on the FSx file system"):
        input_data_config(profile(mount), [FileSystemChannel("run", tmp_path / "elsewhere")])


def test_a_profile_without_fsx_and_names_given_twice_are_refused(mount: Path) -> None:
    with pytest.raises(ContractError, match="kind: none"):
        input_data_config(parse_profile(PROFILE, Path("p.yaml"), {}), [])
    with pytest.raises(ContractError, match="different names"):
        input_data_config(profile(mount), [FileSystemChannel("a", mount), FileSystemChannel("a", mount)])
