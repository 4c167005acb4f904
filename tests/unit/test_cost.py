"""The bill of a run: quantities follow from its frames, prices from the table; the README says what it comes to."""

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from taskq_lib import PROJECT_ROOT
from taskq_lib.analysis import bill, prices, requests, usage, writes
from taskq_lib.analysis.claims import classify
from taskq_lib.analysis.usage import Setup, Work
from taskq_lib.aws import rules
from taskq_lib.errors import BadInput
from taskq_lib.plots_cost import cost_by_alternative
from taskq_lib.report import cost, data, runs
from taskq_worker import breaker
from taskq_worker.contract import Task, task_types
from tests.unit.frames import at, attempts_frame, manifest_frame, synthetic_run, tasks_frame

RUN_ID = "20261124T020000Z-ab12"
README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
MILLION = 1_000_000


def sends_of(tasks: pd.DataFrame) -> pd.DataFrame:
    """Return what SQS has acknowledged of tasks that all went at the first try."""
    return pd.DataFrame({"task_id": tasks["task_id"], "n_tries": pd.array([1] * len(tasks), dtype="Int32")})


def bodies_of(tasks: pd.DataFrame, n_bytes: int = 250) -> "pd.Series[int]":
    """Return bodies that are all alike."""
    return pd.Series(n_bytes, index=pd.Index(tasks["task_id"]), dtype="int64")


@functools.cache
def plain_run(n: int = 1000) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return tasks and attempts of a run in which all goes well: ten tasks a batch, and a second a batch."""
    common: list[dict[str, Any]] = [
        {"task_id": f"{RUN_ID}-{i:07d}", "run_id": RUN_ID, "request_id": f"{i // 10:036d}", "begun": i // 10 + 0.123}
        for i in range(n)
    ]
    result = json.dumps({"message": "sent", "to": "user0@example.com", "message_id": "m-12345678"})
    times = ("enqueued_at", "sent_at", "first_started_at", "last_started_at")
    tasks = [
        {**row, "result": result, **dict.fromkeys(times, at(row["begun"])), "finished_at": at(row["begun"] + 1)}
        for row in common
    ]
    attempts = [
        {**row, **dict.fromkeys(("received_at", "started_at"), at(row["begun"])), "finished_at": at(row["begun"] + 1)}
        for row in common
    ]
    return tasks_frame(*tasks), attempts_frame(*attempts)


def work_of(tasks: pd.DataFrame, attempts: pd.DataFrame, **options: Any) -> Work:
    """Sum up a run of small messages that was sent as a burst."""
    return usage.of_run(tasks, attempts, sends_of(tasks), bodies_of(tasks), **options)


def usd(work: Work, was: Setup, now: Setup | None = None) -> "pd.Series[float]":
    """Return the dollars of a million tasks by item, at least."""
    found = bill.priced(bill.quantities(work, was, now or was), prices.read(), work.n_tasks, MILLION)
    return pd.Series(found["usd_per_million"].to_numpy(), index=pd.Index(found["item"]))


def ends(frame: pd.DataFrame, item: str, *names: str) -> tuple[float, ...]:
    """Return columns of an item, its least and most quantity unless they are named."""
    [row] = frame[frame["item"] == item].to_dict("records")
    return tuple(float(row[name]) for name in names or ("quantity", "quantity_high"))


# --- what the README says -----------------------------------------------------------------------------------------


def money(value: float) -> str:
    """Write dollars with two digits, half a cent rounded up."""
    return f"${value + 1e-9:,.2f}"


def test_the_readme_says_what_the_model_computes() -> None:
    """Each figure of the README's table of costs is the model's for a plain run at the prices of the table."""
    work, setup = work_of(*plain_run()), cost.setup({})
    items, table = usd(work, setup), prices.read()
    price = prices.per_unit(table)
    send, write = (price[name] * MILLION for name in ("sqs_standard_request", "dynamodb_write_unit"))
    n_low, n_high = idle = ends(bill.quantities(work, setup, setup), "SQS: polls of an idle queue")
    low, high = (money(n * send / MILLION) for n in idle)
    table_usd, index_usd = items["DynamoDB: write items"], items["DynamoDB: write the index by time"]
    n_table, n_index = work.table_units // work.n_tasks, work.index_units // work.n_tasks
    n_requests = (work.sends + work.receives + work.deletes) * MILLION // work.n_tasks
    queue_usd = items[["SQS: send", "SQS: receive", "SQS: delete"]].sum()
    n_calls, call_usd = work.n_seen * MILLION // work.n_tasks, items["Lambda: requests"]
    rest = items[items.index.str.contains("read status|storage|recovery|Logs")].sum()
    metric, alarm, dashboard = (price[f"cloudwatch_{name}"] for name in ("metric", "alarm", "dashboard"))
    n_metrics = setup.metrics_of_stack + setup.metrics_of_type * len(task_types())
    rows = {
        "left deployed and idle": f"{low} to {high} a month: the mapping's long polls, {n_low:,.0f} (2 pollers) to "
        f"{n_high:,.0f} (5) requests at {money(send)} a million",
        "a million tasks, writes of status": f"{money(table_usd + index_usd)}: {n_table + n_index} write units a task "
        f"at ${write:.3f} a million, {n_index} of them for the index by time; {money(table_usd)} with "
        "`TimeIndex=false`",
        "a million tasks, queue": f"{money(queue_usd)}: {n_requests:,} requests (send, receive, delete, ten messages "
        "each)",
        "a million tasks, function": f"{money(call_usd)} for {n_calls:,} invocations, and "
        f"{money(items['Lambda: duration'])} for each second that a batch takes at {setup.memory_mb} MB",
        "a million tasks, the rest": f"about {money(rest)}: two reads of each status, items kept for {setup.ttl_days} "
        f"days, logs for {setup.log_days}",
        "monitoring": f"{money(n_metrics * metric)} a month for {n_metrics} own metrics of {len(task_types())} task "
        f"types ({money(metric)} each, while there are tasks), {money(setup.n_alarms * alarm)} for {setup.n_alarms} "
        f"alarms, {money(dashboard)} for the dashboard; an account's first ten metrics and alarms and three dashboards "
        "are free",
    }
    assert [row for name, text in rows.items() if (row := f"| {name} | {text} |") not in README] == []
    assert f"list prices of {table['region'].iloc[0]} as of {table['as_of'].max()}" in README


# --- quantities ---------------------------------------------------------------------------------------------------


def test_a_plain_run_comes_to_what_can_be_counted_by_hand() -> None:
    """A thousand tasks in batches of ten: 100 of each request, and five write units a task, three by the index."""
    work = work_of(*plain_run())
    assert (work.sends, work.receives, work.deletes, work.n_seen, work.n_unseen) == (100, 100, 100, 100, 0)
    assert (work.visibility_changes, work.dead_letter_sends) == (0, 0)
    assert (work.table_units, work.index_units, work.duration_s) == (2000, 3000, 100.0)


def test_retries_and_dead_letters_cost_requests_and_units() -> None:
    """A task that fails three times is refused as new twice, claimed and recorded thrice, delayed twice and buried."""
    row = {"task_id": "a", "n_attempts": 3, "state": "dead_lettered", "reason": "max_attempts"}
    times = [{"received_at": at(i), "started_at": at(i), "finished_at": at(i + 0.5)} for i in range(3)]
    failed = {"task_id": "a", "outcome": "failed", "error_type": "E", "error": "no"}
    attempts = attempts_frame(*({**failed, **times[i], "attempt": i + 1, "request_id": f"r{i}"} for i in range(3)))
    tasks = tasks_frame(row)
    written = writes.statements(tasks, classify(tasks, attempts))
    assert written["statement"].value_counts().to_dict() == {
        "record": 3, "insert refused": 2, "claim again": 2, "insert": 1,
    }  # fmt: skip
    work = work_of(tasks, attempts)
    assert (work.visibility_changes, work.dead_letter_sends, work.deletes, work.receives) == (2, 1, 1, 3)
    # Of the table 1 + 2 (refused) + 2 + 3; of the index 1 + 2 x 2 + 2 x 3.
    assert (work.table_units, work.index_units) == (8, 11)


def test_a_large_item_costs_more_units() -> None:
    """An item of more than 1 KB is charged by each KB begun, before and after, in table and index."""
    tasks, attempts = plain_run(10)
    results = ["x" * 3000, *tasks["result"].tolist()[1:]]
    work = work_of(tasks.assign(result=pd.array(results, dtype="str")), attempts)
    # Recording it takes 4 units of the table instead of 1; the index deletes 1 and inserts 4 instead of 1.
    assert (work.table_units, work.index_units) == (20 + 3, 30 + 3)


def test_a_large_message_is_billed_in_chunks() -> None:
    """A message of 200,000 bytes is four chunks of 64 KiB when it is sent, and when it is received."""
    tasks, attempts = plain_run(10)
    bodies = bodies_of(tasks)
    bodies.iloc[0] = 200_000
    work = usage.of_run(tasks, attempts, sends_of(tasks), bodies)
    assert (work.sends, work.receives, work.deletes) == (4, 4, 1)


def test_messages_that_arrive_over_time_are_taken_to_be_sent_alone() -> None:
    """Without a burst nothing says which messages shared a request: the most is assumed, and said to be."""
    work = work_of(*plain_run(30), is_burst=False)
    assert (work.sends, work.sends_source) == (30, "assumed")


def test_what_is_billed_is_believed_before_what_is_computed() -> None:
    """Where Lambda has said what it billed of an invocation, that counts; another is taken from its times."""
    tasks, attempts = plain_run(20)
    ids = attempts["request_id"].unique()
    work = work_of(tasks, attempts, billed_s=pd.Series([0.25], index=pd.Index(ids[:1])))
    assert (work.duration_s, work.duration_source) == (1.25, "counted")
    assert work_of(tasks, attempts).duration_source == "computed"


@pytest.mark.parametrize("seed", range(3))
def test_any_run_keeps_to_its_bounds(seed: int) -> None:
    """Each invocation has one to ten receives' worth; each attempt that was recorded two statements, or more."""
    run = synthetic_run(300, seed=seed, failing=2.0, open_share=0.1)
    tasks = run.tasks.assign(n_redrives=0)
    written = writes.statements(tasks, classify(tasks, run.attempts))
    n_recorded = int(run.attempts["outcome"].ne("lost").sum())
    assert written["statement"].eq("record").sum() >= n_recorded
    assert (written["table_units"] >= 1).all()
    assert (written.loc[written["statement"].str.endswith("refused"), "index_units"] == 0).all()
    batches = requests.of_batches(tasks, classify(tasks, run.attempts), bodies_of(tasks))
    assert batches["n_records"].sum() >= len(run.attempts)
    assert (batches["n_ended"] <= batches["n_records"]).all()
    work = work_of(tasks, run.attempts)
    assert 0 <= work.breaker_units[0] <= work.breaker_units[1]


def test_a_run_without_attempts_has_a_bill() -> None:
    """Of tasks that were sent and never started there is a bill of what was sent and stored."""
    tasks = tasks_frame({"state": "pending", "n_attempts": None, "n_duplicates": None})
    work = work_of(tasks, attempts_frame())
    assert (work.n_seen, work.table_units, work.sends, work.duration_s) == (0, 0, 1, 0.0)
    assert np.isfinite(usd(work, Setup())).all()


def test_the_breakers_are_reported_to_as_often_as_the_function_does() -> None:
    """The bound on reports rests on the function's own interval."""
    assert usage.REPORT_S == breaker.REPORT_S


# --- alternatives -------------------------------------------------------------------------------------------------


def test_alternatives_change_one_thing() -> None:
    """What a user would weigh is there, the setup itself first, and nothing that he has already."""
    names = ["index by time off", "batches of 100", "512 MB", "arm64", "FIFO queue", "own metrics off"]
    now = Setup(metrics_of_stack=6, metrics_of_type=5)
    assert list(bill.alternatives(now)) == ["as it is", *names]
    other = replace(now, has_index=False, batch_size=100, memory_mb=512, architecture="arm64", metrics_of_stack=0)
    assert {"index by time on", "batches of 10", "128 MB", "x86_64"} <= set(bill.alternatives(other))
    fifo = bill.alternatives(Setup(is_fifo=True))
    assert "standard queue" in fifo
    assert "batches of 100" not in fifo
    assert bill.alternatives(other)["FIFO queue"].batch_size == 10


def test_more_memory_is_a_range() -> None:
    """Four times the memory costs the same where the work is all CPU, and four times where it is all waiting."""
    work = work_of(*plain_run())
    more = bill.quantities(work, Setup(), Setup(memory_mb=512))
    assert ends(more, "Lambda: duration") == (12.5, 50.0)
    assert more.loc[more["item"] == "Lambda: duration", "source"].tolist() == ["assumed"]
    assert ends(bill.quantities(work, Setup(memory_mb=512), Setup()), "Lambda: duration") == (12.5, 50.0)


def test_larger_batches_are_a_range() -> None:
    """Batches of 100 are a tenth as many at best, and no fewer at worst; SQS's requests stay what they are."""
    work = work_of(*plain_run())
    now, then = (bill.quantities(work, Setup(), Setup(batch_size=size)) for size in (10, 100))
    assert ends(then, "Lambda: requests") == (10.0, 100.0)
    assert ends(then, "Lambda: duration") == (1.25, 12.5)
    assert now[now["item"].str.startswith("SQS")].equals(then[then["item"].str.startswith("SQS")])
    back = bill.quantities(work, Setup(batch_size=100), Setup(batch_size=10))
    assert ends(back, "Lambda: requests") == (100.0, 1000.0)


def test_alternatives_cost_what_their_prices_say() -> None:
    """Without the index its writes and its storage go; arm64 is a fifth off the time; FIFO a quarter on requests."""
    work = work_of(*plain_run())
    now = usd(work, Setup())
    no_index, arm, fifo = (
        usd(work, Setup(), other)
        for other in (Setup(has_index=False), Setup(architecture="arm64"), Setup(is_fifo=True))
    )
    assert "DynamoDB: write the index by time" not in no_index
    assert no_index["DynamoDB: storage"] == pytest.approx(now["DynamoDB: storage"] / 2)
    assert arm["Lambda: duration"] == pytest.approx(0.8 * now["Lambda: duration"], rel=1e-4)
    assert fifo["SQS: send"] == pytest.approx(1.25 * now["SQS: send"])
    emitting = Setup(metrics_of_stack=6, metrics_of_type=5)
    saved = usd(work, emitting).sum() - usd(work, emitting, bill.alternatives(emitting)["own metrics off"]).sum()
    # Eleven metrics at 30 cents, and their lines in the log.
    assert 0.3 * 11 < saved < 0.3 * 11 + 0.5


def test_a_replica_is_written_and_stored_once_more() -> None:
    """Each write, what is stored and what can be restored is paid for in each region; all else once."""
    work = work_of(*plain_run())
    one, two = (usd(work, Setup(n_regions=n)) for n in (1, 2))
    kinds = ("DynamoDB: write", "DynamoDB: storage", "DynamoDB: point-in-time")
    paid_twice = one.index.str.startswith(kinds)
    assert two[paid_twice].to_numpy() == pytest.approx(2 * one[paid_twice].to_numpy())
    assert two[~paid_twice].equals(one[~paid_twice])
    assert cost.setup({"ReplicaRegion": "eu-west-1"}).n_regions == 2
    assert cost.setup({}).n_regions == 1


def test_message_groups_cost_the_share_of_tasks_that_have_one() -> None:
    """A quarter of the tasks with a group pay the surcharge of fair queues on a quarter of the requests to send."""
    tasks, attempts = plain_run()
    groups = pd.array(["tenant" if i % 4 == 0 else None for i in range(len(tasks))], dtype="str")
    work = work_of(tasks.assign(message_group=groups), attempts)
    assert (work.sends, work.grouped_sends) == (100, 25)
    assert ends(bill.quantities(work, Setup(), Setup()), "SQS: message groups") == (25.0, 25.0)
    assert work_of(tasks, attempts).grouped_sends == 0


def test_the_standard_queue_instead_of_a_fifo_one_has_no_groups() -> None:
    """The groups of a FIFO run keep its order; a standard queue that takes its place is a plain one, not a fair one."""
    tasks, attempts = plain_run(100)
    groups = pd.array(["group"] * len(tasks), dtype="str")
    work, fifo = work_of(tasks.assign(message_group=groups), attempts), Setup(is_fifo=True)
    standard = bill.alternatives(fifo)["standard queue"]
    for setup in (fifo, standard):
        assert "SQS: message groups" not in set(bill.quantities(work, fifo, setup)["item"])


def test_what_is_paid_by_the_month_is_spread_over_the_tasks() -> None:
    """Twice the tasks a month halve what alarms cost each, and leave what a run costs as it is."""
    work, setup = work_of(*plain_run()), Setup(n_alarms=10, n_dashboards=1, minimum_pollers=2)
    found = bill.quantities(work, setup, setup)
    one, two = (bill.priced(found, prices.read(), work.n_tasks, n) for n in (MILLION, 2 * MILLION))
    for item in ("CloudWatch: alarms", "CloudWatch: dashboard", "Lambda: event pollers", "SQS: polls of an idle queue"):
        assert ends(two, item, "usd_per_million")[0] == pytest.approx(ends(one, item, "usd_per_million")[0] / 2)
    assert ends(two, "SQS: send", "usd_per_million") == ends(one, "SQS: send", "usd_per_million")
    assert ends(one, "CloudWatch: alarms", "usd") == pytest.approx((1.0,))
    # Two event pollers: 13.5 dollars a month.
    assert ends(one, "Lambda: event pollers", "usd") == pytest.approx((13.505,))


def test_a_bill_needs_tasks() -> None:
    """No cost by task is made up where there are none."""
    work = work_of(*plain_run(10))
    with pytest.raises(BadInput, match="A cost by task needs tasks"):
        bill.priced(bill.quantities(work, Setup(), Setup()), prices.read(), 0, MILLION)


def test_sources_are_of_three_kinds_and_every_item_has_a_price() -> None:
    """A quantity is counted, computed or assumed; its price is in the table, and its unit is the table's."""
    work = replace(work_of(*plain_run(10)), grouped_sends=1)
    for setup in (Setup(minimum_pollers=2), Setup(is_fifo=True, architecture="arm64", has_recovery=False, ttl_days=0)):
        found = bill.quantities(work, setup, setup)
        assert set(found["source"]) <= {"counted", "computed", "assumed"}
        assert (found["price"].map(prices.UNITS) == found["unit"]).all()
        assert (found["quantity"] <= found["quantity_high"]).all()
        assert found["item"].is_unique


# --- a run's folder -----------------------------------------------------------------------------------------------

CHOSEN: dict[str, Any] = {"run_id": "", "price_table": "", "tasks_per_month": MILLION}


def kept(root: Path, **sections: Any) -> data.Data:
    """Keep a plain run in a folder, and load it as the notebook does."""
    tasks, attempts = plain_run(20)
    run = runs.create(RUN_ID, root)
    manifest = manifest_frame(*tasks["task_id"]).assign(data='{"to":"a@example.com"}', offset_s=0.0)
    dead = pd.DataFrame({"task_id": pd.array([], dtype="str")})
    frames = {"manifest": manifest, "tasks": tasks, "attempts": attempts, "sends": sends_of(tasks), "dead": dead}
    for name, frame in frames.items():
        run.save(name, frame)
    run.record(**sections)
    return data.load(CHOSEN | {"runs_dir": str(root)})


def test_a_run_is_priced_from_its_folder(tmp_path: Path) -> None:
    """Frames and the template's values are all that a bill needs; what it says goes into the results."""
    found = cost.of_run(kept(tmp_path, template={"TimeIndex": "false", "FunctionMemoryMb": "256"}), CHOSEN)
    assert (found.n_tasks, found.n_open) == (20, 0)
    assert found.by_alternative["alternative"].tolist()[:2] == ["as it is", "index by time on"]
    assert "DynamoDB: write the index by time" not in set(found.items["item"])
    assert ends(found.items, "Lambda: duration", "quantity") == (2 * 256 / 1024,)
    section = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert section["prices"] == {"region": "us-east-1", "as_of": prices.read()["as_of"].max()}
    assert section["usd_per_million"] == pytest.approx(found.items["usd_per_million"].sum())
    assert "US dollars" in found.dated
    assert "2 of 16 are from memory" in found.dated


def test_platform_reports_are_used_where_a_run_keeps_them(tmp_path: Path) -> None:
    """A run that has kept what Lambda reported is billed by it."""
    loaded = kept(tmp_path, template={})
    assert loaded.run is not None
    ids = loaded.attempts["request_id"].unique()
    loaded.run.save("reports", pd.DataFrame({"request_id": ids, "billed_s": [0.5, None]}))
    items = cost.of_run(loaded, CHOSEN).items
    assert ends(items, "Lambda: duration", "quantity") == (1.5 / 8,)
    assert items.loc[items["item"] == "Lambda: duration", "source"].tolist() == ["counted"]


def test_a_run_that_does_not_say_how_it_was_deployed_has_no_bill(tmp_path: Path) -> None:
    """Without the template's values there is nothing to price by, and the error says what is missing."""
    with pytest.raises(BadInput, match="does not say how its stack was deployed"):
        cost.of_run(kept(tmp_path), CHOSEN)
    loaded = replace(kept(tmp_path / "other", template={}), run=None)
    with pytest.raises(BadInput, match="A cost is that of a run"):
        cost.of_run(loaded, CHOSEN)


def test_a_table_of_ones_own_sets_the_prices(tmp_path: Path) -> None:
    """A price that is doubled in the user's table doubles its items, and no others."""
    loaded = kept(tmp_path, template={})
    rows = [
        line.replace("0.625", "1.25") if line.startswith("dynamodb_write_unit") else line
        for line in prices.TABLE.read_text().splitlines()
    ]
    own = tmp_path / "own.csv"
    own.write_text("\n".join(rows))
    first, second = (cost.of_run(loaded, CHOSEN | {"price_table": str(path)}).items for path in ("", own))
    writes_of = first["price"].eq("dynamodb_write_unit")
    ratio = (second["usd"] / first["usd"]).fillna(1.0)
    assert (ratio[writes_of] == 2.0).all()
    assert (ratio[~writes_of] == 1.0).all()


def test_the_bytes_of_a_body_are_its_own() -> None:
    """A body's size is computed from the manifest as the contract writes it."""
    values = {"to": "ä@example.com", "simulate": {"seconds": 0.05}}
    texts = [json.dumps(values, separators=(",", ":")), "{}"]
    manifest = manifest_frame("a", "task-b").assign(data=texts)
    tasks = [Task(task_id="a", type="SEND_EMAIL", data=values, run_id=RUN_ID, enqueued_at=1764000000.123)]
    assert cost.body_bytes(manifest, RUN_ID)["a"] == len(tasks[0].to_body())
    assert cost.body_bytes(manifest.head(0), RUN_ID).empty


def test_resources_are_counted_as_the_template_makes_them() -> None:
    """A resource whose condition does not hold, by itself or by one that it is made of, is not paid for."""
    text = """
Conditions:
  HasAlarms: !Equals [!Ref Alarms, "true"]
  HasBoth: !And [!Condition HasAlarms, !Not [!Equals [!Ref Second, none]]]
Resources:
  Always: {Type: AWS::CloudWatch::Alarm}
  First: {Type: AWS::CloudWatch::Alarm, Condition: HasAlarms}
  Second: {Type: AWS::CloudWatch::Alarm, Condition: HasBoth}
  Other: {Type: AWS::SNS::Topic, Condition: HasAlarms}
"""
    for alarms, second, n in (("true", "type", 3), ("true", "none", 2), ("false", "type", 1)):
        assert rules.n_resources(text, "AWS::CloudWatch::Alarm", {"Alarms": alarms, "Second": second}) == n


# --- the figure ---------------------------------------------------------------------------------------------------


def test_the_figure_shows_every_alternative_and_its_range(tmp_path: Path) -> None:
    """A bar for each setup as long as its least, with both ends in words; without prices a sentence."""
    found = cost.of_run(kept(tmp_path, template={}), CHOSEN)
    ax = cost_by_alternative(found.alternatives)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == found.by_alternative["alternative"].tolist()
    lengths = {
        round(box.y0 + 0.35): box.x1
        for box in (bar.get_extents().transformed(ax.transData.inverted()) for bar in ax.patches)
    }
    assert list(lengths.values()) == pytest.approx(found.by_alternative["from_usd"].tolist())
    assert "US dollars" in ax.get_xlabel()
    first = found.by_alternative.iloc[0]
    assert ax.texts[0].get_text() == f"\\${first['from_usd']:,.2f} to \\${first['to_usd']:,.2f}"
    empty = cost_by_alternative(found.alternatives.head(0))
    assert "no task was priced" in empty.texts[0].get_text()
