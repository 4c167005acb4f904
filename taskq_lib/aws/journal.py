r"""The journal of a redrive: one JSON line an event, on disk before the next request is made.

    (planned) --sending--> (in doubt) --sent--> (sent) --deleted--> gone
                              |   \--failed--> (planned)
                              +---unsent-----> (planned)

A message in doubt may have been sent: its request was made, and its answer was not kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

#: event -> what a message is after it
_AFTER = {"sending": "in doubt", "sent": "sent", "failed": "planned", "unsent": "planned", "deleted": "deleted",
          "absent": "absent"}  # fmt: skip


@dataclass
class Journal:
    """What is known of a redrive's messages; every event is written before it is believed."""

    states: dict[str, str] = field(default_factory=dict)  #: message id -> state; what is not there is planned
    events: dict[str, dict[str, Any]] = field(default_factory=dict)  #: The last event of each kind, as it was written
    file: IO[bytes] | None = field(default=None, repr=False)

    @property
    def finished(self) -> bool:
        """Whether the redrive is over: nothing is left to do, or it was stopped for good."""
        return bool(self.events.keys() & {"finished", "stopped"})

    def state(self, message_id: str) -> str:
        """Return `planned`, `in doubt`, `sent`, `deleted` or `absent`."""
        return self.states.get(message_id, "planned")

    def those(self, state: str) -> list[str]:
        """Return the messages that were last heard of in a state."""
        return [message_id for message_id, found in self.states.items() if found == state]

    def write(self, event: str, messages: Iterable[str] | Mapping[str, str] = (), **facts: Any) -> None:
        """Append an event; `messages` are ids in the dead-letter queue, or those with a text each."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        many = dict(messages) if isinstance(messages, Mapping) else list(messages)
        entry = {"at": at, "event": event, **({"messages": many} if many else {}), **facts}
        if self.file is not None:
            self.file.write(json.dumps(entry).encode() + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())
        self.learn(entry)

    def learn(self, entry: Mapping[str, Any]) -> None:
        """Take an event into account."""
        self.events[entry["event"]] = dict(entry)
        if after := _AFTER.get(entry["event"]):
            self.states |= dict.fromkeys(entry.get("messages", ()), after)


def read(path: Path) -> Journal:
    """Read a journal; a last line that was not written whole counts as not written."""
    journal = Journal()
    for line in _whole(path).splitlines():
        journal.learn(json.loads(line))
    return journal


@contextmanager
def append(path: Path) -> Iterator[Journal]:
    """Open a journal, which need not be there yet, to go on with it."""
    journal = read(path)
    whole = len(_whole(path))
    with path.open("ab") as file:
        file.truncate(whole)
        journal.file = file
        yield journal


def _whole(path: Path) -> bytes:
    """Return the lines of a file that end."""
    text = path.read_bytes() if path.is_file() else b""
    return text[: text.rfind(b"\n") + 1]
