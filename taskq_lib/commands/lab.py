"""Open JupyterLab on the notebooks, with the embedded engine up until it is closed."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from taskq_lib.local import engine
from taskq_lib.report.chain import NOTEBOOKS

#: What is opened first: the notebooks by intent, and the state of things.
START = f"{NOTEBOOKS.name}/01_start.ipynb"
#: JupyterLab gives its kernels 5 s to end.
SHUTDOWN_S = 15.0
#: Holds `labconfig/page_config.json`, by which JupyterLab asks its makers for no news and no newer version.
_CONFIGURATION = Path(__file__).parent
_OPTIONS = ("--ServerApp.ip=127.0.0.1", "--LabApp.extension_manager=readonly")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")


def run(args: argparse.Namespace) -> int:
    """Run JupyterLab on this machine's loopback address, where its own token guards it."""
    command = [sys.executable, "-m", "jupyterlab", *_OPTIONS]
    command += [f"--ServerApp.root_dir={NOTEBOOKS.parent}", f"--LabApp.default_url=/lab/tree/{START}"]
    command += ["--no-browser"] * args.no_browser
    # In a container one is root, and the server is this machine's own either way.
    command += ["--allow-root"] * (os.geteuid() == 0)
    with engine.running() as up:
        print(f'the embedded engine is up at {up.endpoint_url}; the notebooks use it with target = "local"', flush=True)
        server = subprocess.Popen(command, env=os.environ | {"JUPYTER_CONFIG_PATH": _paths()})
        # A terminal's Ctrl-C reaches JupyterLab as well, which asks whether it is meant and ends its kernels.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return server.wait()
        finally:
            end(server)


def end(server: subprocess.Popen[bytes]) -> None:
    """End JupyterLab; told to while it starts a kernel it may wait for ever. Kernels end when it is gone."""
    server.terminate()
    try:
        server.wait(SHUTDOWN_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _paths() -> str:
    """Return where JupyterLab looks for what it is to be, a user's own folders first."""
    return os.pathsep.join([*filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")]), str(_CONFIGURATION)])
