"""The peer: Powertools' batch processor with idempotency on DynamoDB, as its documentation puts the two together.

It writes no log line of its own, which is the default of both.
"""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function

processor = BatchProcessor(event_type=EventType.SQS)
persistence = DynamoDBPersistenceLayer(table_name="tasks")
config = IdempotencyConfig(event_key_jmespath="powertools_json(body).task_id")


@idempotent_function(data_keyword_argument="record", config=config, persistence_store=persistence)  # type: ignore[untyped-decorator]
def record_handler(record: SQSRecord) -> dict[str, Any]:
    """Do what the no-op task of ours does; the result is kept beside the key."""
    task = record.json_body
    return {"message": "sent", "to": task["data"]["to"], "message_id": f"{task['task_id']}@taskq"}


def handler(event: dict[str, Any], context: Any) -> Any:
    """Process one batch of SQS records and return a partial batch response."""
    config.register_lambda_context(context)
    return process_partial_response(event=event, record_handler=record_handler, processor=processor, context=context)
