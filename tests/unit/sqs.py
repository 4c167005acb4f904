"""SQS in memory, for tests of what it refuses, forgets, hides and counts late."""

import itertools
from typing import Any

from taskq_lib.aws import redrive
from taskq_lib.aws.stack import Stack
from taskq_lib.aws.target import Target
from taskq_worker.contract import MAX_BODY_BYTES, parse_body
from tests.unit.events import task


class Sqs:
    """A queue and its dead-letter queue in memory, with the limits of SQS and faults that a test sets."""

    def __init__(self, *bodies: str, attributes: dict[str, Any] | None = None) -> None:
        """Hold one dead letter a body."""
        shared = {"MessageAttributes": attributes} if attributes else {}
        self.dead = {f"m{i}": {"MessageId": f"m{i}", "Body": body, **shared} for i, body in enumerate(bodies)}
        self.hidden: dict[str, str] = {}  # handle -> message id
        self.queue: list[dict[str, Any]] = []
        self.n_sent: list[int] = []
        self.unsendable: set[str] = set()
        self.undeletable: set[str] = set()
        self.unanswered: set[str] = set()  # names of tasks of which an answer says nothing
        self.moved: set[str] = set()  # what SQS moved by itself
        self.n_handed_out = 1_000_000  # no more are hidden at a time
        self.n_late = 0  # so many counts still say that one is hidden
        self.handles = itertools.count()

    def get_queue_attributes(self, *, QueueUrl: str, AttributeNames: list[str], **_: Any) -> dict[str, Any]:  # noqa: N803 - boto3's own names
        """Count; what was hidden is counted so for a while."""
        counts = [len(self.queue), 0, 0]
        if QueueUrl == "https://dead":
            late = int(self.n_late > 0 and not self.hidden)
            self.n_late -= late
            counts = [len(self.dead) - len(self.hidden) - late, len(self.hidden) + late, 0]
        return {"Attributes": dict(zip(AttributeNames, map(str, counts), strict=True))}

    def receive_message(self, *, MaxNumberOfMessages: int, **_: Any) -> dict[str, Any]:  # noqa: N803
        """Hand out what is visible."""
        n = min(MaxNumberOfMessages, self.n_handed_out - len(self.hidden))
        visible = [one for one in self.dead if one not in self.hidden.values()][:n]
        fresh = {f"h{next(self.handles)}": one for one in visible}
        self.hidden |= fresh
        system = {"SentTimestamp": "1800000000000", "ApproximateReceiveCount": "1"}
        by_sqs = {"DeadLetterQueueSourceArn": "arn:aws:sqs:us-east-1:1:queue"}
        return {
            "Messages": [
                {**self.dead[one], "ReceiptHandle": h, "Attributes": system | (by_sqs if one in self.moved else {})}
                for h, one in fresh.items()
            ]
        }

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Take what is sendable, if the request keeps to the limits."""
        assert QueueUrl == "https://queue"
        assert len(Entries) <= 10
        assert sum(map(redrive.size, Entries)) <= MAX_BODY_BYTES
        self.n_sent.append(len(Entries))
        bad = [e for e in Entries if parse_body(e["MessageBody"]).task_id in self.unsendable]
        good = [e for e in Entries if e not in bad]
        self.queue += good
        return {
            "Successful": [
                {"Id": e["Id"], "MessageId": f"n{e['Id']}"}
                for e in good
                if parse_body(e["MessageBody"]).task_id not in self.unanswered
            ],
            "Failed": [{"Id": e["Id"], "Code": "Throttled", "Message": "slow", "SenderFault": False} for e in bad],
        }

    def delete_message_batch(self, *, Entries: list[dict[str, Any]], **_: Any) -> dict[str, Any]:  # noqa: N803
        """Delete what can be."""
        assert len(Entries) <= 10
        answer: dict[str, Any] = {"Successful": [], "Failed": []}
        for entry in Entries:
            message_id = self.hidden[entry["ReceiptHandle"]]
            if message_id in self.undeletable:
                answer["Failed"].append({"Id": entry["Id"], "Code": "Internal", "Message": "later"})
            else:
                del self.hidden[entry["ReceiptHandle"]], self.dead[message_id]
                answer["Successful"].append({"Id": entry["Id"]})
        return answer

    def change_message_visibility_batch(self, *, Entries: list[dict[str, Any]], **_: Any) -> None:  # noqa: N803
        """Show again."""
        assert len(Entries) <= 10
        for entry in Entries:
            assert entry["VisibilityTimeout"] == 0
            self.hidden.pop(entry["ReceiptHandle"])

    @property
    def sent(self) -> list[str]:
        """The ids of the tasks that are in the queue, in order."""
        return [parse_body(entry["MessageBody"]).task_id for entry in self.queue]


def stack(sqs: object) -> Stack:
    """Make a stack whose target knows this SQS client alone."""
    target = Target(name="local", session=None, region="us-east-1", _clients={"sqs": sqs})
    outputs = {"QueueUrl": "https://queue", "DeadLetterQueueUrl": "https://dead"}
    return Stack(target=target, name="s", status="CREATE_COMPLETE", parameters={}, outputs=outputs)


def bodies(n: int) -> list[str]:
    """Make bodies of tasks t0, t1, ...; message m<i> carries task t<i>."""
    return [task(f"t{i}").to_body() for i in range(n)]
