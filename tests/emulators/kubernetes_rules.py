"""What a real API server refuses and a schema does not say, for the objects that one attempt consists of.

Held to what version 1.36 answered (shared LAUNCH.md, "Seen on that control plane") and to the validation in
kubernetes/pkg/apis/{batch,core}/validation. The fake server refuses by these rules, and tests hold manifests to them.
"""

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate

Object = dict[str, Any]
VERSION = "1.36.0"
LONGEST = 63
LABEL = re.compile(r"(?=.{0,63}$)([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?")
SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
SERVICE_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
BASELINE = frozenset({"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
                      "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"})  # fmt: skip


def violations(thing: Object) -> list[str]:
    """Why the server answers 422 or 400 to the creation of ``thing``; empty where it takes it."""
    try:
        kubernetes_validate.validate(thing, VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    own = {"Job": _job, "Service": _service}.get(thing["kind"], lambda _: iter(()))
    return [*_metadata(thing["metadata"]), *own(thing)]


def beyond_baseline(pod: Object) -> list[str]:
    """Why the baseline Pod Security standard refuses a pod with this ``spec``: only when the pod is created."""
    said = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    said += ["hostPath volumes" for volume in pod.get("volumes", ()) if "hostPath" in volume]
    for container in pod["containers"]:
        context = container.get("securityContext", {})
        added = set(context.get("capabilities", {}).get("add", ())) - BASELINE
        said += [f"non-default capabilities (container must not include {sorted(added)})"] if added else []
        said += ["privileged"] if context.get("privileged") else []
    return said


def beyond_restricted(pod: Object) -> list[str]:
    """Why the restricted Pod Security standard would refuse it."""
    said = beyond_baseline(pod)
    context = pod.get("securityContext", {})
    said += [] if context.get("runAsNonRoot") is True else ["runAsNonRoot != true"]
    said += (
        [] if context.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost") else ["seccompProfile"]
    )
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    said += [f"volume {volume['name']}" for volume in pod.get("volumes", ()) if not allowed & set(volume)]
    for container in pod["containers"]:
        context = container.get("securityContext", {})
        said += [] if context.get("allowPrivilegeEscalation") is False else ["allowPrivilegeEscalation != false"]
        said += [] if "ALL" in context.get("capabilities", {}).get("drop", ()) else ["unrestricted capabilities"]
    return said


def unwise(job: Object) -> list[str]:
    """What the server takes, and a gang must not have (LAUNCH.md)."""
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    rules = [next(iter(set(rule) - {"action"})) for rule in spec["podFailurePolicy"]["rules"]]
    found = {
        "an index is tried again while others run": spec.get("backoffLimit") != 0,
        "exit codes are judged before a lost host": rules[0] != "onPodConditions",
        "fewer pods at once than nodes": spec["completions"] != spec["parallelism"],
        "an image by tag": any("@sha256:" not in container["image"] for container in pod["containers"]),
        "a token of the API in the pod": pod.get("automountServiceAccountToken") is not False,
        "less than a spot notice to save a checkpoint": not 100 <= pod["terminationGracePeriodSeconds"] < 120,
        "bound to a dead host for 5 minutes": {
            toleration.get("tolerationSeconds")
            for toleration in pod["tolerations"]
            if toleration["key"] in ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
        } != {60},
    }  # fmt: skip
    return [what for what, holds in found.items() if holds]


def _metadata(metadata: Object) -> Iterator[str]:
    if not SUBDOMAIN.fullmatch(metadata["name"]):
        yield f"metadata.name: Invalid value: {metadata['name']!r}"
    for key, value in metadata.get("labels", {}).items():
        if not LABEL.fullmatch(value):
            yield f"metadata.labels.{key}: Invalid value: {value!r}"
        if not LABEL.fullmatch(key.rpartition("/")[2]) or not SUBDOMAIN.fullmatch(key.partition("/")[0].lower()):
            yield f"metadata.labels: Invalid key: {key!r}"


def _service(service: Object) -> Iterator[str]:
    if not SERVICE_NAME.fullmatch(service["metadata"]["name"]):
        yield f"metadata.name: Invalid value: {service['metadata']['name']!r}: a DNS-1035 label"


def _job(job: Object) -> Iterator[str]:
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    yield from _metadata({"name": "x", **spec["template"].get("metadata", {})})
    if spec.get("completionMode") not in (None, "Indexed", "NonIndexed"):
        yield f"spec.completionMode: Unsupported value: {spec['completionMode']!r}"
    longest = len(f"{job['metadata']['name']}-{spec.get('completions', 1) - 1}")
    if longest > LONGEST:
        yield f"metadata.name: must be no more than {LONGEST} characters with the index of a pod, has {longest}"
    if pod.get("restartPolicy") not in ("Never", "OnFailure"):
        yield f"spec.template.spec.restartPolicy: Unsupported value: {pod.get('restartPolicy')!r}"
    if "podFailurePolicy" in spec:
        yield from _failure_policy(spec, pod)
    yield from _pod(pod)


def _failure_policy(spec: Object, pod: Object) -> Iterator[str]:
    if pod.get("restartPolicy") != "Never":
        yield "spec.template.spec.restartPolicy: only 'Never' is supported when podFailurePolicy is specified"
    if spec.get("podReplacementPolicy", "Failed") != "Failed":
        yield "spec.podReplacementPolicy: only 'Failed' is supported when podFailurePolicy is specified"
    names = {container["name"] for container in pod["containers"]}
    for number, rule in enumerate(spec["podFailurePolicy"]["rules"]):
        where = f"spec.podFailurePolicy.rules[{number}]"
        if rule["action"] not in ("FailJob", "FailIndex", "Ignore", "Count"):
            yield f"{where}.action: Unsupported value: {rule['action']!r}"
        if ("onExitCodes" in rule) == ("onPodConditions" in rule):
            yield f"{where}: specifying one of onExitCodes and onPodConditions is required"
        codes = rule.get("onExitCodes")
        if not codes:
            continue
        if codes["operator"] not in ("In", "NotIn"):
            yield f"{where}.onExitCodes.operator: Unsupported value: {codes['operator']!r}"
        if codes["operator"] == "In" and 0 in codes["values"]:
            yield f"{where}.onExitCodes.values: must not be 0 for the In operator"
        if codes["values"] != sorted(set(codes["values"])):
            yield f"{where}.onExitCodes.values: must be ordered and without duplicates"
        if codes.get("containerName") not in {None, *names}:
            yield f"{where}.onExitCodes.containerName: no such container"


def _pod(pod: Object) -> Iterator[str]:
    volumes = [volume["name"] for volume in pod.get("volumes", ())]
    if len(set(volumes)) < len(volumes):
        yield "spec.template.spec.volumes: Duplicate value"
    for toleration in pod.get("tolerations", ()):
        if "tolerationSeconds" in toleration and toleration.get("effect") != "NoExecute":
            yield "tolerations: effect must be 'NoExecute' when tolerationSeconds is set"
    for container in pod["containers"]:
        for mount in container.get("volumeMounts", ()):
            if mount["name"] not in volumes:
                yield f"volumeMounts: Not found: {mount['name']!r}"
        resources = container.get("resources", {})
        yield from _resources(resources.get("requests", {}), resources.get("limits", {}))


def _resources(requests: Object, limits: Object) -> Iterator[str]:
    for name, amount in {**requests, **limits}.items():
        if not QUANTITY.fullmatch(str(amount)):
            yield f"resources.{name}: quantities must match a number with a suffix, not {amount!r}"
        whole = name.startswith("hugepages-") or "/" in name
        if whole and limits.get(name) != requests.get(name, limits.get(name)):
            yield f"resources.limits.{name}: must be equal to the request, which cannot be more or less"
        if whole and name not in limits:
            yield f"resources.limits: {name} must be specified as a limit too"
    if any(name.startswith("hugepages-") for name in limits) and not {"cpu", "memory"} & set(requests):
        yield "resources: HugePages require cpu or memory"
