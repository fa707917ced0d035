"""The SageMaker launcher against jobs that really run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.sagemaker_host import why_not
from tests.training_assets.launchers.sagemaker_cases import CASES, case_training_interrupted
from tests.training_assets.launchers.sagemaker_world import World, world
from trainer.contract.errors import ContractError
from training_assets.launchers.sagemaker.job import job_name

WHY_NOT = why_not()
needs_hosts = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
QUICK = {"crash", "cancel_during_training", "lost_answers", "stopped_by_somebody"}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.mark.slow
@needs_hosts
@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in CASES]
)
def test_case(case: str, cloud: World) -> None:
    CASES[case](cloud)


@needs_hosts
@pytest.mark.slow
def test_two_hosts_train_what_two_ranks_here_train_though_they_are_interrupted(
    cloud: World, recipe: Path, delivery: Path
) -> None:
    case_training_interrupted(cloud, recipe, delivery)


@needs_hosts
def test_a_job_of_somebody_else_under_the_same_name_is_left_alone(cloud: World) -> None:
    launcher, spec = cloud.launcher(), cloud.spec("polite")
    launcher.launch(spec)
    cloud.cloud.jobs[job_name(spec)].tags = [{"Key": "team", "Value": "other"}]
    with pytest.raises(ContractError, match="somebody else has a training job of this name"):
        launcher.launch(spec)
    assert cloud.cloud.running


@needs_hosts
def test_a_request_that_sagemaker_does_not_take_is_the_profiles_fault(cloud: World) -> None:
    launcher = cloud.launcher(output_kms_key="not a key")
    with pytest.raises(ContractError, match=r"ValidationException.*OutputDataConfig\.KmsKeyId"):
        launcher.launch(cloud.spec("fine"))
    assert not cloud.cloud.jobs
