"""Which records of a FIFO batch may be worked next: in a message group one after another, groups side by side."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from taskq_worker.records import Delivery, Invalid, Record

Parsed = Delivery | Invalid


@dataclass(kw_only=True)
class Line:
    """The records of a batch that wait for their turn."""

    waiting: dict[str | None, deque[Parsed]]  #: By message group, in the order of the queue
    #: Records that are not worked any more, each with the message id of the one that their group stopped at
    behind: list[tuple[str, Record]] = field(default_factory=list)
    _stopped_at: dict[str, str] = field(default_factory=dict)  #: What did not end for good -> its message id

    @classmethod
    def of(cls, records: Iterable[Parsed]) -> Line:
        """Line up the records of an event, in its order, which is that of each group in the queue."""
        waiting: dict[str | None, deque[Parsed]] = {}
        for one in records:
            waiting.setdefault(one.record.message_group, deque()).append(one)
        return cls(waiting=waiting)

    def wave(self) -> list[Parsed]:
        """Take the first record of every group, but no task twice: of two messages of one task one waits.

        Where its task did not end for good, the group of the other message stops as well.
        """
        taken: dict[str, Parsed] = {}
        for waiting in self.waiting.values():
            if not waiting:
                continue
            key = _key(waiting[0])
            if key in self._stopped_at:
                self._leave(waiting, self._stopped_at[key])
            elif key not in taken:
                taken[key] = waiting.popleft()
        return list(taken.values())

    def stop(self, unfinished: Iterable[Parsed]) -> None:
        """Stop the groups of what did not end for good: nothing may overtake it."""
        for one in unfinished:
            self._stopped_at[_key(one)] = one.record.message_id
            self._leave(self.waiting[one.record.message_group], one.record.message_id)

    def rest(self) -> Sequence[Record]:
        """Return what waits still."""
        return [one.record for waiting in self.waiting.values() for one in waiting]

    def _leave(self, waiting: deque[Parsed], message_id: str) -> None:
        self.behind += [(message_id, one.record) for one in waiting]
        waiting.clear()


def _key(one: Parsed) -> str:
    # A task id and a message id may be equal, by somebody's choice; "#" begins no task id.
    return one.task.task_id if isinstance(one, Delivery) else f"#{one.record.message_id}"
