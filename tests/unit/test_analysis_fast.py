"""Each fast path of the analysis says what the slow, obvious way says."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskq_lib import analysis, plots_latency
from taskq_lib.analysis import NOT_STATED, STATES, claims, failures, latency, ledger, serials, signatures
from taskq_lib.analysis.intervals import needed
from taskq_lib.analysis.inversions import inversions
from tests.unit.frames import at, attempts_frame, dead_frame, manifest_frame, tasks_frame

few = settings(max_examples=30)
ids = st.sampled_from(["a", "b", "c", "d", "e", "é-1"])
columns = st.lists(st.one_of(ids, st.none()), max_size=8).map(lambda values: pd.Series(values, dtype="str"))
#: Durations with many that are equal, and what may not be known.
took = st.one_of(st.sampled_from([-1.5, 0.0, 0.1, 0.3, 7.0]), st.floats(-1e9, 1e9), st.just(float("nan")))
measured = st.lists(st.tuples(took, took, st.sampled_from([0, 5, 9, None]), st.booleans()), max_size=25)
reasons = st.sampled_from([None, "max_attempts", "invalid"])
seconds = st.one_of(st.none(), st.integers(0, 20))


@few
@given(columns, columns)
def test_texts_are_numbered_as_they_appear(one: "pd.Series[str]", other: "pd.Series[str]") -> None:
    """Equal texts share a number, a missing one has its own, and a place is that of the first that is equal."""
    texts = [*one.fillna("missing"), *other.fillna("missing")]
    known = list(dict.fromkeys(texts))
    assert np.concatenate(analysis.numbered(one, other)).tolist() == [known.index(text) for text in texts]
    among = one.fillna("missing").tolist()
    expected = [among.index(text) if text in among else -1 for text in other.fillna("missing")]
    assert analysis.places(other, one).tolist() == expected


@few
@given(measured, st.sampled_from([None, "priority"]), st.lists(st.floats(0, 1), min_size=1, max_size=3, unique=True))
def test_percentiles_are_those_of_a_grouped_frame(
    rows: list[tuple[float, float, int | None, bool]], by: str | None, q: list[float]
) -> None:
    """Counts, percentiles and maxima are pandas' own to the last bit: with ties, gaps, one row, and empty groups."""
    values = [(first, second, second, first) for first, second, *_ in rows]
    frame = pd.DataFrame(values, columns=list(latency.DURATIONS), dtype="float64")
    frame["priority"] = pd.array([priority for _, _, priority, _ in rows], dtype="Int8")
    frame["is_final"] = np.array([final for *_, final in rows], dtype=bool)
    key, final = analysis.group_key(frame, by), frame["is_final"]
    grouped = frame.loc[final, list(latency.DURATIONS)].groupby(key[final], observed=False)
    slow = {f"p{100 * share:g}": grouped.quantile(share) for share in q} | {"max": grouped.max()}
    counts = {"n": grouped.count(), "n_negative": (frame[list(latency.DURATIONS)] < 0)[final].groupby(key[final]).sum()}
    found = latency.percentiles(frame, by, q)
    names = key.cat.categories
    for i, row in enumerate(found.to_dict("records")):
        group, duration = names[i // 4], latency.DURATIONS[i % 4]
        assert (row["group"], row["duration"]) == (group, duration)
        assert row["n"] == counts["n"].loc[group, duration]
        assert row["n_negative"] == counts["n_negative"][duration].get(group, 0)
        assert row["n_censored"] == int((key[~final] == group).sum())
        least = {f"p{100 * share:g}": needed(share) for share in q}
        for name, table in slow.items():
            value = table.loc[group, duration] if row["n"] >= least.get(name, 0) else float("nan")
            assert row[name] == value or np.isnan([row[name], value]).all()
    assert len(found) == 4 * len(names)


@few
@given(
    st.lists(ids, max_size=6),
    st.dictionaries(ids, st.tuples(st.sampled_from(STATES), reasons), max_size=6),
    st.lists(st.tuples(st.one_of(ids, st.none()), reasons), max_size=6),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_the_ledger_is_the_one_of_a_loop(
    sent: list[str],
    statuses: dict[str, tuple[str, str | None]],
    letters: list[tuple[str | None, str | None]],
    knows: tuple[bool, bool, bool],
) -> None:
    """One task after the other, by dictionaries, comes to the same fates, reasons and ids."""
    empty, whole, has_manifest = knows
    tasks = tasks_frame(*({"task_id": one, "state": state, "reason": why} for one, (state, why) in statuses.items()))
    dead = dead_frame(*({"task_id": one, "reason": why} for one, why in letters))
    manifest = manifest_frame(*sent) if has_manifest else None
    account = ledger.close(manifest, tasks, dead, queue_is_empty=empty, dead_is_whole=whole)
    fates: dict[str, str] = {}
    why_of: dict[str, int] = {}
    for one in dict.fromkeys(sent if has_manifest else statuses):
        state, why = statuses.get(one, ("pending", None))
        written = [reason for name, reason in letters if name == one]
        why = why or next((reason for reason in written if reason), None)
        if written and (state in STATES[:-2] if empty else state == "pending"):
            state, why = "dead_lettered", why or "receive_limit"
        elif state == "pending" and empty and whole and not written:
            state = "lost"
        fates[one] = state
        if state == "dead_lettered":
            why_of[why or NOT_STATED] = why_of.get(why or NOT_STATED, 0) + 1
    assert account.by_state == {state: list(fates.values()).count(state) for state in (*STATES, "lost")}
    assert account.by_reason == why_of
    assert account.open_ids == tuple(one for one, state in fates.items() if state in STATES[:-2])
    assert account.lost_ids == tuple(one for one, state in fates.items() if state == "lost")
    assert account.unknown == len(statuses.keys() - fates.keys())


@few
@given(st.lists(st.tuples(ids, st.integers(1, 3), seconds, seconds), max_size=12))
def test_the_back_off_is_that_of_all_attempts_in_order(rows: list[tuple[str, int, int | None, int | None]]) -> None:
    """Looking only at tasks of several attempts gives the same median, retries and tasks as looking at all."""
    moments = [(None if begun is None else at(begun), None if end is None else at(end)) for _, _, begun, end in rows]
    attempts = attempts_frame(
        *(
            {"task_id": one, "attempt": n, "started_at": begun, "finished_at": end, "outcome": "failed"}
            for (one, n, *_), (begun, end) in zip(rows, moments, strict=True)
        )
    )
    tasks = tasks_frame(*({"task_id": one} for one in sorted({one for one, *_ in rows})))
    found = failures.remedies(tasks, attempts)
    in_order = attempts.sort_values(["task_id", "started_at"], kind="stable")
    waited = (in_order["started_at"] - in_order.groupby("task_id")["finished_at"].shift())[in_order["attempt"] > 1]
    median = waited.dt.total_seconds().median()
    assert found["median back-off before a retry, s"] == (None if np.isnan(median) else median)
    assert found["retries"] == sum(n > 1 for _, n, *_ in rows)
    assert found["tasks with a failed attempt"] == len(tasks)


@given(st.text("ab1 -._:", max_size=9), st.lists(st.sampled_from(["{}", " ", "x", "-", ".", ":", "{} {}"]), max_size=6))
def test_an_own_id_between_spaces_needs_no_pattern(own: str, parts: list[str]) -> None:
    """Whether the quick look finds the id or the pattern does, the text that comes out is the same."""
    text = "".join(parts).replace("{}", own)
    slow = signatures._ID_LIKE.sub(lambda found: "0" if found[0] == own else found[0], text)
    error, task_id = pd.Series([text], dtype="str"), pd.Series([own], dtype="str")
    assert signatures._without_own_id(error, task_id).tolist() == [slow if own else text]


@pytest.mark.parametrize("n", [1, 2, 3, 1_999, 2_000, 2_001, 5_003])
def test_a_curve_goes_through_exact_quantiles(n: int) -> None:
    """The points of a curve are numpy's quantiles by the inverted distribution function."""
    values = np.random.default_rng(n).integers(1, 30, n)
    ax = plots_latency.latency_ecdf(latency.durations(tasks_frame(*(_done(int(value)) for value in values))))
    [line] = [line for line in ax.lines if line.get_label() == "end-to-end latency"]
    share = np.asarray(line.get_ydata(), dtype="float64")
    assert np.asarray(line.get_xdata()).tolist() == np.quantile(values, share, method="inverted_cdf").tolist()
    plt.close("all")


def _done(took_s: int) -> dict[str, object]:
    return {"enqueued_at": at(0), "first_started_at": at(0), "last_started_at": at(0), "finished_at": at(took_s)}


heads = st.sampled_from(["", "run-", "é7-", "0-"])
numbers = st.lists(st.integers(0, 30), max_size=12)


@few
@given(heads, st.integers(1, 20), numbers, numbers, st.sampled_from([None, "run-1", "x", "1", "éé"]))
def test_numbered_ids_are_joined_by_their_numbers(
    head: str, n_digits: int, one: list[int], other: list[int], odd: str | None
) -> None:
    """Ids of one head and as many digits get the numbers that any texts get; one that is not alike changes nothing."""
    texts = [[f"{head}{number:0{n_digits}d}" for number in numbers] for numbers in (one, other)]
    if odd:
        texts[1].append(odd)
    first, second = (pd.Series(column, dtype="str") for column in texts)
    slow = pd.factorize(pd.concat([first, second]), use_na_sentinel=False)[0]
    assert np.concatenate(analysis.numbered(first, second)).tolist() == slow.tolist()
    ranks, both = np.concatenate(analysis.ordered(first, second)), texts[0] + texts[1]
    assert [both[i] for i in np.argsort(ranks, kind="stable")] == sorted(both)
    assert len(set(ranks.tolist())) == len(set(both))


def test_ids_that_are_no_numbers_are_not_read_as_such() -> None:
    """Another length, another head, another character, a missing one and numbers far apart are left to the texts."""
    for texts in (["a1", "a02"], ["a1", "b1"], ["a1", "a:"], ["a1", None], ["a000000001", "a999999999"], ["a"], []):
        assert serials.serials_of([pd.Series(texts, dtype="str").array]) is None
    found = serials.serials_of([pd.Series(["a07", "a05"], dtype="str")[1:].array])
    assert found is not None
    assert found.tolist() == [0]


@few
@given(st.lists(st.integers(0, 90), min_size=1, max_size=4), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_inversions_are_those_of_all_pairs(lengths: list[int], near: int, seed: int) -> None:
    """However long the groups and however far from its place each number, a group's sum is its pairs out of order."""
    rng, begin = np.random.default_rng(seed), 0
    groups = [np.argsort(np.argsort(np.arange(n) + rng.random(n) * near)) for n in lengths]
    starts = np.cumsum([0, *lengths])
    whole = np.concatenate([group + start for group, start in zip(groups, starts, strict=False)]).astype(np.int32)
    found = inversions(whole)
    for group in groups:
        pairs = int(np.triu(group[:, None] > group[None, :]).sum())
        assert found[begin : begin + len(group)].sum() == pairs
        begin += len(group)
    assert whole.tolist() == list(range(len(whole)))


logs = st.tuples(ids, st.integers(0, 1), st.integers(1, 3), st.sampled_from(["completed", "failed", "lost"]))


@few
@given(st.lists(logs, max_size=12, unique_by=lambda row: row[:3]), st.sets(ids), st.sampled_from(["", "run-00"]))
def test_attempts_are_classified_as_in_a_loop(
    rows: list[tuple[str, int, int, str]], known: set[str], head: str
) -> None:
    """Sorted and looked at one after the other, attempts are claimed, last and dead as the numbers say."""
    name = {one: f"{head}{ord(one[0]):03d}" if head else one for one in {*known, *(row[0] for row in rows)}}
    tasks = tasks_frame(*({"task_id": name[one], "state": "dead_lettered"} for one in sorted(known)))
    frame = attempts_frame(
        *({"task_id": name[one], "attempt": n, "outcome": end, "request_id": "r"} for one, _, n, end in rows)
    )
    found = claims.classify(tasks, frame.assign(redrive=pd.array([redrive for _, redrive, *_ in rows], dtype="Int32")))
    in_order = sorted((name[one], redrive, n, end) for one, redrive, n, end in rows)
    known_ids = tasks["task_id"].tolist()
    expected = []
    for i, (one, redrive, n, end) in enumerate(in_order):
        before = in_order[i - 1] if i and in_order[i - 1][0] == one else None
        after = in_order[i + 1] if i + 1 < len(in_order) and in_order[i + 1][0] == one else None
        vanished = before is not None and before[1] == redrive and before[3] == "lost"
        kind = ("redriven" if redrive else "first") if n == 1 else "suspect" if vanished else "retry"
        ends = after is None or after[1] != redrive
        dead = ends and end != "completed" and (after is not None or one in known_ids)
        expected.append((one, kind, after is None, dead, known_ids.index(one) if one in known_ids else -1))
    columns = ["task_id", "claimed_as", "is_last", "is_dead", "task"]
    assert list(found[columns].itertuples(index=False, name=None)) == expected
