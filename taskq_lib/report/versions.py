"""What made a result: versions of the kit, its code and template, and of the libraries under it."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from importlib import metadata

from taskq_lib import PROJECT_ROOT
from taskq_lib.aws import package, template

_LIBRARIES = ("boto3", "botocore", "matplotlib", "ministack", "pandas", "papermill")


def versions() -> dict[str, str]:
    """Return name -> version: `taskq`, `commit`, `function_code`, `template`, `python`, `platform` and libraries."""
    return {
        "taskq": metadata.version("taskq"),
        "commit": _commit(),
        "function_code": package.digest(package.build()),
        "template": hashlib.sha256(template.TEMPLATE.read_bytes()).hexdigest()[:16],
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        **{name: metadata.version(name) for name in _LIBRARIES if _installed(name)},
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _commit() -> str:
    """Return the checkout's commit, marked where files differ from it; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
