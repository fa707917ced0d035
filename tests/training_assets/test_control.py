"""Requests for runs: tags, run keys and configuration, the same whoever asks."""

import dagster as dg
import pytest

from training_assets.control import (
    PRIORITIES,
    Plan,
    delivery_request,
    plan_tags,
    plans_of,
    run_tags,
    staging_request,
    training_request,
)

PLAIN = Plan(recipe="tiny", window="2026-01-12", cause="delivery", because="delivery drop-07")
FULL = Plan(
    recipe="other",
    window="2026-01-12",
    cause="slice",
    because="slice fog below target",
    overrides=("optim.lr=1e-4",),
    warm_start="production",
    dataset="3f" * 32,
    slices=("fog",),
    profile="local",
)


def test_a_manual_run_goes_before_a_slices_before_a_deliverys_before_the_schedules_and_backfills_last() -> None:
    ordered = sorted(PRIORITIES, key=lambda cause: -PRIORITIES[cause])
    assert ordered == ["manual", "slice", "delivery", "nightly", "weekly", "sweep", "backfill"]
    assert run_tags("manual", "engineer")["dagster/priority"] == "30"


def test_plans_come_back_from_the_tags_of_the_run_that_carries_them() -> None:
    request = staging_request([PLAIN, FULL], ["2026-01-05", "2026-01-12"], "run-1")
    assert plans_of(request.tags) == [FULL, PLAIN]
    assert request.tags["dagster/asset_partition_range_start"] == "2026-01-05"
    assert request.tags["dagster/asset_partition_range_end"] == "2026-01-12"
    assert (request.job_name, request.run_key) == ("staging_job", "run-1")


def test_the_tag_of_a_plan_is_short_enough_for_an_index_of_postgresql() -> None:
    many = FULL.model_copy(update={"recipe": "r" * 48, "slices": tuple(f"slice_{n:03}" for n in range(100))})
    ((key, value),) = plan_tags([many]).items()
    assert len(key.partition("/")[2]) <= 63
    assert len(value) < 2700


def test_a_plain_plan_configures_nothing_and_another_just_what_it_asks_for() -> None:
    assert training_request(PLAIN).run_config == {}
    assert training_request(FULL, "key").run_config == {
        "ops": {
            "other__training_set": {"config": {"dataset": "3f" * 32, "slices": ["fog"]}},
            "other__checkpoint": {
                "config": {"overrides": ["optim.lr=1e-4"], "warm_start": "production", "profile": "local"}
            },
        }
    }
    assert training_request(FULL).partition_key == "2026-01-12"


def test_a_delivery_is_named_in_its_run_and_known_by_its_digest() -> None:
    request = delivery_request("drop-07", "d" * 64, ["dataset_version"])
    assert request.run_key == "d" * 64
    assert request.tags["training_assets/delivery"] == "drop-07"
    assert request.run_config["ops"]["dataset_version"]["config"] == {"delivery": "drop-07"}


@pytest.mark.parametrize("because", ["x" * 1000, "slice 'fog | night'\nis below target"])
def test_any_reason_makes_tags_that_dagster_takes(because: str) -> None:
    assert dg.RunRequest(tags=run_tags("slice", because)).tags["training_assets/because"] == because[:200]
