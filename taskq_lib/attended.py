"""Whether a person looks on: progress bars and forms are for them alone."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def shell() -> InteractiveShell | None:
    """Return the IPython that runs this code; None in a program."""
    # A command has no use for it, and it takes a while to load.
    ipython = sys.modules.get("IPython")
    found: InteractiveShell | None = ipython.get_ipython() if ipython else None
    return found


def is_attended() -> bool:
    """Whether this is a notebook with somebody before it: in JupyterLab yes, under papermill or nbconvert no.

    With each cell a front end says whether it can ask its user something (`allow_stdin`, Jupyter's messaging protocol).
    """
    kernel = getattr(shell(), "kernel", None)
    if kernel is None:
        return False
    return bool(kernel.get_parent("shell").get("content", {}).get("allow_stdin", False))


def bar(total: int, unit: str, desc: str, *, initial: int = 0, progress: bool = True) -> tqdm[Any]:
    """Return a progress bar: a widget where somebody looks on, else a line of text; none without `progress`.

    A widget is drawn by its kernel, and would be empty in a page that is written from the notebook.
    """
    kind: type[tqdm[Any]] = tqdm
    if progress and is_attended():
        # Widgets take a while to load.
        kind = importlib.import_module("tqdm.notebook").tqdm
    return kind(total=total, initial=initial, unit=unit, desc=desc, disable=not progress)
