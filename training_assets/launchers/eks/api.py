"""The Kubernetes API as the EKS launcher uses it: the official client, asked again where that may help."""

import json
import random
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from trainer.contract.errors import ContractError, Problem

Object = dict[str, Any]
TRANSIENT = frozenset({429, 500, 502, 503, 504})
FIRST_WAIT, LONGEST_WAIT = 0.25, 15.0
TIMEOUTS = (5, 30)
"""Seconds to connect, and to wait for an answer."""


class Refused(Exception):
    """The API said no. ``status`` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(ConnectionError):
    """The API did not answer, throttled or failed for longer than it was asked again."""


@cache
def api_of(kubeconfig: Path | None, context: str | None, retry_seconds: float) -> "Api":
    """One for each cluster in this process, so that all runs share what it lists.

    Raises:
        ContractError: there are no such credentials.
    """
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        if kubeconfig is None and context is None:
            config.load_incluster_config(client_configuration=configuration)
        else:
            file = str(kubeconfig) if kubeconfig else None
            config.load_kube_config(file, context, configuration, persist_config=False)
    except config.ConfigException as error:
        expected = "a context of the kubeconfig, or to run in a pod of the cluster"
        problem = Problem("profile", f"{context or 'no context'}: {error}", expected, field="backend.context")
        raise ContractError("the cluster is not known", [problem]) from None
    configuration.retries = False  # they are counted here, where a wait is told from a refusal
    return Api(client.ApiClient(configuration), retry_seconds)


class Api:
    """Paths in, JSON out: whole lists stay plain dictionaries, which the client's models would take seconds to fill."""

    def __init__(self, client: Any, retry_seconds: float) -> None:
        self._client, self._retry_seconds = client, retry_seconds
        self._lists: dict[tuple[str, str, float], tuple[float, list[Object]]] = {}
        self._lock = threading.Lock()

    def get(self, path: str) -> Object | None:
        """None: there is no such object."""
        try:
            return self.request("GET", path)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def create(self, path: str, body: Object) -> Object:
        """What there is under this name now: a repeated request finds what an earlier one made.

        Raises:
            Refused: with status 409 where that belongs to somebody else.
        """
        try:
            return self.request("POST", path, {"fieldValidation": "Strict"}, body)
        except Refused as refused:
            if refused.status != 409:
                raise
            found = self.get(f"{path}/{body['metadata']['name']}")
            labels = {} if found is None else found["metadata"].get("labels", {})
            if found is None or not body["metadata"]["labels"].items() <= labels.items():
                raise
            return found
        finally:
            self.forget()

    def delete(self, path: str, **options: Any) -> None:
        """What is gone already is fine."""
        try:
            self.request("DELETE", path, body={"kind": "DeleteOptions", "apiVersion": "v1", **options})
        except Refused as refused:
            if refused.status != 404:
                raise
        finally:
            self.forget()

    def items(self, path: str, query: Mapping[str, str]) -> list[Object]:
        items: list[Object] = self.request("GET", path, query)["items"]
        return items

    def listed(self, path: str, query: Mapping[str, str], seconds: float) -> list[Object]:
        """A list that may be as old as ``seconds``: many runs are watched with the calls of one."""
        key = (path, repr(sorted(query.items())), seconds)
        with self._lock:
            at, items = self._lists.get(key, (float("-inf"), []))
            if time.monotonic() - at > seconds:
                items = self.items(path, query)
                self._lists[key] = (time.monotonic(), items)
            return items

    def forget(self) -> None:
        """What was listed is not true any more."""
        with self._lock:
            self._lists.clear()

    def request(self, method: str, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Object:
        """
        Raises:
            Refused: another try would be refused too.
            Unreachable: it was tried for long enough.
        """
        return again(lambda: self._once(method, path, query or {}, body), self._retry_seconds, f"{method} {path}")

    def _once(self, method: str, path: str, query: Mapping[str, str], body: Any) -> Object:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        answer: Object = self._client.call_api(
            path, method, query_params=list(query.items()), header_params=headers, body=body, response_type="object",
            auth_settings=["BearerToken"], _return_http_data_only=True, _request_timeout=TIMEOUTS,
        )  # fmt: skip
        return answer


def again(call: Callable[[], Object], seconds: float, what: str) -> Object:
    """What ``call`` returns, asked again for ``seconds`` while the API throttles, fails or does not answer.

    Waits double, with full jitter, so that many watchers do not come back together; Retry-After is kept to.
    """
    import urllib3
    from kubernetes.client.exceptions import ApiException

    deadline, wait = time.monotonic() + seconds, FIRST_WAIT
    while True:
        asked = 0.0
        try:
            return call()
        except ApiException as error:
            if error.status not in TRANSIENT:
                raise Refused(error.status or 0, _message(error)) from None
            failure, asked = f"HTTP {error.status}: {_message(error)}", _retry_after(error)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            failure = f"{type(error).__name__}: {error}"
        pause = asked + random.uniform(0, wait)  # noqa: S311 - jitter
        if time.monotonic() + pause > deadline:
            raise Unreachable(f"{what} failed for {seconds:.0f} s, last with {failure}")
        time.sleep(pause)
        wait = min(2 * wait, LONGEST_WAIT)


def _retry_after(error: Any) -> float:
    value = str((error.headers or {}).get("Retry-After", ""))
    return min(float(value), LONGEST_WAIT * 4) if value.isdecimal() else 0.0


def _message(error: Any) -> str:
    """The server's own sentence."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.reason}"
