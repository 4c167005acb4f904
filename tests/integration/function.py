"""The function, run in the test's own process on real queues and a real table."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config

from taskq_lib.aws.queues import group_of
from taskq_lib.aws.stack import Stack
from taskq_worker import batch, execute
from taskq_worker.breaker import Memory
from taskq_worker.contract import Task
from tests.unit.events import SOURCE, Context, ids


class Function:
    """The function in this process: the stack's table, and a queue and dead-letter queue of the test's own."""

    def __init__(self, stack: Stack, patch: pytest.MonkeyPatch, *, is_fifo: bool = False) -> None:
        """Make the queues and set the environment as the template does."""
        self.sqs = stack.target.client("sqs")
        self.queue, self.dead = (self._create_queue(name, is_fifo=is_fifo) for name in ("queue", "dead"))
        self.source = self._arn(self.queue)
        self.patch = patch
        self.set(
            TASKQ_TABLE=stack.table,
            # The second is where made-up records come from, as if it had a mapping as well.
            TASKQ_QUEUE_URLS=f"{self.queue},http://localhost/{SOURCE.rpartition(':')[2]}",
            TASKQ_DEAD_LETTER_QUEUE_URL=self.dead,
            TASKQ_MAX_ATTEMPTS="3",
            TASKQ_RETRY_BASE_S="0",
            TASKQ_RETRY_FACTOR="2",
            TASKQ_RETRY_CAP_S="300",
            TASKQ_BREAKER_FAILURE_PERCENT="0",
            TASKQ_BREAKER_MINIMUM_TASKS="20",
            TASKQ_BREAKER_WINDOW_S="60",
            TASKQ_BREAKER_COOLDOWN_S="30",
            TASKQ_TTL_DAYS="30",
            TASKQ_STACK=stack.name,
            TASKQ_METRICS="true",
            AWS_ENDPOINT_URL=stack.target.endpoint_url or "",
            AWS_REGION=stack.target.region,
            AWS_DEFAULT_REGION=stack.target.region,
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",  # noqa: S106 - the engine's, not a secret
        )
        # The function does not validate its parameters; here they are held against the service models.
        patch.setattr(batch, "_CONFIG", batch._CONFIG.merge(Config(parameter_validation=True)))
        patch.setattr(batch, "_sessions", [])
        patch.setattr(execute, "_executors", [])
        patch.setattr(batch, "_invocations", [])
        patch.setattr(batch, "_memory", Memory())
        # What the function says in every line is not to be in the lines of later tests.
        patch.setattr("taskq_worker.log._bound", {})
        #: Operation and parameters of each request since the last `forget`
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.forget()

    def _create_queue(self, name: str, *, is_fifo: bool) -> str:
        own = f"{name}-{uuid.uuid4().hex}"
        if not is_fifo:
            return str(self.sqs.create_queue(QueueName=own)["QueueUrl"])
        attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        attributes |= {"DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"}
        return str(self.sqs.create_queue(QueueName=f"{own}.fifo", Attributes=attributes)["QueueUrl"])

    def _arn(self, queue: str) -> str:
        attributes = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
        return str(attributes["QueueArn"])

    def set(self, **environment: str) -> None:
        """Set variables of the function's environment."""
        for name, value in environment.items():
            self.patch.setenv(name, value)

    def forget(self) -> None:
        """Forget clients and requests, as a new process of the function does."""
        self.calls.clear()
        self.patch.setattr(batch, "_clients", {})
        for service in ("dynamodb", "sqs"):
            batch.client(service).meta.events.register(f"before-call.{service}", self._note)

    def _note(self, model: Any, params: dict[str, Any], **_: Any) -> None:
        self.calls.append((model.name, json.loads(params["body"])))

    def requests(self, operation: str) -> list[dict[str, Any]]:
        """Return the parameters of each request of one operation."""
        return [parameters for name, parameters in self.calls if name == operation]

    def put(self, body: str | Task, group: str | None = None, attributes: dict[str, Any] | None = None) -> None:
        """Send one message to the queue; a FIFO queue takes no two for one."""
        text = body.to_body() if isinstance(body, Task) else body
        order = {"MessageGroupId": group} if group else {}
        order |= {"MessageDeduplicationId": uuid.uuid4().hex} if self.queue.endswith(".fifo") else {}
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=text, MessageAttributes=attributes or {}, **order)

    def send(self, *bodies: str | Task) -> dict[str, Any]:
        """Send these messages to the queue and receive them again; returns them as an event."""
        for body in bodies:
            self.put(body)
        return self.receive()

    def receive(self) -> dict[str, Any]:
        """Receive what is visible in the queue, as an event."""
        return {
            "Records": [
                {
                    "messageId": message["MessageId"],
                    "receiptHandle": message["ReceiptHandle"],
                    "body": message["Body"],
                    "attributes": message["Attributes"],
                    "eventSourceARN": self.source,
                    "messageAttributes": {
                        name: {"stringValue": value.get("StringValue"), "dataType": value["DataType"]}
                        for name, value in message.get("MessageAttributes", {}).items()
                    },
                }
                for message in self._take(self.queue, MessageAttributeNames=["All"])
            ]
        }

    def run(self, delivered: dict[str, Any], **context: Any) -> list[str]:
        """Run the function on an event; returns the ids that come again."""
        response = batch.handle_batch(delivered, Context(**context))
        assert response.keys() == {"batchItemFailures"}
        return ids(response)

    def dead_letters(self) -> dict[str, dict[str, str]]:
        """Take all dead letters; returns their attributes by body."""
        letters = {}
        for message in self._take(self.dead, MessageAttributeNames=["All"]):
            letters[message["Body"]] = {n: v["StringValue"] for n, v in message["MessageAttributes"].items()}
            self.sqs.delete_message(QueueUrl=self.dead, ReceiptHandle=message["ReceiptHandle"])
        return letters

    def lose_answer(self, number: int) -> list[int]:
        """Lose the answer to the table's request `number`, from 1, so that the SDK asks again; returns all tries."""
        tries: list[int] = []

        def lose(attempts: int, **_: Any) -> float | None:
            tries.append(attempts)
            return 0.0 if attempts == 1 and tries.count(1) == number else None

        batch.client("dynamodb").meta.events.register_first("needs-retry.dynamodb.BatchExecuteStatement", lose)
        return tries

    def lose_answers(self, number: int) -> None:
        """Lose every answer to the table's request `number`, from 1, which takes effect all the same."""
        asked: list[int] = []

        def lose(parsed: dict[str, Any], **_: Any) -> None:
            asked.append(1)
            if len(asked) == number:
                parsed.clear()

        batch.client("dynamodb").meta.events.register("after-call.dynamodb.BatchExecuteStatement", lose)

    def redrive(self) -> None:
        """Send all dead letters to the queue again, bodies and attributes unchanged, as every redrive does."""
        for message in self._take(self.dead, MessageAttributeNames=["All"]):
            self.put(message["Body"], group_of(message), message.get("MessageAttributes", {}))
            self.sqs.delete_message(QueueUrl=self.dead, ReceiptHandle=message["ReceiptHandle"])

    def _take(self, queue: str, **options: Any) -> Iterator[dict[str, Any]]:
        names = ["SentTimestamp", "ApproximateReceiveCount", "MessageGroupId"]
        while found := self.sqs.receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, MessageSystemAttributeNames=names, **options
        ).get("Messages"):
            yield from found
