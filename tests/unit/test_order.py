"""The line in which the records of a FIFO batch wait for their turn."""

from hypothesis import given
from hypothesis import strategies as st

from taskq_worker.order import Line, Parsed
from taskq_worker.records import Delivery, parse_record
from tests.unit.events import record, task


def parsed(*named: tuple[str, str]) -> list[Parsed]:
    """Make the records of a batch of task id and group; the id "{" makes an invalid one."""
    bodies = [(task_id if task_id == "{" else task(task_id).to_body(), group) for task_id, group in named]
    return [parse_record(record(body, group=group)) for body, group in bodies]


def places(batch: list[Parsed], some: list[Parsed]) -> list[int]:
    """Return where in the batch these records stand."""
    order = [one.record.message_id for one in batch]
    return sorted(order.index(one.record.message_id) for one in some)


def test_a_wave_is_the_first_of_every_group() -> None:
    """Groups go side by side, each in the order of the event, invalid records in their place like any other."""
    batch = parsed(("a1", "a"), ("a2", "a"), ("{", "b"), ("c1", "c"), ("b2", "b"))
    line = Line.of(batch)
    assert [places(batch, line.wave()) for _ in range(3)] == [[0, 2, 3], [1, 4], []]


def test_what_stands_behind_is_left() -> None:
    """Where a record does not end for good the rest of its group is left, with the id of the one that stopped it."""
    batch = parsed(("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b"))
    line = Line.of(batch)
    line.wave()
    line.stop([batch[0]])
    first = batch[0].record.message_id
    assert line.behind == [(first, batch[1].record), (first, batch[2].record)]
    assert [places(batch, line.wave()) for _ in range(2)] == [[4], []]


def test_two_messages_of_one_task_are_not_in_one_wave() -> None:
    """The second waits for the first; where that does not end for good, the second stops its own group."""
    batch = parsed(("t", "a"), ("t", "b"), ("b2", "b"))
    line = Line.of(batch)
    assert places(batch, line.wave()) == [0]
    assert places(batch, line.wave()) == [1]
    line = Line.of(batch)
    line.wave()
    line.stop([batch[0]])
    assert line.wave() == []
    assert [one for _, one in line.behind] == [batch[1].record, batch[2].record]


def test_what_waits_still_can_be_given_back() -> None:
    """Without time for another wave the rest is what has had no turn, in order, and what was left is not in it."""
    batch = parsed(("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("b3", "b"))
    line = Line.of(batch)
    line.wave()
    line.stop([batch[0]])
    assert line.rest() == [batch[3].record, batch[4].record]


@given(
    named=st.lists(st.tuples(st.sampled_from(["t1", "t2", "t3", "t4", "t5", "t6", "{"]), st.sampled_from("abc"))),
    ends=st.lists(st.booleans(), min_size=40),
)
def test_every_record_has_its_turn_or_is_left(named: list[tuple[str, str]], ends: list[bool]) -> None:
    """Whatever ends for good or not: each record is taken once or left, and only after all ahead of it are final."""
    batch = parsed(*named)
    line, taken, final = Line.of(batch), list[Parsed](), set[str]()
    while wave := line.wave():
        ids = [one.task.task_id for one in wave if isinstance(one, Delivery)]
        assert len(ids) == len(set(ids))
        for one in wave:
            ahead = batch[: places(batch, [one])[0]]
            group = one.record.message_group
            assert all(two.record.message_id in final for two in ahead if two.record.message_group == group)
        ended = [ends[len(taken) + i] if len(taken) + i < len(ends) else True for i in range(len(wave))]
        taken += wave
        final |= {one.record.message_id for one, is_final in zip(wave, ended, strict=True) if is_final}
        line.stop(one for one, is_final in zip(wave, ended, strict=True) if not is_final)
    left = [one for _, one in line.behind]
    assert sorted(one.message_id for one in [*left, *(two.record for two in taken)]) == sorted(
        one.record.message_id for one in batch
    )
    assert line.rest() == []
