"""The way back from a registered version to its frames, over real shard indexes on disk."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.contract.errors import ContractError
from trainer.contract.manifest import Row
from trainer.contract.shard_index import Member, ShardIndex, ShardSample
from training_assets.gates import GateResult, GateRow
from training_assets.lineage import as_dict, count, describe, frames
from training_assets.stores.entries import (
    DatasetLineage,
    Draft,
    Lineage,
    RegistryEntry,
    RunLineage,
    ShardRef,
    TrainingSetLineage,
)
from training_assets.stores.registry import Registry
from training_assets.stores.source import CodeVersion

KEYS = {"train": ("t1", "t2"), "val": ("v1",), "test": ("e1",)}


def rows(key: str) -> Iterator[Row]:
    for number in range(3):
        yield Row.model_validate(
            {
                "sample_id": f"{key}-{number}",
                "source-ref": f"images/{key}-{number}.png",
                "sha256": hashlib.sha256(f"{key}{number}".encode()).hexdigest(),
                "captured_at": f"2026-01-{10 + number}T12:00:00Z",
                "captured_at_source": "assigned" if key == "e1" else "recorded",
                "licence": "research only" if key == "t2" else "CC0-1.0",
                "origin": "camvid" if key == "t2" else "scenes",
            }
        )


def stage(store: Path, key: str) -> ShardRef:
    member = {"png": Member(offset=0, length=1)}
    samples = tuple(ShardSample(row=row, members=member) for row in rows(key))
    index = ShardIndex(key=key, sha256=hashlib.sha256(key.encode()).hexdigest(), bytes=1, samples=samples)
    (store / "shards").mkdir(parents=True, exist_ok=True)
    (store / "shards" / f"{key}.json").write_text(index.model_dump_json(by_alias=True))
    return ShardRef(key=key, sha256=index.sha256)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def entry(store: Path, tmp_path: Path) -> RegistryEntry:
    row = GateRow(metric="detection/AP50", value=0.4, limit=0.3, passed=True, verdict="passed", margin=0.1)
    shards = {split: tuple(stage(store, key) for key in keys) for split, keys in KEYS.items()}
    draft = Draft(
        project="scenes",
        recipe="scenes_multitask",
        lineage=Lineage(
            dataset=DatasetLineage(version="3f" * 32, dvc_hash="77.dir", manifests={"golden_train.manifest": "a" * 64}),
            training_set=TrainingSetLineage(
                digest="b" * 64, window="2026-01-12", windows=("2026-01-05", "2026-01-12"), shards=shards
            ),
            code=CodeVersion(git_sha="d" * 40, dirty=True, lock_sha256="e" * 64),
            run=RunLineage(
                run_id="ab12cd34",
                dagster_run_id="dagster-7",
                config={"seed": 42},
                config_digest="f" * 64,
                seeds=(42,),
                world_size=2,
            ),
        ),
        metrics={"test": {"detection/AP50": 0.4321, "detection/APl": None}},
        gates=(GateResult(name="targets_met", passed=True, severity="block", rows=(row,)),),
    )
    (tmp_path / "best.pt").write_bytes(b"weights")
    registry = Registry(store)
    entry = registry.register(draft, {"best.pt": tmp_path / "best.pt"})
    registry.promote("scenes", entry.version, by="ann", reason="better at night")
    return entry


def test_the_frames_are_those_of_the_shards_in_their_order(entry: RegistryEntry, store: Path) -> None:
    found = [(frame.split, frame.sample_id, frame.source_ref, frame.sha256) for frame in frames(entry, store)]
    assert found == [
        (split, row.sample_id, row.source_ref, row.sha256)
        for split, keys in KEYS.items()
        for key in keys
        for row in rows(key)
    ]


def test_frames_are_counted_by_split_origin_licence_and_capture_time(entry: RegistryEntry, store: Path) -> None:
    counts = count(frames(entry, store))
    assert counts.splits == {"train": 6, "val": 3, "test": 3}
    assert counts.origins == {"scenes": 9, "camvid": 3}
    assert counts.licences == {"CC0-1.0": 9, "research only": 3}
    assert counts.captured_at_sources == {"recorded": 9, "assigned": 3}
    assert (f"{counts.first:%d}", f"{counts.last:%d}") == ("10", "12")


def test_the_description_names_every_station_of_the_way_back(entry: RegistryEntry, store: Path) -> None:
    text = describe(entry, Registry(store))
    used = entry.lineage
    stations = [
        "scenes@1.0.0",
        entry.files["best.pt"].sha256,
        "production: – → 1.0.0 (now)",
        "better at night",
        "targets_met: passed, 1 of 1",
        "id ab12cd34, 2 ranks, seeds 42",
        used.run.config_digest,
        "dagster-7",
        "detection/AP50 0.4321, detection/APl –",
        f"commit {'d' * 40}, with uncommitted changes",
        "e" * 64,
        used.training_set.digest,
        "2026-01-05, 2026-01-12",
        *(f"{ref.key}  {ref.sha256}" for refs in used.training_set.shards.values() for ref in refs),
        f"{'3f' * 32}, DVC md5 77.dir",
        "golden_train.manifest  " + "a" * 64,
        "12 frames: train 6, val 3, test 3",
        "licences: CC0-1.0 9, research only 3",
        "train  t1-0  images/t1-0.png",
        "and 7 more",
    ]
    places = [text.find(station) for station in stations]
    assert -1 not in places, [station for station, place in zip(stations, places, strict=True) if place < 0]
    assert places == sorted(places)


def test_a_damaged_file_shows_in_the_description(entry: RegistryEntry, store: Path) -> None:
    assert "files are as they were registered" in describe(entry, Registry(store))
    damaged = Registry(store).file(entry, "best.pt")
    damaged.write_bytes(b"other")
    assert "DAMAGED" in describe(entry, Registry(store))


def test_a_shard_that_is_gone_or_another_is_named_and_the_rest_is_still_told(entry: RegistryEntry, store: Path) -> None:
    (store / "shards" / "t1.json").unlink()
    other = (store / "shards" / "v1.json").read_text().replace(hashlib.sha256(b"v1").hexdigest(), "0" * 64)
    (store / "shards" / "v1.json").write_text(other)
    text = describe(entry, Registry(store))
    assert "6 frames: train 3, test 3" in text
    assert "shard t1 is no longer staged" in text
    assert "shard v1 is no longer staged" in text
    assert as_dict(entry, Registry(store))["shards_not_staged"] == ["t1", "v1"]
    with pytest.raises(ContractError, match=r"t1\.json: found nothing, expected the index of a shard"):
        list(frames(entry, store))


def test_the_dictionary_is_json_and_holds_the_whole_entry(entry: RegistryEntry, store: Path) -> None:
    value = json.loads(json.dumps(as_dict(entry, Registry(store)), allow_nan=False))
    assert value["aliases"] == ["production"]
    assert value["frames"]["splits"] == {"train": 6, "val": 3, "test": 3}
    kept = {name: value[name] for name in RegistryEntry.model_fields}
    assert RegistryEntry.model_validate(kept) == entry


def test_a_version_that_production_left_says_so(entry: RegistryEntry, store: Path, tmp_path: Path) -> None:
    (tmp_path / "next.pt").write_bytes(b"next")
    registry = Registry(store)
    draft = Draft(**{name: getattr(entry, name) for name in Draft.model_fields})
    registry.register(draft, {"best.pt": tmp_path / "next.pt"})
    registry.promote("scenes", "1.1.0", by="ben")
    text = describe(entry, Registry(store))
    assert "production: 1.0.0 → 1.1.0," in text
    assert "(now)" not in text
    assert as_dict(entry, Registry(store))["aliases"] == []
