"""CloudWatch: what it gets, how often, and that nothing comes of its being away."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.emulators.ministack import ministack
from trainer.contract.attempts import Heartbeat
from training_assets.observability import CloudWatchMetrics, Labels, Observer, SweepLabels, observer_of
from training_assets.observability.figures import Figures
from training_assets.profiles import parse_profile
from training_assets.profiles.watching import Watch

ALL = Figures(0.0, step=120, samples_per_second=250.0, gpu_utilisation=93.0, loss=0.25, cost_usd=1.5)
METRICS = ["cost_usd", "gpu_utilisation", "loss", "progress_steps", "samples_per_second"]
PROFILE = {"inbox": "d", "store": "s", "recipes": "r", "launcher": "local", "windows": {"start": "2024-01-01"}}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack(tmp_path_factory.mktemp("ministack")) as url:
        yield url


@pytest.fixture(params=["moto", pytest.param("ministack", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest, s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The real client reaches one of the two; what it put is there for a test of its own labels."""
    if request.param == "ministack":
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("stack"))
    return str(request.param)


@pytest.fixture
def labels(request: pytest.FixtureRequest) -> Labels:
    return Labels("scenes", "scenes_multitask", request.node.name)


def dimensions(labels: Labels) -> list[dict[str, str]]:
    return [{"Name": name, "Value": getattr(labels, name)} for name in ("project", "recipe", "run")]


def maximum(metric: str, labels: list[dict[str, str]], at: datetime) -> tuple[float, str]:
    asked = {"Namespace": "TrainingAssets", "MetricName": metric, "Dimensions": labels, "Period": 60}
    window = {"StartTime": at - timedelta(minutes=2), "EndTime": at + timedelta(minutes=2)}
    points = boto3.client("cloudwatch").get_metric_statistics(**asked, **window, Statistics=["Maximum"])["Datapoints"]
    (point,) = points
    return point["Maximum"], point["Unit"]


def test_what_a_sweep_has_used_of_its_budget_is_a_metric_of_the_project_and_of_the_sweep(
    server: str, request: pytest.FixtureRequest
) -> None:
    said: list[str] = []
    now, sweep = datetime.now(UTC), SweepLabels("scenes", "scenes_multitask", request.node.name)
    CloudWatchMetrics("TrainingAssets", said.append).publish_budget(now.timestamp(), sweep, 0.75, 15.0)
    assert not said
    own = [{"Name": name, "Value": getattr(sweep, name)} for name in ("project", "recipe", "sweep")]
    assert maximum("sweep_budget_used", own, now) == (0.75, "None")
    assert maximum("sweep_cost_usd", own, now) == (15.0, "None")


def test_every_figure_is_a_metric_of_the_project_and_of_the_run(server: str, labels: Labels) -> None:
    said: list[str] = []
    now = datetime.now(UTC)
    figures = Figures(**{**ALL.__dict__, "at": now.timestamp()})
    CloudWatchMetrics("TrainingAssets", said.append).publish(now.timestamp(), labels, figures)
    assert not said
    listed = boto3.client("cloudwatch").list_metrics(Namespace="TrainingAssets", Dimensions=dimensions(labels)[2:])
    assert sorted(one["MetricName"] for one in listed["Metrics"]) == METRICS
    for whose in (dimensions(labels), dimensions(labels)[:1]):
        assert maximum("samples_per_second", whose, now) == (250.0, "Count/Second")
    assert maximum("gpu_utilisation", dimensions(labels), now) == (93.0, "Percent")


@pytest.mark.slow
def test_an_alarm_on_idle_gpus_goes_off_and_falls_silent(
    stack: str, s3: str, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", stack)
    client, said = boto3.client("cloudwatch"), []
    client.put_metric_alarm(
        AlarmName="idle",
        Namespace="Alarmed",
        MetricName="gpu_utilisation",
        Dimensions=dimensions(labels)[:1],
        Statistic="Average",
        Period=60,
        EvaluationPeriods=10,
        Threshold=10.0,
        ComparisonOperator="LessThanThreshold",
    )

    def state_after(gpu: float, minutes: range) -> str:
        now = datetime.now(UTC).timestamp()
        metrics = CloudWatchMetrics("Alarmed", said.append)
        for minute in minutes:
            at = now - 60.5 * minute  # a little more than a minute apart, all within ten
            metrics.publish(at, labels, Figures(at, gpu_utilisation=gpu))
        return str(client.describe_alarms(AlarmNames=["idle"])["MetricAlarms"][0]["StateValue"])

    assert state_after(3.0, range(9, -1, -1)) == "ALARM"
    assert state_after(99.0, range(9, -1, -1)) == "OK"
    assert not said


class Counting(CloudWatchMetrics):
    """Keeps what it would have sent."""

    def __init__(self) -> None:
        super().__init__("TrainingAssets", print)
        self.calls: list[list[dict[str, Any]]] = []
        self.__dict__["_client"] = self

    def put_metric_data(self, Namespace: str, MetricData: list[dict[str, Any]]) -> None:
        self.calls.append(MetricData)


def test_it_is_asked_once_a_minute_however_often_it_is_told() -> None:
    metrics, labels = Counting(), Labels("p", "r", "1")
    for tick in range(0, 3000):
        metrics.publish(tick / 10, labels, ALL)
    assert len(metrics.calls) == 5
    assert all(len(call) == 10 for call in metrics.calls)


def test_a_hundred_runs_of_one_process_share_their_calls() -> None:
    metrics = Counting()
    runs = [Labels("p", "r", str(number)) for number in range(150)]
    for second in range(0, 301, 5):
        for run in runs:
            metrics.publish(float(second), run, ALL)
    assert len(metrics.calls) <= 2 * 6
    assert max(map(len, metrics.calls)) <= 1000


@pytest.mark.slow
def test_a_cloudwatch_that_is_away_is_told_of_once_and_stops_nothing(
    s3: str, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    said: list[str] = []
    metrics = CloudWatchMetrics("TrainingAssets", said.append)
    for minute in range(3):
        metrics.publish(60.0 * minute, labels, ALL)
    assert len(said) == 1
    assert "EndpointConnectionError" in said[0]


def test_an_observer_publishes_and_names_the_limit(tmp_path: Path) -> None:
    metrics, attempt = Counting(), tmp_path / "run" / "attempts" / "a"
    observer = Observer(attempt, Labels("p", "r", "1"), 8, Watch(max_cost_usd=2.0), print, metrics)
    heart = Heartbeat(attempt, 0)
    for second in range(0, 121, 5):
        heart.beat(second, second)
        assert observer.poll(float(second), cost_usd=second / 100) is None
    assert len(metrics.calls) == 3
    sent = {datum["MetricName"]: datum["Value"] for datum in metrics.calls[-1]}
    assert sent == {"progress_steps": 120.0, "samples_per_second": 8.0, "cost_usd": 1.2}
    trip = observer.poll(121.0, cost_usd=2.01)
    assert trip is not None
    assert trip.limit == "max_cost_usd"


def test_files_that_cannot_be_read_are_told_of_and_money_is_watched_all_the_same(tmp_path: Path) -> None:
    attempt, said = tmp_path / "run" / "attempts" / "a", []
    (attempt / "heartbeat-x").mkdir(parents=True)
    observer = Observer(attempt, Labels("p", "r", "1"), 8, Watch(max_cost_usd=2.0), said.append)
    assert observer.poll(0.0, 1.0) is None
    assert observer.poll(60.0, 3.0) is not None
    assert len(said) == 1


def test_a_profile_that_asks_for_nothing_has_no_observer(tmp_path: Path) -> None:
    def made(**more: object) -> Observer | None:
        profile = parse_profile({**PROFILE, **more}, Path("p.yaml"), {})
        return observer_of(profile, tmp_path, Labels("p", "r", "1"), 8, print)

    assert made() is None
    watching, publishing = made(watch={"max_cost_usd": 5}), made(cloudwatch={"namespace": "Mine"})
    assert watching is not None
    assert watching.metrics is None
    assert publishing is not None
    assert publishing.metrics is not None
    assert publishing.metrics.namespace == "Mine"
