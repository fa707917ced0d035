"""The EKS launcher as a profile makes it: what it refuses, checks, costs, and how often it asks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.kubernetes_api import Fault
from tests.training_assets.launchers.eks_cases import IMAGE, World, calls_of_watching, open_world, until
from trainer.contract.errors import ContractError
from trainer.contract.train_config import Launch
from training_assets.launchers import LaunchSpec, Status, launcher_for
from training_assets.launchers.eks.launcher import EksLauncher
from training_assets.profiles import Profile, load_profile

ENVIRONMENT = {
    "TRAINING_ASSETS_TRAINER_IMAGE": IMAGE,
    "TRAINING_ASSETS_ARCHIVE": "s3://archive",
    "TRAINING_ASSETS_EVENT_BUS": "training-assets",
}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as world:
        yield world


def changed(**changes: object) -> Profile:
    return load_profile("eks", ENVIRONMENT).model_copy(update=changes)


def test_the_profile_makes_a_launcher() -> None:
    launcher = launcher_for(load_profile("eks", ENVIRONMENT))
    assert isinstance(launcher, EksLauncher)
    assert (launcher.image, launcher.settings.queue, launcher.mount) == (IMAGE, "gpu", Path("/fsx/store"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hardware": None}, r"field 'hardware': found nothing"),
        ({"image": None}, r"field 'image': found nothing"),
        ({"backend": {"claims": "x"}}, r"field 'claims'.*is it misspelt"),
        ({"backend": {"secrets": {"A": "value"}}}, r"field 'secrets\.A'"),
        ({"store": Path("/elsewhere")}, r"field 'mount': found /elsewhere, expected a directory in /fsx"),
    ],
)
def test_a_profile_that_cannot_be_launched_with_is_refused_by_field(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        EksLauncher.of(changed(**changes))


def test_an_hour_costs_what_all_hosts_cost() -> None:
    launcher = EksLauncher.of(changed())
    estimate = launcher.estimate(LaunchSpec(("train",), Path("/fsx/store/run"), "a", launch=Launch(num_nodes=2)))
    assert (estimate.instance_type, estimate.nodes, estimate.gpus) == ("g5.12xlarge", 2, 8)
    assert estimate.usd_per_hour == pytest.approx(2 * 5.672)


@pytest.mark.parametrize(
    ("launch", "instance", "message"),
    [
        (Launch(accelerator="cuda"), "m5.large", r"launch\.accelerator': found cuda, .*m5\.large has no GPU"),
        (Launch(devices=8), "g5.12xlarge", r"launch\.devices': found 8, expected no more than the 4 GPUs"),
    ],
)
def test_what_does_not_fit_the_hardware_is_refused_before_anything_is_asked(
    launch: Launch, instance: str, message: str
) -> None:
    profile = changed()
    assert profile.hardware is not None
    hardware = profile.hardware.model_copy(update={"instance_type": instance})
    launcher = EksLauncher.of(profile.model_copy(update={"hardware": hardware}))
    with pytest.raises(ContractError, match=message):
        launcher.launch(LaunchSpec(("train",), Path("/fsx/store/run"), "a", launch=launch))


def test_a_cluster_with_all_that_is_needed_lacks_nothing(world: World) -> None:
    assert list(world.launcher(queue="gpu", priority_class="training").check()) == []
    assert not world.cluster.jobs()


def test_everything_that_is_missing_is_told_at_once(world: World) -> None:
    world.cluster.api.denied |= {("create", "jobs"), ("list", "events")}
    store = world.cluster.api.store
    store.all("persistentvolumeclaims")[0]["status"]["phase"] = "Pending"
    launcher = world.launcher(queue="none", priority_class="nope", service_account="nobody")
    said = "\n".join(map(str, launcher.check()))
    for expected in ("may not create jobs", "may not list events", "claim fsx is Pending", "localqueues/none",
                     "priorityclasses/nope", "serviceaccounts/nobody"):  # fmt: skip
        assert expected in said
    assert said.count("found") == 6


def test_a_cluster_that_does_not_answer_is_one_problem(world: World) -> None:
    world.cluster.api.faults.append(Fault("any", "any", times=10_000))
    world.cluster.api.close()
    (problem,) = world.launcher(retry_seconds=1.0).check()
    assert "expected an API that answers" in str(problem)


def test_an_unknown_context_is_a_problem_and_no_crash(world: World) -> None:
    (problem,) = world.launcher(context="nobody").check()
    assert "nobody" in str(problem)


@pytest.mark.slow
def test_a_launch_that_kubernetes_refuses_says_why_and_leaves_nothing(world: World) -> None:
    world.cluster.api.denied.add(("create", "networkpolicies"))
    with pytest.raises(ContractError, match="cannot create resource"):
        world.launcher().launch(world.spec("fine"))
    world.assert_nothing_left()


@pytest.mark.slow
def test_somebody_elses_job_of_that_name_is_left_alone(world: World) -> None:
    launcher, spec = world.launcher(), world.spec("wait")
    launcher.launch(spec)
    (theirs,) = world.cluster.jobs()
    theirs["metadata"]["labels"]["training-assets/run"] = "theirs"
    with pytest.raises(ContractError, match="already exists"):
        world.launcher().launch(spec)
    assert world.launcher().attach(launcher.launch(world.spec("wait"))) is not None
    assert theirs in world.cluster.jobs()


def test_an_attempt_that_was_never_started_cannot_be_attached_to(world: World) -> None:
    launcher, spec = world.launcher(), world.spec("fine")
    handle = launcher.launch(spec)
    launcher.stop(handle)
    assert launcher.attach(handle) is None


@pytest.mark.slow
def test_a_list_that_is_older_than_the_nodes_does_not_make_them_lost(world: World) -> None:
    world.cluster.admits = False
    launcher = world.launcher(queue="gpu", poll_seconds=60.0)
    handle = launcher.launch(world.spec("polite"))
    assert launcher.poll(handle).waits_for
    world.cluster.admits = True
    until(world.both_started)
    assert launcher.poll(handle) == Status("running")
    launcher.stop(handle)
    world.assert_nothing_left()


@pytest.mark.slow
def test_a_hundred_runs_are_watched_with_the_calls_of_one(world: World) -> None:
    """With the 5 s of a profile that is 14 lists of pods a minute."""
    calls = calls_of_watching(world, runs=100, poll_seconds=2.0, seconds=9.0)
    assert set(calls) == {("list", "pods")}
    assert 2 <= len(calls) <= 7
