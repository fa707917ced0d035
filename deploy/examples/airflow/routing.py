"""Which DAG is for which event. It needs no Airflow, so that it can be tested without."""

import json
from typing import Any

DAGS = {
    "model.registered": "evaluate_and_simulate",
    "sweep.requested": "tune",
    "data.requested": "mine_more_data",
}
"""Which of your DAGs is for which event; others are taken from the queue and nothing is done."""


def request(body: str) -> dict[str, Any] | None:
    """What the operator is to do about a message of the queue: which DAG, its run's id, the event as its ``conf``."""
    event = json.loads(body)
    target = DAGS.get(event["detail-type"])
    if target is None:
        return None
    return {
        "trigger_dag_id": target,
        "trigger_run_id": f"training-assets-{event['detail']['id']}",
        "conf": event["detail"],
    }
