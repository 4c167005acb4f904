"""The peer: what one writes first. Each record is two writes of its own, one after the other."""

import json
import os
import time
from typing import Any

import boto3

dynamodb = boto3.client("dynamodb")


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Process the records one by one; each is recorded before and after, and logged."""
    table = os.environ["TASKQ_TABLE"]
    for record in event["Records"]:
        task = json.loads(record["body"])
        key = {"taskId": {"S": task["task_id"]}}
        dynamodb.put_item(TableName=table, Item={**key, "status": {"S": "PROCESSING"}, "attempts": {"N": "1"}})
        dynamodb.update_item(
            TableName=table,
            Key=key,
            UpdateExpression="SET #s = :s, finishedAt = :f",
            ExpressionAttributeNames={"#s": "status"},
            ExpressionAttributeValues={":s": {"S": "COMPLETED"}, ":f": {"N": f"{time.time():.3f}"}},
        )
        print(json.dumps({"message": "completed", "taskId": task["task_id"]}))
    return {"batchItemFailures": []}
