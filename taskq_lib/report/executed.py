"""Executed notebooks as HTML to share: outputs and prose, no code, nothing that runs, and no secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter
from nbformat import v4

from taskq_lib.report import scrub
from taskq_lib.report.runs import Run

#: The forms of an output that are shown: what may run, such as JavaScript or SVG, is not among them.
_SHOWN = ("text/html", "image/png", "text/plain")


@dataclass(frozen=True, kw_only=True)
class Page:
    """One executed notebook as HTML."""

    name: str  #: The executed notebook's name without its ending, such as 40_latency or, its second time, 40_latency-2
    title: str
    body: str  #: Escaped by nbconvert
    mark: str = ""  #: How it ended, and whether it acted: failed, interrupted, dry run, acted; empty where it only read
    started_at: str = ""  #: ISO 8601, by papermill

    @property
    def notebook(self) -> str:
        """The name of the notebook that was run."""
        return self.name.partition("-")[0]

    @property
    def order(self) -> tuple[str, str, int]:
        """By notebook, then by time; by number where no time is known."""
        return self.notebook, self.started_at, int(self.name.partition("-")[2] or 1)


def page_of(executed: Path, clean: Callable[[str], str]) -> Page:
    """Render an executed notebook: outputs and prose, no code and no prompts, and every text cleaned.

    Text outputs are escaped by nbconvert, tables by `show`; the page asks nothing of the network.
    """
    notebook = _read(executed, clean)
    mark = _mark(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _settled(cell.outputs)
    body, _resources = _exporter().from_notebook_node(notebook)
    # Several notebooks share one page, where an id may stand once; links of headings to themselves go with them.
    body = re.sub(r'(<h[1-6]) id="[^"]*"| id="cell-id=[^"]*"', r"\1", body)
    body = re.sub(r'<a class="anchor-link"[^>]*>.*?</a>', "", body)
    body = body.replace("papermill-error-cell", f"{executed.stem}-error")
    # Of all that HTML of a foreign notebook may hold, this alone the page's policy cannot forbid: it leads elsewhere.
    body = re.sub(r"<(?=meta\b)", "&lt;", body, flags=re.IGNORECASE)
    # What lies outside the run's folder is not there for who gets the page.
    body = re.sub(r'<a href="\.\./[^"]*">(.*?)</a>', r"\1", body)
    return Page(
        name=executed.stem,
        title=_title(notebook, executed.stem),
        body=body,
        mark=mark,
        started_at=notebook.metadata.get("papermill", {}).get("start_time") or "",
    )


@cache
def _exporter() -> Any:
    """Return what makes HTML of a notebook; one for all, since it compiles its templates once."""
    return HTMLExporter(  # type: ignore[no-untyped-call]
        template_name="basic", exclude_input=True, exclude_input_prompt=True, exclude_output_prompt=True
    )


def _read(executed: Path, clean: Callable[[str], str]) -> Any:
    """Read a notebook without its secrets, which are taken out of the file as well, for good."""
    # Read as nbformat does it, texts are whole: in the file each line stands alone, and a key has several.
    try:
        held = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(held)
    # Of a foreign file nbformat raises whatever its shape leads to.
    except (nbformat.ValidationError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise Run(id=executed.parent.name, folder=executed.parent).damaged(executed.name, error) from error
    cleaned = nbformat.from_dict(scrub.tree(held, clean))  # type: ignore[no-untyped-call]
    if cleaned != held:
        partial = executed.with_name(f"{executed.name}.partial")
        nbformat.write(cleaned, partial)  # type: ignore[no-untyped-call]
        partial.replace(executed)
    return cleaned


def printed(executed: Path) -> str:
    """Return what an executed notebook printed, without its progress bars; nothing where it was not begun."""
    if not executed.is_file():
        return ""
    notebook = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.text.strip("\n") for output in outputs if output.get("name") == "stdout"]
    return "".join(f"{text}\n" for text in texts if text)


def _settled(outputs: Sequence[Any]) -> list[Any]:
    """Join a cell's pieces of one stream, and leave of each line what a terminal would: a progress bar's last state.

    Of an interrupt its traceback tells nothing.
    """
    joined: dict[str, Any] = {}
    settled: list[Any] = []
    for output in outputs:
        name = output.get("name", "")
        if output.get("ename") == "KeyboardInterrupt":
            settled.append(v4.new_output("stream", name="stderr", text="interrupted"))  # type: ignore[no-untyped-call]
        elif output.output_type != "stream":
            settled += _shown(output)
        elif name in joined:
            joined[name].text += output.text
        else:
            joined[name] = output
            settled.append(output)
    for output in joined.values():
        output.text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in output.text.split("\n"))
    return [output for output in settled if output.output_type != "stream" or output.text.strip()]


def _shown(output: Any) -> list[Any]:
    """Leave an output the forms that are shown; of one that has none, nothing."""
    if "data" in output:
        output.data = {form: output.data[form] for form in _SHOWN if form in output.data}
    return [output] if output.get("data", True) else []


def _mark(notebook: Any) -> str:
    """Say how a notebook ended or, where it may act, whether it did."""
    ran = notebook.metadata.get("papermill", {})
    raised = [output.ename for cell in notebook.cells for output in cell.get("outputs", []) if "ename" in output]
    if "KeyboardInterrupt" in raised or (ran and not ran.get("end_time")):
        return "interrupted"
    if raised or ran.get("exception"):
        return "failed"
    noted = [cell.metadata["papermill"] for cell in notebook.cells if "papermill" in cell.metadata]
    # Interrupted between two cells, papermill calls the rest completed all the same.
    if not all(cell.get("end_time") for cell in noted):
        return "interrupted"
    declared = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if not any(re.search(r"^dry_run =", source, re.MULTILINE) for source in declared):
        return ""
    # All that may act are dry runs unless told otherwise.
    return "dry run" if ran.get("parameters", {}).get("dry_run", True) else "acted"


def _title(notebook: Any, name: str) -> str:
    """Return the notebook's first heading."""
    for cell in notebook.cells:
        first = cell.source.splitlines()[0] if cell.source else ""
        if cell.cell_type == "markdown" and first.startswith("# "):
            return str(first.removeprefix("# ").strip())
    return name
