"""Which node a host is, by whatever its backend tells it."""

import json
from pathlib import Path

import pytest

from trainer.contract.errors import ContractError
from trainer.node.place import node_number, own_address


def test_launchers_and_indexed_jobs_number_nodes_by_the_environment(tmp_path: Path) -> None:
    nowhere = tmp_path / "none.json"
    assert node_number(4, {"TRAINING_ASSETS_NODE": "3"}, nowhere) == 3
    assert node_number(4, {"JOB_COMPLETION_INDEX": "2"}, nowhere) == 2
    assert node_number(1, {}, nowhere) == 0


def test_sagemakers_hosts_are_numbered_as_people_count(tmp_path: Path) -> None:
    path = tmp_path / "resourceconfig.json"
    hosts = [f"algo-{number}" for number in (1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9)]
    numbers = {}
    for host in hosts:
        path.write_text(json.dumps({"current_host": host, "hosts": hosts}))
        numbers[host] = node_number(11, {}, path)
    assert numbers == {f"algo-{number}": number - 1 for number in range(1, 12)}


@pytest.mark.parametrize("number", ["2", "-1", "one", ""])
def test_a_number_that_is_none_is_refused(number: str, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="expected a number from 0 to 1"):
        node_number(2, {"TRAINING_ASSETS_NODE": number}, tmp_path / "none.json")


def test_several_nodes_need_to_be_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="JOB_COMPLETION_INDEX"):
        node_number(2, {}, tmp_path / "none.json")
    path = tmp_path / "resourceconfig.json"
    path.write_text(json.dumps({"current_host": "algo-1", "hosts": ["algo-1"]}))
    with pytest.raises(ContractError, match="found 1 hosts, expected 2"):
        node_number(2, {}, path)


def test_a_given_address_wins() -> None:
    assert own_address({"TRAINING_ASSETS_NODE_ADDRESS": "10.0.0.7"}) == "10.0.0.7"
    assert own_address({}).count(".") == 3
