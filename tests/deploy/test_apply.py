"""What Terraform makes on the emulator works: alarms fire, events arrive and are acted on once. Then it is gone."""

import importlib.util
import json
import time
import types
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from tests.deploy.conftest import ANYBODY, CREDENTIALS, DEPLOY, Terraform
from training_assets.stores.event_types import ModelRegistered
from training_assets.stores.sinks import EventBridge

pytestmark = pytest.mark.slow

VARIABLES = {
    "region": "us-east-1",
    "zones": '["us-east-1a","us-east-1b"]',
    "projects": '{"scenes":{"run_cap_usd":200,"stalled_minutes":3}}',
    "monthly_budget_usd": "3000",
    "file_system": "null",
    "destroyable": "true",
}
# Not what the emulator cannot make or take away (secrets of databases, groups of instances), and not the buckets' life
# cycles, which the provider watches for a minute.
TARGETS = [
    "module.network",
    "module.observability",
    "module.ecs.aws_ecs_cluster.this",
    "module.ecs.aws_launch_template.pool",
    "module.data.aws_ecr_repository.this",
    "module.data.aws_s3_bucket_policy.this",
]
EVENT = ModelRegistered(
    id="5d0c" * 16, at=datetime(2026, 3, 2, 8, tzinfo=UTC), message="scenes@1.0.0 is registered", project="scenes",
    recipe="scenes_multitask", window="2026-02-23", run_id="ab12cd34", checkpoint_sha256="9f86" * 16, version="1.0.0",
    aliases=(), metrics={},
)  # fmt: skip


class Made:
    """What was applied: clients of the emulator, and the state."""

    def __init__(self, address: str, resources: dict[str, dict[str, Any]]) -> None:
        self.address, self.resources = address, resources

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.address, **CREDENTIALS)

    def find(self, address: str) -> dict[str, Any]:
        return self.resources[address]


@pytest.fixture(scope="module")
def made(ministack: str, terraform: Terraform) -> Iterator[Made]:
    root = terraform.root("ecs")
    chosen = ["-auto-approve", "-input=false", "-no-color", *(f"-var={k}={v}" for k, v in VARIABLES.items())]
    targets = [f"-target={target}" for target in TARGETS]
    terraform.must(root, "apply", *chosen, *targets, AWS_ENDPOINT_URL=ministack)
    state = json.loads(terraform.must(root, "show", "-json"))
    made = Made(
        ministack,
        {r["address"]: r["values"] for m in state["values"]["root_module"]["child_modules"] for r in m["resources"]},
    )
    yield made
    # The emulator forgets a field of a rule: what it would be asked for again stays out of it.
    terraform.must(root, "destroy", "-refresh=false", *chosen, AWS_ENDPOINT_URL=ministack)
    assert terraform.must(root, "state", "list") == ""
    vpcs = made.client("ec2").describe_vpcs()["Vpcs"]
    assert made.find("module.network.aws_vpc.this")["id"] not in {vpc["VpcId"] for vpc in vpcs}


@pytest.fixture(scope="module")
def told(made: Made) -> str:
    """The address of a queue that gets what the topic tells people."""
    sqs = made.client("sqs")
    queue = str(sqs.create_queue(QueueName="people")["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = made.find("module.observability.aws_sns_topic.alarms")["arn"]
    made.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    return queue


def eventually(what: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert found, "it did not happen in time"
    return found


def taken(made: Made, queue: str) -> list[str]:
    """All messages of a queue, which are then gone."""
    sqs, bodies = made.client("sqs"), []
    while found := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
        for message in found:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            bodies.append(message["Body"])
    return bodies


def measure(made: Made, metric: str, values: list[float]) -> None:
    """A value for each of the last minutes, as the publisher of one run sends them."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    data = [
        {
            "MetricName": metric,
            "Dimensions": [{"Name": "project", "Value": "scenes"}],
            "Value": value,
            "Timestamp": now - timedelta(minutes=age),
        }
        for age, value in enumerate(reversed(values))
    ]
    made.client("cloudwatch").put_metric_data(Namespace="TrainingAssets", MetricData=data)


def state(made: Made, alarm: str) -> str:
    (found,) = made.client("cloudwatch").describe_alarms(AlarmNames=[f"training-assets-scenes-{alarm}"])["MetricAlarms"]
    return str(found["StateValue"])


def test_a_run_above_its_cap_is_told_to_people(made: Made, told: str) -> None:
    measure(made, "cost_usd", [150.0])
    measure(made, "cost_usd", [201.0])
    eventually(lambda: state(made, "spend") == "ALARM", 90)
    assert [body for body in eventually(lambda: taken(made, told)) if "training-assets-scenes-spend" in body]


def test_an_idle_run_does_not_hide_behind_a_busy_one(made: Made) -> None:
    measure(made, "gpu_utilisation", [95.0] * 12)
    measure(made, "gpu_utilisation", [3.0] * 12)
    eventually(lambda: state(made, "gpu-idle") == "ALARM", 90)


def test_an_event_reaches_the_queue_and_the_state_machine_acts_on_it_once(
    made: Made, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = made.find("module.observability.aws_sqs_queue.events")["url"]
    machine = made.find("module.observability.aws_sfn_state_machine.events")["arn"]
    for name, value in {**ANYBODY, "AWS_ENDPOINT_URL": made.address}.items():
        monkeypatch.setenv(name, value)
    bus = EventBridge("training-assets", "training-assets")
    taken(made, told)
    states = made.client("stepfunctions")

    def ended(count: int) -> list[str]:
        found = [e["status"] for e in states.list_executions(stateMachineArn=machine)["executions"]]
        return found if len(found) == count and "RUNNING" not in found else []

    bus.send(EVENT)
    eventually(lambda: ended(1))
    bus.send(EVENT)
    assert eventually(lambda: ended(2)) == ["SUCCEEDED", "SUCCEEDED"]
    messages = taken(made, told)
    assert len([body for body in messages if EVENT.message in body]) == 1
    wanted = [routing().request(body) for body in taken(made, queue)]
    assert [w and (w["trigger_dag_id"], w["trigger_run_id"]) for w in wanted] == [START, START]


START = ("evaluate_and_simulate", f"training-assets-{EVENT.id}")


def routing() -> types.ModuleType:
    """The part of the example for Airflow that needs no Airflow."""
    spec = importlib.util.spec_from_file_location("routing", DEPLOY / "examples" / "airflow" / "routing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
