"""The embedded engine is started, found and stopped, and leaves nothing running, whatever happens to whom."""

import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest

from taskq_lib.errors import BadInput, EngineFailed, EngineNotRunning
from taskq_lib.local import engine
from taskq_lib.local.engine import Engine

pytestmark = pytest.mark.integration

HANDLER = """
import os, pathlib, time

def handler(event, context):
    if "begun" in event:
        pathlib.Path(event["begun"]).write_text(str(os.getpid()))
    time.sleep(event.get("sleep_s", 0))
    for number in range(event.get("lines", 0)):
        print("line", number)
    if "error" in event:
        raise ValueError(event["error"])
    if "list_queues" in event:
        return {"queues": __import__("boto3").client("sqs").list_queues()["QueueUrls"]}
    if "no_json" in event:
        return {1, 2}
    return {"pid": os.getpid(), "file": __file__, "environment": dict(os.environ)}
"""
RUN = """
import signal, sys, time
from taskq_lib.local import engine

# A shell that starts the tests in its background has them ignore Ctrl-C, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with engine.running() as running:
    print(running.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder of the test's own, with nothing of it left running."""
    monkeypatch.setenv("TASKQ_STATE_DIR", str(tmp_path / "state"))
    # A profile that a developer works with is unknown to the engine.
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    yield engine.state_dir()
    engine.stop()


def client(service: str, at: Engine) -> Any:
    """A client of the engine."""
    return boto3.client(
        service,
        endpoint_url=at.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 - the engine's, not a secret
    )


def create_function(at: Engine) -> Any:
    """Create the function `f` of `HANDLER` and return the client to invoke it with."""
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("index.py", HANDLER)
    functions = client("lambda", at)
    functions.create_function(
        FunctionName="f",
        Runtime="python3.11",
        Handler="index.handler",
        Role="arn:aws:iam::000000000000:role/f",
        Timeout=60,
        Code={"ZipFile": code.getvalue()},
    )
    return functions


def invoke(functions: Any, **event: Any) -> dict[str, Any]:
    """Invoke `f` and return what its handler returns."""
    answer: dict[str, Any] = json.load(functions.invoke(FunctionName="f", Payload=json.dumps(event))["Payload"])
    return answer


def begin_a_long_task(functions: Any, tmp_path: Path) -> int:
    """Invoke `f` without waiting for its end, and return the process id of its worker once it is at work."""
    begun = tmp_path / "begun"
    event = {"sleep_s": 60, "begun": str(begun)}
    functions.invoke(FunctionName="f", InvocationType="Event", Payload=json.dumps(event))
    wait_until(lambda: begun.exists() and begun.read_text() != "", "the handler runs")
    return int(begun.read_text())


def run(code: str) -> str:
    """Run `code`, which uses `engine`, in another process and return what it prints."""
    command = [sys.executable, "-c", f"from taskq_lib.local import engine; {code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait up to 10 s until `holds()`."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def alive(process: psutil.Process) -> bool:
    """Whether `process` still does something; an orphan that has ended stays a zombie until the system collects it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_nothing_is_left(folder: Path, processes: list[psutil.Process]) -> None:
    """None of `processes` is alive or a zombie of ours, and of the state folder only lock and log are left."""
    assert [process for process in processes if alive(process)] == []
    wait_until(lambda: not set(processes) & set(psutil.Process().children()), "the engine is collected")
    assert sorted(path.name for path in folder.iterdir()) == ["engine.lock", "engine.log"]


def test_another_process_finds_and_stops_the_engine(folder: Path) -> None:
    """The engine answers at its URL, is the same for every process that asks, and any of them can stop it, once."""
    started = engine.start()
    assert client("sqs", started).list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert run("print(engine.find().endpoint_url)") == started.endpoint_url == f"http://127.0.0.1:{started.port}"
    assert engine.start() == engine.start(started.port) == engine.find() == started
    assert engine.status()["state"] == "running"
    process = psutil.Process(started.pid)
    assert run("print(engine.stop())") == "True"
    assert_nothing_is_left(folder, [process])
    assert engine.stop() is False
    with pytest.raises(EngineNotRunning, match="not running"):
        engine.find()


@pytest.mark.usefixtures("folder")
def test_a_running_engine_keeps_its_port() -> None:
    """Asking for another port than the running engine's is refused; after a stop the same port can be had again."""
    port = engine.start().port
    other = port - 1
    with pytest.raises(BadInput, match=f"already runs on port {port}.*port {other}"):
        engine.start(other)
    queues = client("sqs", engine.find())
    queues.create_queue(QueueName="q")
    engine.stop()
    again = engine.start(port)
    assert again.port == port
    assert not queues.list_queues().get("QueueUrls")


@pytest.mark.usefixtures("folder")
def test_it_listens_on_loopback_alone() -> None:
    """The engine listens on one port of 127.0.0.1 and on no other address."""
    started = engine.start()
    create_function(started)
    sockets = psutil.Process(started.pid).net_connections("inet")
    listening = [tuple(s.laddr) for s in sockets if s.status in {psutil.CONN_LISTEN, psutil.CONN_NONE}]
    assert listening == [("127.0.0.1", started.port)]


def test_stop_leaves_no_worker_behind(folder: Path, tmp_path: Path) -> None:
    """A stop ends the engine and its function workers, the one in the middle of a task included."""
    started = engine.start()
    functions = create_function(started)
    busy = begin_a_long_task(functions, tmp_path)
    idle = invoke(functions)["pid"]
    processes = [psutil.Process(started.pid), *psutil.Process(started.pid).children(recursive=True)]
    assert {process.pid for process in processes} == {started.pid, busy, idle}
    assert engine.status()["rss_bytes"] == pytest.approx(sum(p.memory_info().rss for p in processes), rel=0.1)
    assert engine.stop() is True
    assert_nothing_is_left(folder, processes)


def test_a_worker_sees_nothing_of_the_callers_account(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials, profile and endpoint of the caller reach no function; its files are in the private folder."""
    real = {
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SECRET_ACCESS_KEY": "real-key",
        "AWS_SESSION_TOKEN": "real-token",
        "AWS_PROFILE": "real-profile",
        "AWS_ENDPOINT_URL": "https://real-endpoint",
        "AWS_ENDPOINT_URL_SQS": "https://real-endpoint",
    }
    with monkeypatch.context() as callers:
        for name, value in real.items():
            callers.setenv(name, value)
        started = engine.start()
    answer = invoke(create_function(started))
    environment = answer["environment"]
    assert not set(real.values()) & set(environment.values())
    assert environment["AWS_ENDPOINT_URL"] == started.endpoint_url
    assert environment["AWS_CONFIG_FILE"] == environment["AWS_SHARED_CREDENTIALS_FILE"] == os.devnull
    assert environment["PATH"] == os.environ["PATH"]
    assert Path(answer["file"]).is_relative_to(folder / "tmp")


@pytest.mark.usefixtures("folder")
def test_a_proxy_does_not_stand_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the caller reaches the outside by a proxy, the engine still starts and its functions still reach it."""
    with monkeypatch.context() as callers:
        for name in ("HTTP_PROXY", "http_proxy"):
            callers.setenv(name, "http://127.0.0.1:9")
        started = engine.start()
    client("sqs", started).create_queue(QueueName="q")
    [url] = invoke(create_function(started), list_queues=True)["queues"]
    assert url.endswith("/q")


@pytest.mark.usefixtures("folder")
def test_all_that_a_function_prints_is_in_its_log() -> None:
    """Each invocation's log has its own lines, all of them and no other, whether it prints, says nothing or fails."""
    functions = create_function(engine.start())

    def log(**event: Any) -> str:
        answer = functions.invoke(FunctionName="f", LogType="Tail", Payload=json.dumps(event))
        return base64.b64decode(answer.get("LogResult", "")).decode().rstrip("\n")

    for n_lines in (3, 0, 300, 1):
        assert log(lines=n_lines) == "\n".join(f"line {i}" for i in range(n_lines))
    assert log(lines=2, error="no luck").startswith("line 0\nline 1\nTraceback")
    assert re.match(r"line 0\n+Traceback", failed := log(lines=1, no_json=True))
    assert not re.search(r"[0-9a-f]{32}", failed)
    assert log(lines=1) == "line 0"


def test_a_killed_engine_is_noticed_and_its_workers_ended(folder: Path, tmp_path: Path) -> None:
    """After kill -9 `find` says so; the next start ends the worker that was left at its task, and begins anew."""
    started = engine.start()
    functions = create_function(started)
    worker = psutil.Process(begin_a_long_task(functions, tmp_path))
    os.kill(started.pid, signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(started.pid), "the engine is collected")
    assert engine.status()["state"] == "dead"
    with pytest.raises(EngineNotRunning, match=f"died: process {started.pid}"):
        engine.find()
    assert alive(worker)
    again = engine.start()
    assert again.pid != started.pid
    assert not alive(worker)
    assert not list((folder / "tmp").glob("ministack-lambda-*"))


def test_two_starts_at_a_time_give_one_engine(folder: Path) -> None:
    """Processes that start the engine at the same moment all get the same one."""
    with ThreadPoolExecutor() as pool:
        pids = set(pool.map(run, ["print(engine.start().pid)"] * 4))
    assert pids == {str(engine.find().pid)}
    processes = [psutil.Process(engine.find().pid)]
    assert engine.stop() is True
    assert_nothing_is_left(folder, processes)


@pytest.mark.parametrize(
    "numbers",
    [[signal.SIGINT], [signal.SIGINT, signal.SIGINT], [signal.SIGTERM]],
    ids=["Ctrl-C", "Ctrl-C twice", "SIGTERM"],
)
def test_an_interrupted_script_leaves_nothing_running(folder: Path, numbers: list[signal.Signals]) -> None:
    """A script within `running()` takes its engine along at Ctrl-C, at a second one, and when told to end."""
    with subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as script:
        assert script.stdout is not None
        process = psutil.Process(int(script.stdout.readline()))
        assert engine.find().pid == process.pid
        for number in numbers:
            script.send_signal(number)
            # Less than the stop takes.
            time.sleep(0.02)
        assert script.wait(10) != 0
    assert_nothing_is_left(folder, [process])


def test_running_leaves_an_engine_that_was_up(folder: Path) -> None:
    """`running()` stops the engine it started, also after an error, and leaves one that was there before."""
    processes: list[psutil.Process] = []

    def work() -> None:
        with engine.running() as outer:
            with engine.running() as inner:
                assert inner == outer
            assert engine.find() == outer
            processes.append(psutil.Process(outer.pid))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert_nothing_is_left(folder, processes)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('no such luck'); raise SystemExit(3)", "ended with exit code 3"),
        ("import time; print('no such luck', flush=True); time.sleep(60)", "did not answer within 2 s"),
    ],
)
def test_a_start_that_fails_tells_why_and_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    """An engine that ends or stays silent at start is reported with the end of its log, and is cleared away."""
    package = tmp_path / "path" / "ministack"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "app.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setattr(engine, "START_TIMEOUT_S", 2.0)
    with pytest.raises(EngineFailed, match=rf"(?s){reason}.*engine\.log.*no such luck"):
        engine.start()
    assert engine.status() == {"state": "stopped", "rss_bytes": 0}
    assert_nothing_is_left(folder, [])


def test_an_engine_that_hangs_is_reported_and_can_be_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A running engine that does not answer is not handed out; `stop` ends it by force."""
    monkeypatch.setattr(engine, "STOP_TIMEOUT_S", 0.5)
    monkeypatch.setattr(engine, "ANSWER_TIMEOUT_S", 0.5)
    process = psutil.Process(engine.start().pid)
    process.suspend()
    with pytest.raises(EngineFailed, match="does not answer"):
        engine.start()
    assert engine.stop() is True
    assert_nothing_is_left(folder, [process])


def test_what_the_engine_drops_is_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, the pinned version keeps a maximum concurrency that its poller cannot compare with, and no pollers."""
    from ministack.services import lambda_svc  # noqa: PLC0415 - the extra
    from ministack.services.cloudformation import provisioners  # noqa: PLC0415 - the extra

    from taskq_lib.local import mends  # noqa: PLC0415 - imports the extra

    monkeypatch.setattr(lambda_svc, "_ensure_poller", lambda: None)
    handlers = provisioners._RESOURCE_HANDLERS
    for kind in ("AWS::Lambda::EventSourceMapping", "AWS::Lambda::Function"):
        monkeypatch.setitem(handlers, kind, dict(handlers[kind]))

    def create() -> dict[str, Any]:
        source = "arn:aws:sqs:us-east-1:000000000000:q"
        properties = {"FunctionName": "f", "EventSourceArn": source, "ScalingConfig": {"MaximumConcurrency": "2"}}
        properties["ProvisionedPollerConfig"] = {"MinimumPollers": "2", "MaximumPollers": "4"}
        mapping, _ = handlers["AWS::Lambda::EventSourceMapping"]["create"]("Mapping", properties, "s")
        made: dict[str, Any] = lambda_svc._esms.pop(mapping)
        return made

    def reserve() -> int | None:
        name, _ = handlers["AWS::Lambda::Function"]["create"]("F", {"ReservedConcurrentExecutions": "3"}, "s")
        made: int | None = lambda_svc._functions.pop(name)["concurrency"]
        return made

    alone = create()
    assert lambda_svc._sqs_esm_concurrency(alone, {}, {}) == "2"
    assert ("ProvisionedPollerConfig" in alone, reserve()) == (False, None)
    mends.concurrency_of_stacks()
    mended = create()
    assert lambda_svc._sqs_esm_concurrency(mended, {}, {}) == 2
    assert mended["ProvisionedPollerConfig"] == {"MinimumPollers": 2, "MaximumPollers": 4}
    assert reserve() == 3
