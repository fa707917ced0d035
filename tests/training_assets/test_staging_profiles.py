"""The fields ``staging``, ``cloudwatch`` and ``watch`` of a profile: what they accept, and what they refuse."""

from pathlib import Path
from typing import Any

import pytest

from trainer.contract.errors import ContractError
from training_assets.places import Places
from training_assets.profiles import Profile, load_profile, parse_profile
from training_assets.profiles.staging import FsxStaging, NoStaging
from training_assets.profiles.watching import Watch
from training_assets.stores.dvc import DvcStore
from training_assets.stores.fast_storage import InPlace, fast_storage_of
from training_assets.stores.fast_storage.base import StagingError
from training_assets.stores.fast_storage.datasync import DataSync
from training_assets.stores.fast_storage.fsx import Fsx
from training_assets.stores.fast_storage.pulled import PulledWithDvc

GOOD = {"inbox": "d", "store": "s", "recipes": "r", "launcher": "local", "windows": {"start": "2024-01-01"}}
INBOX = {"directory": "/fsx/inbox", "uri": "s3://bucket/inbox/"}
FSX = {"kind": "fsx", "file_system_id": "fs-0123456789abcdef0", "links": [INBOX]}
TASK = {**INBOX, "task_arn": "arn:aws:datasync:eu-central-1:123456789012:task/task-0123456789abcdef0"}


def profile(**more: Any) -> Profile:
    return parse_profile({**GOOD, **more}, Path("p.yaml"), {})


def test_the_default_stages_nothing_tells_nothing_and_limits_nothing() -> None:
    plain = load_profile("local", {})
    assert (plain.staging, plain.cloudwatch, plain.watch) == (NoStaging(), None, Watch())


@pytest.mark.parametrize(
    ("staging", "kind"),
    [
        ({"kind": "none"}, InPlace),
        (FSX, Fsx),
        ({"kind": "datasync", "inbound": TASK}, DataSync),
        ({"kind": "dvc"}, PulledWithDvc),
    ],
)
def test_each_kind_has_its_storage_and_reaches_nothing_yet(staging: dict, kind: type, tmp_path: Path) -> None:
    made = fast_storage_of(profile(staging=staging), Places(tmp_path), DvcStore(tmp_path))
    assert isinstance(made, kind)


def test_a_link_gives_each_uri_its_place_and_each_place_its_uri() -> None:
    staging = profile(staging=FSX).staging
    assert isinstance(staging, FsxStaging)
    (link,) = staging.links
    assert link.uri == "s3://bucket/inbox"
    assert link.place_of("s3://bucket/inbox/d1/") == Path("/fsx/inbox/d1")
    assert link.uri_of(Path("/fsx/inbox/d1")) == "s3://bucket/inbox/d1"
    assert staging.relative(Path("/fsx/inbox/d1")) == "inbox/d1"
    assert staging.relative(Path("/fsx")) == "/"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "nfs"}, "'staging'"),
        ({"file_system_id": "fsx"}, "file_system_id"),
        ({"links": []}, "links"),
        ({"links": [{**INBOX, "directory": "inbox"}]}, "an absolute path"),
        ({"links": [{**INBOX, "directory": "/fsx/../etc"}]}, "without '..'"),
        ({"links": [{**INBOX, "directory": "/other/inbox"}]}, "not below the mount point"),
        ({"links": [{**INBOX, "uri": "gs://bucket/inbox"}]}, "uri"),
        ({"links": [INBOX, {"directory": "/fsx/inbox/a", "uri": "s3://bucket/a"}]}, "directories of two links overlap"),
        ({"links": [INBOX, {"directory": "/fsx/a", "uri": "s3://bucket/inbox/a"}]}, "URIs of two links overlap"),
        ({"links": [{"directory": f"/fsx/{n}", "uri": f"s3://bucket/{n}"} for n in range(9)]}, "at most 8"),
        ({"region": "eu"}, "no field of this name"),
    ],
)
def test_what_fsx_would_refuse_is_refused_before_anything_runs(change: dict, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        profile(staging={**FSX, **change})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cloudwatch": {"namespace": "AWS/EC2"}}, "AWS/"),
        ({"watch": {"max_cost_usd": 0}}, "max_cost_usd"),
        ({"watch": {"idle_gpu_minutes": -1}}, "idle_gpu_minutes"),
        ({"watch": {"max_cost": 5}}, "no field of this name"),
    ],
)
def test_limits_and_names_that_cannot_be_meant_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        profile(**fields)


def test_in_place_brings_and_exports_nothing(tmp_path: Path) -> None:
    storage = InPlace()
    assert not storage.brings("s3://bucket/inbox/d1")
    assert storage.export(tmp_path) is None
    storage.release(1)
    with pytest.raises(StagingError, match="a kind that brings"):
        storage.bring("s3://bucket/inbox/d1")
