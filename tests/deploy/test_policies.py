"""Each role may do what it needs and nothing else: the policies as Terraform attached them, asked action by action."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.deploy.conftest import CREDENTIALS, EMULATORS, Terraform

pytestmark = pytest.mark.slow

HERE = "us-east-1:123456789012"
ROLE = "arn:aws:iam::123456789012:role"
DATA, ARCHIVE, LOGS, OTHER = (f"arn:aws:s3:::training-assets-{kind}" for kind in ("data", "archive", "logs", "others"))
KEY, OTHER_KEY = (f"arn:aws:kms:{HERE}:key/{name}" for name in ("ours", "theirs"))
TRAINER_IMAGES, DAGSTER_IMAGES, OTHER_IMAGES = (
    f"arn:aws:ecr:{HERE}:repository/{name}" for name in ("training-assets/trainer", "training-assets/dagster", "web")
)
BUS, OTHER_BUS = (f"arn:aws:events:{HERE}:event-bus/{name}" for name in ("training-assets", "default"))
FILES = f"arn:aws:fsx:{HERE}:file-system/fs-1"
TRANSFER = f"arn:aws:datasync:{HERE}:task/task-1"
SECRET, OTHER_SECRET = (
    f"arn:aws:secretsmanager:{HERE}:secret:{name}" for name in ("training-assets/wandb-a1", "web-b2")
)
DATABASE_SECRET = f"arn:aws:secretsmanager:{HERE}:secret:rds!db-1"
OUR_LOGS, OTHER_LOGS = (f"arn:aws:logs:{HERE}:log-group:/{name}" for name in ("training-assets/trainer", "web"))
SAGEMAKER_LOGS = f"arn:aws:logs:{HERE}:log-group:/aws/sagemaker/TrainingJobs"
CLUSTER, OTHER_CLUSTER = (f"arn:aws:ecs:{HERE}:cluster/{name}" for name in ("training-assets", "web"))
TASK, OTHER_TASK = (f"arn:aws:ecs:{HERE}:task/{name}/1" for name in ("training-assets", "web"))
DEFINITION, OTHER_DEFINITION = (
    f"arn:aws:ecs:{HERE}:task-definition/{name}:3" for name in ("training-assets-trainer", "web")
)
JOB, OTHER_JOB = (f"arn:aws:sagemaker:{HERE}:training-job/{name}" for name in ("training-assets-ab12cd34-a0", "web"))
PACKAGES, OTHER_PACKAGES = (
    f"arn:aws:sagemaker:{HERE}:model-package-group/{name}" for name in ("training-assets-scenes", "web")
)
OUR_NETWORK = {"sagemaker:VpcSubnets": ["subnet-1"], "sagemaker:VpcSecurityGroupIds": ["sg-1"]}

CALL = f"""
provider "aws" {{}}

module "iam" {{
  source                      = "./modules/iam"
  name                        = "training-assets"
  roles                       = ["trainer", "execution", "sagemaker"]
  launchers                   = ["ecs", "sagemaker"]
  bucket_arns                 = {{ data = "{DATA}", archive = "{ARCHIVE}", logs = "{LOGS}" }}
  repository_arns             = {{ trainer = "{TRAINER_IMAGES}", dagster = "{DAGSTER_IMAGES}" }}
  kms_key_arn                 = "{KEY}"
  event_bus_arn               = "{BUS}"
  file_system_arn             = "{FILES}"
  datasync_task_arns          = ["{TRANSFER}"]
  database_secret_arns        = ["{DATABASE_SECRET}"]
  log_groups                  = ["/training-assets/trainer", "/training-assets/dagster", "/aws/sagemaker/TrainingJobs"]
  subnet_ids                  = ["subnet-1"]
  training_security_group_ids = ["sg-1"]
}}

module "eks" {{
  source               = "./modules/iam"
  name                 = "on-eks"
  roles                = ["trainer"]
  launchers            = []
  oidc_provider        = {{
    arn       = "arn:aws:iam::123456789012:oidc-provider/o"
    issuer    = "o"
    namespace = "training-assets"
  }}
  bucket_arns          = {{ data = "{DATA}", archive = "{ARCHIVE}", logs = "{LOGS}" }}
  repository_arns      = {{ trainer = "{TRAINER_IMAGES}", dagster = "{DAGSTER_IMAGES}" }}
  kms_key_arn          = "{KEY}"
  event_bus_arn        = "{BUS}"
  database_secret_arns = ["{DATABASE_SECRET}"]
  log_groups           = ["/training-assets/trainer"]
}}
"""
ROLES = ("dagster", "trainer", "execution", "sagemaker", "images")


@dataclass(frozen=True)
class Ask:
    role: str
    action: str
    resource: str
    context: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.role} {self.action} {self.resource} {dict(self.context) or ''}".strip()


def to(service: str) -> dict[str, str]:
    return {"iam:PassedToService": f"{service}.amazonaws.com"}


def on(cluster: str) -> dict[str, str]:
    return {"ecs:cluster": cluster}


def space(name: str) -> dict[str, str]:
    return {"cloudwatch:namespace": name}


def made_by(action: str) -> dict[str, str]:
    return {"ecs:CreateAction": action}


NEEDED = [
    # The ECS launcher and EcsRunLauncher
    Ask("dagster", "ecs:RunTask", DEFINITION, on(CLUSTER)),
    Ask("dagster", "ecs:DescribeTasks", TASK),
    Ask("dagster", "ecs:StopTask", TASK),
    Ask("dagster", "ecs:ListTasks", "*", on(CLUSTER)),
    Ask("dagster", "ecs:RegisterTaskDefinition", "*"),
    Ask("dagster", "ecs:DescribeTaskDefinition", "*"),
    Ask("dagster", "ecs:TagResource", TASK, made_by("RunTask")),
    Ask("dagster", "ecs:TagResource", DEFINITION, made_by("RegisterTaskDefinition")),
    Ask("dagster", "ec2:DescribeNetworkInterfaces", "*"),
    Ask("dagster", "ecs:DescribeClusters", CLUSTER),
    Ask("dagster", "iam:GetRole", f"{ROLE}/training-assets-execution"),
    Ask("dagster", "logs:DescribeLogGroups", f"{OUR_LOGS}:*"),
    *(
        Ask("dagster", "iam:PassRole", f"{ROLE}/training-assets-{r}", to("ecs-tasks"))
        for r in ("dagster", "trainer", "execution")
    ),
    # The SageMaker launcher and its registry
    Ask("dagster", "sagemaker:CreateTrainingJob", JOB, OUR_NETWORK),
    Ask("dagster", "sagemaker:DescribeTrainingJob", JOB),
    Ask("dagster", "sagemaker:StopTrainingJob", JOB),
    Ask("dagster", "sagemaker:ListTrainingJobs", "*"),
    Ask("dagster", "sagemaker:ListTags", JOB),
    Ask("dagster", "iam:GetRole", f"{ROLE}/training-assets-sagemaker"),
    Ask("dagster", "servicequotas:ListServiceQuotas", "*"),
    Ask("dagster", "sagemaker:AddTags", JOB),
    Ask("dagster", "sagemaker:CreateModelPackage", PACKAGES),
    Ask("dagster", "sagemaker:ListModelPackages", PACKAGES),
    Ask("dagster", "iam:PassRole", f"{ROLE}/training-assets-sagemaker", to("sagemaker")),
    # Stores, staging, telemetry
    Ask("dagster", "s3:ListBucket", DATA),
    Ask("dagster", "s3:GetObject", f"{DATA}/inbox/d1/golden_train.manifest"),
    Ask("dagster", "s3:DeleteObject", f"{DATA}/inbox/slices/fog.manifest"),
    Ask("dagster", "s3:PutObject", f"{ARCHIVE}/registry/scenes/aliases.json"),
    Ask("dagster", "s3:AbortMultipartUpload", f"{ARCHIVE}/models/scenes/1.0.0/best.pt"),
    Ask("dagster", "s3:PutObject", f"{LOGS}/dagster/storage/x.err"),
    Ask("dagster", "s3:ListBucket", LOGS, {"s3:prefix": "dagster/storage"}),
    Ask("dagster", "kms:GenerateDataKey", KEY),
    Ask("dagster", "fsx:CreateDataRepositoryTask", FILES),
    Ask("dagster", "fsx:DescribeDataRepositoryTasks", f"arn:aws:fsx:{HERE}:task/task-2"),
    Ask("dagster", "datasync:StartTaskExecution", TRANSFER),
    Ask("dagster", "datasync:DescribeTaskExecution", f"{TRANSFER}/execution/exec-1"),
    Ask("dagster", "ecr:DescribeImages", TRAINER_IMAGES),
    Ask("dagster", "events:PutEvents", BUS),
    Ask("dagster", "cloudwatch:PutMetricData", "*", space("TrainingAssets")),
    Ask("dagster", "logs:GetLogEvents", f"{OUR_LOGS}:log-stream:a"),
    Ask("dagster", "logs:DescribeLogStreams", OUR_LOGS),
    Ask("dagster", "logs:FilterLogEvents", SAGEMAKER_LOGS),
    Ask("dagster", "secretsmanager:DescribeSecret", SECRET),
    # The training code
    *(Ask(role, "s3:GetObject", f"{DATA}/d1/images/a.jpg") for role in ("trainer", "sagemaker")),
    *(
        Ask(role, "s3:PutObject", f"{ARCHIVE}/checkpoints/ab12cd34/s1/manifest.json")
        for role in ("trainer", "sagemaker")
    ),
    *(Ask(role, "kms:Decrypt", KEY) for role in ("trainer", "sagemaker", "execution")),
    Ask("sagemaker", "s3:PutObject", f"{ARCHIVE}/sagemaker/job/output/model.tar.gz"),
    Ask("sagemaker", "logs:CreateLogStream", f"{SAGEMAKER_LOGS}:log-stream:a"),
    Ask("sagemaker", "cloudwatch:PutMetricData", "*", space("/aws/sagemaker/TrainingJobs")),
    Ask("sagemaker", "kms:CreateGrant", KEY, {"kms:GrantIsForAWSResource": "true"}),
    Ask("sagemaker", "ec2:CreateNetworkInterface", f"arn:aws:ec2:{HERE}:subnet/subnet-1"),
    # Before a container starts
    *(Ask(role, "ecr:BatchGetImage", TRAINER_IMAGES) for role in ("execution", "sagemaker")),
    *(Ask(role, "ecr:GetAuthorizationToken", "*") for role in ("execution", "sagemaker", "images")),
    Ask("execution", "logs:PutLogEvents", f"{OUR_LOGS}:log-stream:a"),
    Ask("execution", "secretsmanager:GetSecretValue", SECRET),
    Ask("execution", "secretsmanager:GetSecretValue", DATABASE_SECRET),
    # make image
    Ask("images", "ecr:PutImage", DAGSTER_IMAGES),
    Ask("images", "ecr:CompleteLayerUpload", TRAINER_IMAGES),
]

FORBIDDEN_TO_ALL = [
    ("iam:*", "*"),
    ("iam:CreateRole", f"{ROLE}/training-assets-x"),
    ("iam:PutRolePolicy", f"{ROLE}/training-assets-dagster"),
    ("iam:AttachRolePolicy", f"{ROLE}/training-assets-dagster"),
    ("iam:PassRole", f"{ROLE}/admin"),
    ("iam:PassRole", "*"),
    ("iam:GetRole", f"{ROLE}/admin"),
    ("fsx:CreateDataRepositoryAssociation", FILES),
    ("sts:AssumeRole", f"{ROLE}/admin"),
    ("ec2:RunInstances", "*"),
    ("ec2:AuthorizeSecurityGroupIngress", "*"),
    ("ecs:CreateCluster", "*"),
    ("ecs:UpdateService", f"arn:aws:ecs:{HERE}:service/training-assets/daemon"),
    ("ecs:ExecuteCommand", TASK),
    ("eks:CreateCluster", "*"),
    ("lambda:CreateFunction", "*"),
    ("s3:ListAllMyBuckets", "*"),
    ("s3:GetObject", f"{OTHER}/a"),
    ("s3:PutObject", f"{OTHER}/a"),
    ("s3:ListBucket", OTHER),
    ("s3:DeleteBucket", ARCHIVE),
    ("s3:PutBucketPolicy", ARCHIVE),
    ("s3:DeleteObject", f"{ARCHIVE}/models/scenes/1.0.0/best.pt"),
    ("s3:DeleteObject", f"{ARCHIVE}/registry/scenes/1.0.0.json"),
    ("s3:DeleteObjectVersion", f"{ARCHIVE}/registry/scenes/1.0.0.json"),
    ("s3:GetObject", f"{LOGS}/access/data/2026"),
    ("kms:Decrypt", OTHER_KEY),
    ("kms:ScheduleKeyDeletion", KEY),
    ("kms:PutKeyPolicy", KEY),
    ("kms:CreateGrant", KEY),
    ("secretsmanager:GetSecretValue", OTHER_SECRET),
    ("secretsmanager:PutSecretValue", SECRET),
    ("secretsmanager:ListSecrets", "*"),
    ("ecr:DeleteRepository", TRAINER_IMAGES),
    ("ecr:BatchDeleteImage", TRAINER_IMAGES),
    ("ecr:PutImage", OTHER_IMAGES),
    ("ecr:BatchGetImage", OTHER_IMAGES),
    ("events:PutEvents", OTHER_BUS),
    ("events:PutRule", "*"),
    ("cloudwatch:PutMetricData", "*"),
    ("cloudwatch:DeleteAlarms", "*"),
    ("logs:DeleteLogGroup", OUR_LOGS),
    ("logs:GetLogEvents", f"{OTHER_LOGS}:log-stream:a"),
    ("logs:PutLogEvents", f"{OTHER_LOGS}:log-stream:a"),
    ("fsx:DeleteFileSystem", FILES),
    ("fsx:CreateFileSystem", "*"),
    ("datasync:DeleteTask", TRANSFER),
    ("sagemaker:CreateEndpoint", "*"),
    ("sagemaker:CreateNotebookInstance", "*"),
    ("sagemaker:DeleteModelPackage", PACKAGES),
    ("rds:DeleteDBInstance", "*"),
]

FORBIDDEN = [
    *(Ask(role, action, resource) for role in ROLES for action, resource in FORBIDDEN_TO_ALL),
    # Right action, wrong place
    Ask("dagster", "ecs:RunTask", DEFINITION, on(OTHER_CLUSTER)),
    Ask("dagster", "ecs:RunTask", DEFINITION),
    Ask("dagster", "ecs:RunTask", OTHER_DEFINITION, on(CLUSTER)),
    Ask("dagster", "ecs:StopTask", OTHER_TASK),
    Ask("dagster", "ecs:ListTasks", "*", on(OTHER_CLUSTER)),
    Ask("dagster", "ecs:TagResource", TASK),
    Ask("dagster", "iam:PassRole", f"{ROLE}/training-assets-trainer", to("ec2")),
    Ask("dagster", "iam:PassRole", f"{ROLE}/training-assets-trainer"),
    Ask("dagster", "iam:PassRole", f"{ROLE}/training-assets-images", to("ecs-tasks")),
    Ask("dagster", "iam:PassRole", f"{ROLE}/training-assets-ecs-node", to("ecs-tasks")),
    Ask("dagster", "iam:PassRole", f"{ROLE}/training-assets-sagemaker", to("ecs-tasks")),
    Ask("dagster", "sagemaker:CreateTrainingJob", OTHER_JOB, OUR_NETWORK),
    Ask("dagster", "sagemaker:CreateTrainingJob", JOB),
    Ask(
        "dagster", "sagemaker:CreateTrainingJob", JOB, {**OUR_NETWORK, "sagemaker:VpcSubnets": ["subnet-1", "subnet-2"]}
    ),
    Ask("dagster", "sagemaker:CreateTrainingJob", JOB, {**OUR_NETWORK, "sagemaker:VpcSecurityGroupIds": ["sg-2"]}),
    Ask("dagster", "sagemaker:StopTrainingJob", OTHER_JOB),
    Ask("dagster", "sagemaker:CreateModelPackage", OTHER_PACKAGES),
    Ask("dagster", "cloudwatch:PutMetricData", "*", space("AWS/EC2")),
    Ask("dagster", "secretsmanager:GetSecretValue", SECRET),
    Ask("dagster", "secretsmanager:GetSecretValue", DATABASE_SECRET),
    Ask("dagster", "s3:DeleteObject", f"{DATA}/d1/images/a.jpg"),
    Ask("dagster", "s3:ListBucket", LOGS),
    Ask("dagster", "s3:ListBucket", LOGS, {"s3:prefix": "access/"}),
    Ask("dagster", "ecr:PutImage", TRAINER_IMAGES),
    Ask("dagster", "datasync:StartTaskExecution", f"arn:aws:datasync:{HERE}:task/task-9"),
    # Not this role's business
    Ask("trainer", "s3:PutObject", f"{DATA}/d1/images/a.jpg"),
    Ask("trainer", "s3:PutObject", f"{ARCHIVE}/registry/scenes/aliases.json"),
    Ask("trainer", "s3:GetObject", f"{ARCHIVE}/registry/scenes/aliases.json"),
    Ask("trainer", "s3:PutObject", f"{ARCHIVE}/models/scenes/1.0.0/best.pt"),
    Ask("trainer", "secretsmanager:GetSecretValue", SECRET),
    Ask("trainer", "ecs:RunTask", DEFINITION, on(CLUSTER)),
    Ask("trainer", "events:PutEvents", BUS),
    Ask("trainer", "iam:PassRole", f"{ROLE}/training-assets-trainer", to("ecs-tasks")),
    Ask("trainer", "cloudwatch:PutMetricData", "*", space("TrainingAssets")),
    Ask("sagemaker", "s3:PutObject", f"{ARCHIVE}/models/scenes/1.0.0/best.pt"),
    Ask("sagemaker", "sagemaker:CreateTrainingJob", JOB, OUR_NETWORK),
    Ask("sagemaker", "cloudwatch:PutMetricData", "*", space("AWS/EC2")),
    Ask("sagemaker", "ec2:CreateNetworkInterface", f"arn:aws:ec2:{HERE}:subnet/subnet-2"),
    Ask("execution", "s3:GetObject", f"{DATA}/d1/images/a.jpg"),
    Ask("execution", "kms:GenerateDataKey", KEY),
    Ask("execution", "ecr:PutImage", TRAINER_IMAGES),
    Ask("images", "s3:GetObject", f"{DATA}/d1/images/a.jpg"),
    Ask("images", "kms:Decrypt", KEY),
    Ask("images", "ecs:RunTask", DEFINITION, on(CLUSTER)),
]

WITHOUT_RESOURCES = {
    "cloudwatch:PutMetricData",
    "ec2:DescribeDhcpOptions",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "ecr:GetAuthorizationToken",
    "ecs:DescribeTaskDefinition",
    "ecs:ListTasks",
    "ecs:RegisterTaskDefinition",
    "fsx:DescribeFileSystems",
    "sagemaker:ListTrainingJobs",
    "servicequotas:ListServiceQuotas",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
}


@pytest.fixture(scope="module")
def iam(ministack: str, terraform: Terraform) -> Iterator[Any]:
    """IAM with the roles as Terraform makes them."""
    place = terraform.deploy / "terraform"
    (place / "main.tf").write_text(CALL)
    terraform.init(place)
    terraform.must(place, "apply", "-auto-approve", "-input=false", "-no-color", AWS_ENDPOINT_URL=ministack)
    try:
        yield boto3.client("iam", endpoint_url=ministack, **CREDENTIALS)
    finally:
        (place / "main.tf").unlink()
        for left in [*place.glob("*.tfstate*"), *place.glob(".terraform.lock.hcl")]:
            Path(left).unlink()


@pytest.fixture(scope="module")
def attached(iam: Any) -> dict[str, list[dict[str, Any]]]:
    """Role → the policies that it has."""
    names = {role: iam.list_role_policies(RoleName=f"training-assets-{role}")["PolicyNames"] for role in ROLES}
    return {
        role: [iam.get_role_policy(RoleName=f"training-assets-{role}", PolicyName=n)["PolicyDocument"] for n in found]
        for role, found in names.items()
    }


@pytest.fixture(scope="module")
def allowed(attached: dict[str, list[dict[str, Any]]]) -> dict[str, bool]:
    asks = [*NEEDED, *FORBIDDEN]
    requests = [
        {"policies": attached[a.role], "action": a.action, "resource": a.resource, "context": dict(a.context)}
        for a in asks
    ]
    done = subprocess.run(
        [str(EMULATORS), str(Path(__file__).with_name("simulator.py"))],
        input=json.dumps(requests), capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {str(ask): decision == "Allow" for ask, decision in zip(asks, json.loads(done.stdout), strict=True)}


def test_each_role_may_do_what_it_needs(allowed: dict[str, bool]) -> None:
    assert [str(ask) for ask in NEEDED if not allowed[str(ask)]] == []


def test_no_role_may_do_what_it_does_not_need(allowed: dict[str, bool]) -> None:
    assert [str(ask) for ask in FORBIDDEN if allowed[str(ask)]] == []


def test_aws_own_simulation_of_the_attached_roles_says_the_same(iam: Any, allowed: dict[str, bool]) -> None:
    """SimulatePrincipalPolicy, for all that hangs on no context."""
    asks = [a for a in [*NEEDED, *FORBIDDEN] if not a.context]
    answers = {str(a): simulated(iam, a) for a in asks}
    assert answers == {str(a): allowed[str(a)] for a in asks}


def simulated(iam: Any, ask: Ask) -> bool:
    answer = iam.simulate_principal_policy(
        PolicySourceArn=f"{ROLE}/training-assets-{ask.role}", ActionNames=[ask.action], ResourceArns=[ask.resource]
    )
    return bool(answer["EvaluationResults"][0]["EvalDecision"] == "allowed")


def statements(attached: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for role, documents in attached.items():
        for document in documents:
            for statement in document["Statement"]:
                yield role, statement


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_no_action_is_a_wildcard_and_every_resource_only_where_the_action_knows_none(
    attached: dict[str, list[dict[str, Any]]],
) -> None:
    for role, statement in statements(attached):
        actions = as_list(statement["Action"])
        assert not [action for action in actions if "*" in action], role
        if "*" in as_list(statement["Resource"]):
            assert set(actions) <= WITHOUT_RESOURCES, role


def test_a_role_is_for_one_service_of_this_account_or_for_one_service_account(iam: Any) -> None:
    def trust(name: str) -> dict[str, Any]:
        (statement,) = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]["Statement"]
        return dict(statement)

    services = {"dagster": "ecs-tasks", "trainer": "ecs-tasks", "execution": "ecs-tasks", "sagemaker": "sagemaker"}
    for role, service in services.items():
        found = trust(f"training-assets-{role}")
        assert found["Principal"] == {"Service": f"{service}.amazonaws.com"}
        assert found["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}
    for role in ("dagster", "trainer", "secrets"):
        found = trust(f"on-eks-{role}")
        assert found["Action"] == "sts:AssumeRoleWithWebIdentity"
        assert found["Condition"]["StringEquals"]["o:sub"] == f"system:serviceaccount:training-assets:{role}"


def test_on_eks_dagster_launches_nothing_through_aws(iam: Any) -> None:
    assert iam.list_role_policies(RoleName="on-eks-dagster")["PolicyNames"] == ["common"]
