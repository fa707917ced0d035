"""What SageMaker refuses of a request before it does anything: its service model's limits, and some of its rules."""

import re
from collections.abc import Mapping
from typing import Any

from botocore.model import Shape


def broken_limit(value: Any, shape: Shape, where: str = "") -> str:
    """The first limit of the service model that ``value`` breaks, in words like SageMaker's; boto3 checks few."""
    metadata = shape.metadata
    size = value if isinstance(value, int | float) else len(value)
    if not isinstance(value, bool) and not metadata.get("min", size) <= size <= metadata.get("max", size):
        return f"Value at '{where}' has size {size}, allowed are {metadata.get('min', 0)} to {metadata.get('max', '…')}"
    pattern = metadata.get("pattern", "")
    if isinstance(value, str) and pattern and r"\p" not in pattern and not re.fullmatch(pattern, value):
        return f"Value '{value}' at '{where}' failed to satisfy constraint: {pattern}"
    parts: list[tuple[Any, Shape, str]] = []
    if shape.type_name == "structure":
        parts = [(value[name], member, f"{where}.{name}") for name, member in shape.members.items() if name in value]
    elif shape.type_name == "list":
        parts = [(one, shape.member, f"{where}[{number}]") for number, one in enumerate(value)]
    elif shape.type_name == "map":
        parts = [(key, shape.key, f"{where} key") for key in value]
        parts += [(one, shape.value, f"{where}.{key}") for key, one in value.items()]
    return next((found for part in parts if (found := broken_limit(*part))), "")


def misfit(given: Mapping[str, Any]) -> str:
    """What SageMaker refuses beside single values."""
    stopping, spot = given["StoppingCondition"], given.get("EnableManagedSpotTraining", False)
    if spot and stopping.get("MaxWaitTimeInSeconds", 0) < stopping["MaxRuntimeInSeconds"]:
        return "MaxWaitTimeInSeconds must be at least MaxRuntimeInSeconds"
    if spot and given["ResourceConfig"].get("KeepAlivePeriodInSeconds"):
        return "Managed spot training does not support warm pools"
    if not spot and "MaxWaitTimeInSeconds" in stopping:
        return "MaxWaitTimeInSeconds needs EnableManagedSpotTraining"
    on_fsx = any("FileSystemDataSource" in one["DataSource"] for one in given.get("InputDataConfig", []))
    return "FileSystemDataSource needs a VpcConfig" if on_fsx and "VpcConfig" not in given else ""
