"""Run by the emulator's Python: its own evaluation of IAM policies, with the context keys that its API leaves out.

Reads a JSON list of requests (policies, action, resource, context), writes the list of decisions.
"""

import json
import sys
from typing import Any

from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document

ACCOUNT = "123456789012"


def decision(request: dict[str, Any]) -> str:
    context = EvalContext(
        principal_arn=f"arn:aws:iam::{ACCOUNT}:role/any",
        principal_type="AssumedRole",
        principal_account=ACCOUNT,
        action=request["action"],
        resource_arn=request["resource"],
        region="us-east-1",
        source_ip="10.42.0.1",
        secure_transport=True,
        service_context={key.lower(): value for key, value in request["context"].items()},
    )
    return str(evaluate(context, [parse_policy_document(policy) for policy in request["policies"]]).decision)


if __name__ == "__main__":
    json.dump([decision(request) for request in json.load(sys.stdin)], sys.stdout)
