"""Open JupyterLab on the notebooks, with the embedded engine up until it is closed."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

from taskq_lib.local import engine
from taskq_lib.report.chain import NOTEBOOKS

#: What is opened first: the notebooks by intent, and the state of things.
START = f"{NOTEBOOKS.name}/01_start.ipynb"
#: By default JupyterLab asks its makers for news, the package index for a newer version, and that for extensions.
_QUIET = (
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--no-browser", action="store_true", help="print the address instead of opening it")


def run(args: argparse.Namespace) -> int:
    """Run JupyterLab on this machine's loopback address, where its own token guards it."""
    command = [sys.executable, "-m", "jupyterlab", *_QUIET, "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.root_dir={NOTEBOOKS.parent}", f"--LabApp.default_url=/lab/tree/{START}"]
    command += ["--no-browser"] * args.no_browser
    # In a container one is root, and the server is this machine's own either way.
    command += ["--allow-root"] * (os.geteuid() == 0)
    with engine.running() as up:
        print(f'the embedded engine is up at {up.endpoint_url}; the notebooks use it with target = "local"', flush=True)
        server = subprocess.Popen(command)
        # A terminal's Ctrl-C reaches JupyterLab as well, which asks whether it is meant and ends its kernels.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            return server.wait()
        finally:
            server.terminate()
            server.wait()
