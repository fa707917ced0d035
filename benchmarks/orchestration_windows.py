"""What windows cost: a manifest of a million rows checked and split, and a backfill that stages each frame once.

``manifest_million_rows``: a delivery whose train split has a million rows is validated (images aside) and its rows are
written by window, in a fresh process on one core; beside it ``pandas.read_json(lines=True)`` of the same file, which
only parses. ``backfill``: 26 windows, a recipe that looks back on 8: one staging run and 26 training sets through
Dagster, beside staging the rows of every training set afresh, without Dagster.

Both are called by ``orchestration.py``, which keeps the figures; run alone, this prints them.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from common import ROOT

ROWS = 1_000_000
ROW_SECONDS, ROW_MEGABYTES = 20.0, 1500.0
WINDOWS, LOOK_BACK = 26, 8
FRAMES = 64
"""Of each window in the backfill, about 60 kB each."""
START = datetime(2025, 6, 30, tzinfo=UTC)
WINDOW_NAMES = [(START + timedelta(weeks=week)).date().isoformat() for week in range(WINDOWS)]
SLICES = {"labels": {"boxes": ["car", "pedestrian"]}, "slices": []}
RECIPE = {
    "name": "bench",
    "project": "bench",
    "window": {"count": LOOK_BACK, "min_samples": 1},
    "data": {"image_size": [64, 64]},
    "tasks": {"detection": {"classes": ["car", "pedestrian"]}},
    "training": {"epochs": 1, "monitor": "detection/AP50"},
}


def manifest_million_rows(rows: int = ROWS) -> dict[str, Any]:
    """Seconds and peak memory of the check, and of pandas' reading; ``ok`` when both are within what is asked."""
    with tempfile.TemporaryDirectory() as folder:
        delivery = write_rows(Path(folder) / "delivery", rows)
        ours = in_fresh_process("split", delivery)
        pandas = in_fresh_process("pandas", delivery)
        size = (delivery / "golden_train.manifest").stat().st_size
    return {
        "manifest_million_rows_s": ours["seconds"],
        "manifest_million_rows_peak_mb": ours["peak_mb"],
        "rows": rows,
        "windows": ours["windows"],
        "manifest_bytes": size,
        "pandas_read_json_s": pandas["seconds"],
        "pandas_read_json_peak_mb": pandas["peak_mb"],
        "ok": ours["seconds"] <= ROW_SECONDS and ours["peak_mb"] <= ROW_MEGABYTES,
    }


def write_rows(root: Path, count: int) -> Path:
    """A delivery of ``count`` train rows over 26 weeks without its images: boxes, a mask, attributes, as in README."""
    root.mkdir(parents=True)
    chance = random.Random(0)  # noqa: S311
    for split, rows in (("train", count), ("val", 100), ("test", 100)):
        with open(root / f"golden_{split}.manifest", "w", encoding="utf-8") as manifest:
            for number in range(rows):
                at = START + timedelta(weeks=WINDOWS) * (number / rows)
                manifest.write(json.dumps(row(split, number, at, chance)) + "\n")
    (root / "slices.yaml").write_text(yaml.safe_dump(SLICES))
    return root


def row(split: str, number: int, captured_at: datetime, chance: random.Random) -> dict[str, Any]:
    name = f"{split}-drive{number // 1000:05d}-{number % 1000:06d}"
    boxes = [
        {"category": category, "bbox": [round(chance.uniform(0, 1000), 1) for _ in range(2)] + [96.0, 54.0]}
        for category in ("car", "pedestrian")
    ]
    return {
        "sample_id": name,
        "source-ref": f"images/{name}.jpg",
        "sha256": hashlib.sha256(name.encode()).hexdigest(),
        "captured_at": captured_at.isoformat(),
        "attributes": {"weather": chance.choice(("clear", "rain", "fog")), "time_of_day": "day"},
        "boxes": boxes,
        "semantic-ref": f"masks/{name}.png",
        "semantic-sha256": hashlib.sha256(f"mask {name}".encode()).hexdigest(),
        "licence": "CC-BY-4.0",
        "origin": "fleet_a",
    }


def in_fresh_process(task: str, delivery: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, task, str(delivery)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def on_one_core(work: Callable[[], int]) -> None:
    """Do ``work``, whose modules are imported; prints its seconds, what it gives, and the process's peak memory."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    began = time.perf_counter()
    windows = work()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps({"seconds": round(seconds, 2), "peak_mb": round(peak, 1), "windows": windows}))


def split(delivery: Path) -> None:
    from trainer.contract.delivery import DeliveryReader
    from trainer.contract.pinned import RowWriter

    def work() -> int:
        with tempfile.TemporaryDirectory() as folder:
            writer = RowWriter(Path(folder) / "scratch", "weekly")
            for sample in DeliveryReader(delivery, check_images=False):
                writer.add(sample)
            return len(writer.finish(Path(folder) / "version"))

    on_one_core(work)


def pandas(delivery: Path) -> None:
    import pandas as pd

    on_one_core(lambda: len(pd.read_json(delivery / "golden_train.manifest", lines=True)))


def backfill(frames: int = FRAMES) -> dict[str, Any]:
    """``backfill_bytes_ratio``: bytes of frames in the shards that were written, over those of the distinct frames.

    Seconds of the staging run and of the whole backfill; ``afresh_s``: of staging each training set's rows anew.
    """
    import dagster as dg

    from training_assets.definitions import build_defs
    from training_assets.places import Places
    from training_assets.refresh import Refresher

    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.local_temp(folder) as instance:
        profile = place(Path(folder), frames)
        refresher = Refresher(build_defs(profile=profile), instance)
        succeed(refresher.run("dataset_job", [dg.AssetKey("dataset_version"), dg.AssetKey("eval_shards")]))
        judged = written(Places(profile.store))
        began = time.perf_counter()
        succeed(refresher.run("staging_job", [dg.AssetKey("staged_shards")], WINDOW_NAMES))
        staged = time.perf_counter()
        for name in WINDOW_NAMES:
            succeed(refresher.run("bench_job", [dg.AssetKey(["bench", "training_set"])], [name]))
        ended = time.perf_counter()
        delivery, places = Path(profile.inbox) / "drop", Places(profile.store)
        ours, distinct = written(places) - judged, sum(path.stat().st_size for path in delivery.glob("images/train*"))
        return {
            "backfill_bytes_ratio": ours / distinct,
            "windows": WINDOWS,
            "look_back": LOOK_BACK,
            "frames": WINDOWS * frames,
            "backfill_s": round(ended - began, 2),
            "staging_run_s": round(staged - began, 2),
            "frame_bytes": ours,
            **staged_afresh(delivery, places, Path(folder) / "afresh"),
            "ok": ours == distinct,
        }


def place(folder: Path, frames: int) -> Any:
    """A profile with one delivery in its inbox, and a recipe that looks back on ``LOOK_BACK`` windows."""
    from training_assets.profiles import Profile

    write_frames(folder / "inbox" / "drop", frames)
    (folder / "recipes").mkdir()
    (folder / "recipes" / "bench.yaml").write_text(yaml.safe_dump(RECIPE))
    return Profile.model_validate(
        {
            "name": "benchmark",
            "inbox": str(folder / "inbox"),
            "store": folder / "store",
            "recipes": folder / "recipes",
            "launcher": "local",
            "windows": {"start": START.date()},
        }
    )


def write_frames(root: Path, frames: int) -> None:
    """``frames`` noisy images of about 60 kB for each window, as many again for val and test together."""
    import cv2
    import numpy as np

    (root / "images").mkdir(parents=True)
    noise, chance = np.random.default_rng(0), random.Random(0)  # noqa: S311
    for split, count in (("train", WINDOWS * frames), ("val", frames // 2), ("test", frames // 2)):
        rows = []
        for number in range(count):
            at = START + timedelta(weeks=WINDOWS) * (number / count)
            one = row(split, number, at, chance)
            picture = noise.integers(0, 255, (180, 320, 3), dtype=np.uint8)
            content = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 80))[1].tobytes()
            (root / one["source-ref"]).write_bytes(content)
            one = {key: value for key, value in one.items() if not key.startswith("semantic")}
            boxes = [{"category": "car", "bbox": [10.0, 10.0, 96.0, 54.0]}]
            rows.append({**one, "boxes": boxes, "sha256": hashlib.sha256(content).hexdigest()})
        (root / f"golden_{split}.manifest").write_text("".join(json.dumps(one) + "\n" for one in rows))
    (root / "slices.yaml").write_text(yaml.safe_dump(SLICES))
    (root / "_SUCCESS").touch()


def succeed(result: Any) -> None:
    from training_assets.failures import failures_of

    if not result.success:
        raise SystemExit("\n".join(failures_of(result.all_events)))


def written(places: Any) -> int:
    """Bytes of frames in all shards of the store."""
    from trainer.contract.shard_index import read_members

    samples = (one for path in places.shards.glob("*.json") for one in read_members(path))
    return sum(members["jpg"].length for members in samples)


def staged_afresh(delivery: Path, places: Any, out: Path) -> dict[str, Any]:
    """Stage the rows of each training set into a directory of its own, in this process, without Dagster."""
    from trainer.contract.manifest import read_manifest
    from trainer.contract.pinned import window_manifest
    from trainer.data.shards import stage
    from training_assets.stores.record_store import RecordStore

    directory = places.absolute(RecordStore(places).dataset().directory)
    seconds, copied = 0.0, 0
    for place in range(WINDOWS):
        names = WINDOW_NAMES[max(0, place + 1 - LOOK_BACK) : place + 1]
        began = time.perf_counter()
        rows = [row for name in names for _, row in read_manifest(window_manifest(directory, name), [])]
        copied += sum(shard.head.bytes for shard in stage(rows, delivery, out))
        seconds += time.perf_counter() - began
        shutil.rmtree(out)
    return {"afresh_s": round(seconds, 2), "afresh_bytes": copied}


def main() -> int:
    tasks = {"split": split, "pandas": pandas}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each window in the backfill")
    parser.add_argument("task", nargs="?", choices=sorted(tasks), help=argparse.SUPPRESS)
    parser.add_argument("delivery", nargs="?", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        tasks[arguments.task](arguments.delivery)
        return 0
    found = {"manifest": manifest_million_rows(arguments.rows), "backfill": backfill(arguments.frames)}
    print(json.dumps(found, indent=2))
    return 0 if all(part["ok"] for part in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
