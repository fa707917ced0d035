"""What ``orchestration.py`` measures in processes of their own, each with a place: ``tick``, ``load``, ``dagster``."""

import json
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

KNOWN, NEW, ROWS, TICKS, WINDOWS = 10_000, 200, 25, 30, 520
SENSOR = "slice_sensor"


def measure_tick(place: Path) -> dict[str, Any]:
    import dagster as dg
    import psutil

    from training_assets.definitions import build_defs
    from training_assets.stores.inbox import LocalInbox

    LocalInbox.settle = -1.0
    slices = place / "inbox" / "slices"
    (slices / "images").mkdir(parents=True)
    for number in range(ROWS):
        (slices / "images" / f"{number}.jpg").write_bytes(b"image")
    mine(slices, "known", KNOWN)
    process = psutil.Process()
    with dg.DagsterInstance.get() as instance:
        know(instance, LocalInbox(place / "inbox"))
        mark = LocalInbox(place / "inbox").slices()[-1].mark
        mine(slices, "new", NEW)
        defs = build_defs()
        repository = defs.get_repository_def()
        sensor = repository.get_sensor_def(SENSOR)

        def tick(cursor: str) -> tuple[float, int, str]:
            began = time.perf_counter()
            with dg.build_sensor_context(
                instance=instance,
                cursor=cursor,
                repository_def=repository,
                sensor_name=SENSOR,
                resources=defs.resources,
            ) as context:
                found = sensor.evaluate_tick(context)
            return time.perf_counter() - began, len(found.run_requests or ()), str(found.cursor)

        first, requested, after = tick(mark)
        assert requested == NEW, requested
        seconds, idle, memory = [], [], []
        for _ in range(TICKS):
            seconds.append(tick(mark)[0])
            idle.append(tick(after)[0])
            memory.append(process.memory_info().rss / 1e6)
    return {
        "what": f"{NEW} new slices of {ROWS} rows, {KNOWN} known ones; the same tick again and again",
        "first_s": round(first, 3),
        "seconds": {"median_s": round(statistics.median(seconds), 3), "max_s": round(max(seconds), 3)},
        "nothing_new": {"median_s": round(statistics.median(idle), 3), "max_s": round(max(idle), 3)},
        "memory": {
            "after_5_ticks_mb": round(memory[4], 1),
            f"after_{TICKS}_ticks_mb": round(memory[-1], 1),
            "growth_mb": round(memory[-1] - memory[4], 1),
        },
    }


def mine(slices: Path, name: str, count: int) -> None:
    rows = [row(number) for number in range(ROWS)]
    for number in range(count):
        text = "".join(json.dumps({**one, "sample_id": f"{name}{number}-{one['sample_id']}"}) + "\n" for one in rows)
        (slices / f"{name}-{number:05}.manifest").write_text(text)


def row(number: int) -> dict[str, Any]:
    return {
        "sample_id": str(number),
        "source-ref": f"images/{number}.jpg",
        "sha256": f"{number:064x}",
        "captured_at": "2026-01-12T12:00:00Z",
        "attributes": {"weather": "fog", "time_of_day": "night"},
        "boxes": [{"category": "car", "bbox": [10, 10, 20 + box, 20]} for box in range(4)],
        "licence": "CC0-1.0",
        "origin": "mined",
    }


def know(instance: Any, inbox: Any) -> None:
    """A partition and a finished run for each slice that is there."""
    import dagster as dg

    from trainer.contract.files import sha256_of

    names = [one.name for one in inbox.slices()]
    instance.add_dynamic_partitions("slices", names)
    for name in names:
        key = f"{name}@{sha256_of(inbox.root / 'slices' / f'{name}.manifest')}"
        tags = {"dagster/run_key": key, "dagster/sensor_name": SENSOR, "dagster/partition": name}
        run = dg.DagsterRun(job_name="slice_job", run_id=str(uuid4()), tags=tags, status=dg.DagsterRunStatus.SUCCESS)
        instance.add_run(run)


def measure_load(place: Path) -> dict[str, Any]:
    """Load as a code server does, with a profile of many windows, and list all partitions as the web page does."""
    from training_assets import profiles

    start = datetime.now(UTC).date() - timedelta(weeks=WINDOWS - 1)
    start -= timedelta(days=start.weekday())
    places = {"inbox": str(place / "inbox"), "store": str(place / "store"), "recipes": "recipes"}
    given = {**places, "launcher": "local", "windows": {"start": start}}
    many = profiles.parse_profile(given, place / "many.yaml", {})
    profiles.load_profile = lambda *_: many  # type: ignore[assignment]

    import dagster as dg
    from dagster._core.remote_representation.external_data import RepositorySnap

    from training_assets.definitions import defs

    RepositorySnap.from_def(defs.get_repository_def())
    graph = defs.resolve_asset_graph()
    with dg.DagsterInstance.get() as instance:
        found = {
            key: len(graph.get(dg.AssetKey(key)).partitions_def.get_partition_keys(dynamic_partitions_store=instance))
            for key in ("staged_shards", "mined_slice")
        }
    assert found == {"staged_shards": WINDOWS, "mined_slice": KNOWN}, found
    return found


def measure_dagster(place: Path) -> dict[str, Any]:
    """The same without anything of ours."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        return {"slices": len(instance.get_dynamic_partitions("slices"))}


if __name__ == "__main__":
    measured = {"tick": measure_tick, "load": measure_load, "dagster": measure_dagster}
    print(json.dumps(measured[sys.argv[1]](Path(sys.argv[2]))))
