"""What must be in the cluster before anything is launched there. Asks, changes nothing."""

import re

from trainer.contract.errors import Problem
from training_assets.launchers.eks.api import Api, Object, Refused
from training_assets.launchers.eks.settings import Settings

OLDEST = (1, 29)
"""Kubernetes that has ``podReplacementPolicy`` without a feature gate."""

NEEDED = (
    ("batch", "jobs", ("create", "get", "list", "delete")),
    ("", "pods", ("list", "delete")),
    ("", "services", ("create", "get")),
    ("networking.k8s.io", "networkpolicies", ("create", "get")),
    ("", "events", ("list",)),
)
"""API group, resource, verbs."""


def missing(api: Api, settings: Settings) -> list[Problem]:
    """
    Raises:
        Unreachable: the API does not answer.
    """
    version = api.request("GET", "/version")
    found = tuple(int(re.sub(r"\D", "", version[part])) for part in ("major", "minor"))
    problems = []
    if found < OLDEST:
        problems.append(_problem("context", f"Kubernetes {found[0]}.{found[1]}", f"{OLDEST[0]}.{OLDEST[1]} or newer"))
    try:
        problems += [problem for entry in NEEDED for problem in _denied(api, settings, *entry)]
    except Refused as refused:
        return [*problems, _problem("context", str(refused), "credentials that the cluster accepts")]
    return problems + [problem for entry in _named(settings) if (problem := _absent(api, *entry))]


def _named(settings: Settings) -> list[tuple[str, str, str]]:
    """Field of the settings, path of what it names, and what that is."""
    core = f"/api/v1/namespaces/{settings.namespace}"
    named = [
        ("namespace", core, f"the namespace {settings.namespace}"),
        ("service_account", f"{core}/serviceaccounts/{settings.service_account}", "a service account for the pods"),
        ("claim", f"{core}/persistentvolumeclaims/{settings.claim}", "the store's claim, bound to its volume"),
    ]
    if settings.queue:
        queues = f"/apis/kueue.x-k8s.io/v1beta1/namespaces/{settings.namespace}/localqueues"
        named.append(("queue", f"{queues}/{settings.queue}", "a LocalQueue of Kueue"))
    if settings.priority_class:
        path = f"/apis/scheduling.k8s.io/v1/priorityclasses/{settings.priority_class}"
        named.append(("priority_class", path, "a priority class of the cluster"))
    return named


def _absent(api: Api, field: str, path: str, expected: str) -> Problem | None:
    try:
        found = api.get(path)
    except Refused as refused:
        return _problem(field, str(refused), f"leave to read it (get {path})")
    if found is None:
        return _problem(field, f"no {path}", expected)
    phase = found.get("status", {}).get("phase")
    if field == "claim" and phase != "Bound":
        return _problem(field, f"claim {found['metadata']['name']} is {phase}", expected)
    return None


def _denied(api: Api, settings: Settings, group: str, resource: str, verbs: tuple[str, ...]) -> list[Problem]:
    problems = []
    for verb in verbs:
        wanted = {"namespace": settings.namespace, "group": group, "resource": resource, "verb": verb}
        review: Object = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": wanted},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        if not api.request("POST", path, body=review)["status"]["allowed"]:
            problems.append(_problem("namespace", f"may not {verb} {resource}", "a role with this permission"))
    return problems


def _problem(field: str, found: str, expected: str) -> Problem:
    return Problem("profile", found, expected, field=f"backend.{field}")
