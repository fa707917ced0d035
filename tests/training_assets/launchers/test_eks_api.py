"""Asking the API again: with patience, within bounds, and never twice for one thing."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.emulators.kubernetes_api import TOKEN, ApiServer, Fault
from trainer.contract.errors import ContractError
from training_assets.launchers.eks.api import Api, Refused, Unreachable, api_of

SERVICES = "/api/v1/namespaces/training-assets/services"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer(lambda resource, thing, _: server.store.remove(resource, thing))
    server.store.put("namespaces", {"kind": "Namespace", "metadata": {"name": "training-assets"}})
    yield server
    server.close()


@pytest.fixture
def api(server: ApiServer, tmp_path: Path) -> Api:
    return api_of(server.kubeconfig(tmp_path / "kubeconfig"), "emulator", 3.0)


def service(owner: str) -> dict[str, object]:
    spec = {"clusterIP": "None", "ports": [{"port": 29500}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": {"own": owner}}, "spec": spec}


@pytest.mark.slow
def test_retry_after_is_kept_to(server: ApiServer, api: Api) -> None:
    server.faults.append(Fault("list", "services", status=429, retry_after=1))
    began = time.monotonic()
    assert api.items(SERVICES, {}) == []
    assert time.monotonic() - began >= 1


@pytest.mark.slow
def test_it_is_given_up_within_bounds_and_says_what_happened(server: ApiServer, api: Api) -> None:
    server.faults.append(Fault("list", "services", status=503, times=1000))
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"GET .*/services failed for 3 s, last with HTTP 503: the emulator"):
        api.items(SERVICES, {})
    assert time.monotonic() - began < 6
    assert 3 <= len(server.calls) <= 40


@pytest.mark.slow
def test_a_server_that_is_gone_is_unreachable(server: ApiServer, api: Api) -> None:
    server.close()
    with pytest.raises(Unreachable):
        api.items(SERVICES, {})


def test_a_refusal_is_not_asked_again(server: ApiServer, api: Api) -> None:
    server.denied.add(("list", "services"))
    with pytest.raises(Refused, match="cannot list") as refused:
        api.items(SERVICES, {})
    assert refused.value.status == 403
    assert len(server.calls) == 1


def test_what_is_there_already_is_taken_if_it_is_ours_and_refused_if_it_is_not(api: Api) -> None:
    created = api.create(SERVICES, service("me"))
    assert api.create(SERVICES, service("me"))["metadata"]["uid"] == created["metadata"]["uid"]
    with pytest.raises(Refused, match="already exists") as refused:
        api.create(SERVICES, service("somebody"))
    assert refused.value.status == 409


def test_what_is_gone_can_be_deleted_again(api: Api) -> None:
    api.create(SERVICES, service("me"))
    for _ in range(2):
        api.delete(f"{SERVICES}/a")
    assert api.get(f"{SERVICES}/a") is None


def test_one_list_serves_all_until_it_is_old_or_something_was_changed(server: ApiServer, api: Api) -> None:
    for _ in range(5):
        assert api.listed(SERVICES, {}, 60.0) == []
    assert len(server.calls) == 1
    api.create(SERVICES, service("me"))
    assert len(api.listed(SERVICES, {}, 60.0)) == 1
    assert len(api.listed(SERVICES, {}, 0.0)) == 1
    assert server.calls.count(("list", "services")) == 3


def test_an_unknown_context_is_refused_by_its_field(server: ApiServer, tmp_path: Path) -> None:
    path = server.kubeconfig(tmp_path / "kubeconfig")
    with pytest.raises(ContractError, match=r"field 'backend\.context'.*nobody"):
        api_of(path, "nobody", 1.0)
    with pytest.raises(ContractError, match="expected a context of the kubeconfig, or to run in a pod"):
        api_of(None, None, 1.0)


def test_a_token_that_expires_is_asked_for_again(server: ApiServer, tmp_path: Path) -> None:
    """As `aws eks get-token` gives them, for 15 minutes."""
    path = server.kubeconfig(tmp_path / "kubeconfig")
    status = {"token": TOKEN, "expirationTimestamp": "2020-01-01T00:00:00Z"}
    credential = {"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1beta1", "status": status}
    plugin = f"open({str(tmp_path / 'asked')!r}, 'a').write('x'); print({json.dumps(json.dumps(credential))})"
    value = yaml.safe_load(path.read_text())
    command = {"apiVersion": credential["apiVersion"], "command": sys.executable, "args": ["-c", plugin]}
    value["users"][0]["user"] = {"exec": command}
    path.write_text(yaml.safe_dump(value))
    api = api_of(path, None, 1.0)
    asked = (tmp_path / "asked").stat().st_size
    assert api.items(SERVICES, {}) == []
    assert (tmp_path / "asked").stat().st_size > asked


def test_a_wrong_token_is_a_refusal(server: ApiServer, tmp_path: Path) -> None:
    path = server.kubeconfig(tmp_path / "kubeconfig")
    path.write_text(path.read_text().replace(TOKEN, "stale"))
    with pytest.raises(Refused, match="Unauthorized"):
        api_of(path, None, 1.0).items(SERVICES, {})
