"""Airflow: takes the events of Training Assets (docs/events.md) from their queue and starts the DAG that is for each.

The queue is Terraform's (output ``queue_url``), given as the Airflow Variable ``training_assets_queue``. Delivery is
at least once: the run that an event starts has the event's id for its own, so a second message starts nothing.
"""

from datetime import UTC, datetime
from typing import Any

from airflow.providers.amazon.aws.hooks.sqs import SqsHook
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Variable, dag, task
from routing import request


@dag(schedule="* * * * *", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, max_active_runs=1)
def training_events() -> None:
    @task
    def receive() -> list[dict[str, str]]:
        """Up to ten messages. They stay in the queue, unseen, until ``forget``: a run that dies before repeats them."""
        queue = Variable.get("training_assets_queue")
        found = SqsHook().get_conn().receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=5)
        return [{"body": m["Body"], "receipt": m["ReceiptHandle"]} for m in found.get("Messages", [])]

    @task
    def requests(messages: list[dict[str, str]]) -> list[dict[str, Any]]:
        return [wanted for message in messages if (wanted := request(message["body"]))]

    @task(trigger_rule="none_failed")
    def forget(messages: list[dict[str, str]]) -> None:
        client, queue = SqsHook().get_conn(), Variable.get("training_assets_queue")
        for message in messages:
            client.delete_message(QueueUrl=queue, ReceiptHandle=message["receipt"])

    messages = receive()
    start = TriggerDagRunOperator.partial(task_id="start", skip_when_already_exists=True).expand_kwargs(
        requests(messages)
    )
    start >> forget(messages)


training_events()
